"""How the containers behind endpoints speak: vLLM or LMI's chat completions, TGI's tokens, JumpStart's lists."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from router.doubles.aws.call import AwsError, Json
from router.doubles.aws.models import Answer

_TEXT_FIELDS = frozenset({"inputs", "parameters", "stream"})
_PARAMETERS = frozenset(
    {"max_new_tokens", "do_sample", "temperature", "top_p", "top_k", "stop", "return_full_text", "details", "seed"}
)
_FINISH = {"max_tokens": "length"}
_TEXT_FINISH = {"max_tokens": "length", "error": "error"}


def read_body(payload: str, body: bytes) -> Json:
    """The request as the container reads it; `AwsError` ModelError where it would refuse it."""
    try:
        asked: Json = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise model_error(400, "the body is not a JSON object") from None
    if payload == "openai":
        if not isinstance(asked.get("messages"), list) or not asked["messages"]:
            raise model_error(400, "messages: field required")
        if "model" in asked:
            raise model_error(404, f"The model `{asked['model']}` does not exist.")
        return asked
    unknown = sorted((set(asked) - _TEXT_FIELDS) | (set(asked.get("parameters", ())) - _PARAMETERS))
    if not asked.get("inputs") or unknown:
        raise model_error(422, f"unknown fields: {unknown}" if unknown else "`inputs` cannot be empty")
    top_p, temperature = asked["parameters"].get("top_p"), asked["parameters"].get("temperature")
    if top_p is not None and not 0.0 < top_p < 1.0:
        raise model_error(422, "`top_p` must be > 0.0 and < 1.0")
    if temperature is not None and temperature <= 0.0:
        raise model_error(422, "`temperature` must be strictly positive")
    return asked


def limit_of(asked: Json) -> int:
    """Most tokens that an answer may have."""
    given = [asked.get("max_completion_tokens"), asked.get("max_tokens")]
    given.append(asked.get("parameters", {}).get("max_new_tokens"))
    return next((limit for limit in given if isinstance(limit, int)), sys.maxsize)


def model_error(status: int, message: str) -> AwsError:
    """What SageMaker answers when the container refused."""
    said = f'Received client error ({status}) from primary with message "{message}".'
    return AwsError("ModelError", said, fields={"OriginalStatusCode": status, "OriginalMessage": message})


def chat(answer: Answer, input_tokens: int) -> bytes:
    """A complete chat completion."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(answer.pieces)},
        "logprobs": None,
        "finish_reason": _FINISH.get(answer.stop_reason, "stop"),
    }
    return msgspec.json.encode(
        {"object": "chat.completion", "choices": [choice], "usage": _usage(answer, input_tokens)}
    )


def chat_chunks(answer: Answer, input_tokens: int) -> Iterator[Json]:
    """A chat completion in chunks: one a piece, the finish reason, the usage."""
    for number, piece in enumerate(answer.pieces):
        said = {"content": piece} if number else {"role": "assistant", "content": piece}
        yield _chunk([{"index": 0, "delta": said, "finish_reason": None}])
    finish = _FINISH.get(answer.stop_reason, "stop")
    yield _chunk([{"index": 0, "delta": {}, "finish_reason": finish}])
    yield {**_chunk([]), "usage": _usage(answer, input_tokens)}


def generated(answers: Sequence[Answer], prompts: Sequence[str], *, details: bool) -> bytes:
    """What a text container answers as a whole: a list. A prompt of more than nothing goes before its answer."""
    rows = []
    for answer, prompt in zip(answers, prompts, strict=True):
        row: Json = {"generated_text": prompt + "".join(answer.pieces)}
        if details:
            row["details"] = _details(answer)
        rows.append(row)
    return msgspec.json.encode(rows)


def tokens(answer: Answer, *, details: bool) -> Iterator[Json]:
    """A generation token by token; the last event holds the end of it."""
    for number, piece in enumerate(answer.pieces):
        yield _token(number, piece)
    end: Json = {"generated_text": "".join(answer.pieces)}
    if details:
        counted = {} if answer.input_tokens is None else {"input_length": answer.input_tokens}
        end["details"] = _details(answer) | counted
    yield _token(len(answer.pieces), "</s>", special=True) | end


def _token(number: int, text: str, *, special: bool = False) -> Json:
    token = {"id": number, "text": text, "logprob": -0.1, "special": special}
    return {"index": number + 1, "token": token, "generated_text": None, "details": None}


def _details(answer: Answer) -> Json:
    count = len(answer.pieces) if answer.output_tokens is None else answer.output_tokens
    finish = _TEXT_FINISH.get(answer.stop_reason, "eos_token")
    return {"finish_reason": finish, "generated_tokens": count, "seed": None}


def _chunk(choices: list[Json]) -> Json:
    return {"object": "chat.completion.chunk", "choices": choices}


def _usage(answer: Answer, input_tokens: int) -> Json:
    count = len(answer.pieces) if answer.output_tokens is None else answer.output_tokens
    read = input_tokens if answer.input_tokens is None else answer.input_tokens
    usage: Json = {"prompt_tokens": read, "completion_tokens": count, "total_tokens": read + count}
    if answer.cache_read_tokens is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": answer.cache_read_tokens}
    return usage
