"""The bodies of InvokeModel, family by family: which prompt they hold, and the answer in their spelling.

Sources: AWS, "Inference request parameters and response fields for foundation models", one page a family.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from msgspec import Struct

from router.doubles.aws.call import AwsError, Json
from router.doubles.aws.models import Answer, Model
from router.doubles.aws.runtime.converse import usage, whole_content
from router.doubles.aws.runtime.prompt import Prompt, read_prompt
from router.doubles.aws.runtime.serving import Serving

_NAMES = (
    (re.compile(r"anthropic|claude"), "anthropic"),
    (re.compile(r"\bnova\b"), "nova"),
    (re.compile(r"titan"), "titan"),
    (re.compile(r"mistral|mixtral"), "mistral"),
    (re.compile(r"openai|gpt|qwen|deepseek"), "openai"),
)


class Family(Struct, frozen=True):
    """`limit` is where a body says the most tokens it wants, `needs` what it must have; `piece` and `last` give the
    chunks of a stream, `first` those before any text."""

    limit: tuple[str, ...]
    needs: str
    whole: Callable[[Serving], Json]
    piece: Callable[[Serving, str, int], Json]
    first: Callable[[Serving], Sequence[Json]] = lambda _: ()
    last: Callable[[Serving], Sequence[Json]] = lambda _: ()


def family_of(model: Model, model_id: str) -> str:
    """Whose spelling a model takes."""
    if model.family is not None:
        return model.family
    name = f"{model.id} {model_id}".lower()
    return next((family for pattern, family in _NAMES if pattern.search(name)), "llama")


def read_invocation(family: str, body: Json) -> Prompt:
    """The prompt of a body; `AwsError` ValidationException where it is not of this family."""
    shape = FAMILIES[family]
    if shape.needs not in body:
        raise AwsError("ValidationException", f"Malformed input request: #: required key [{shape.needs}] not found")
    if family == "anthropic" and ("max_tokens" not in body or "anthropic_version" not in body):
        raise AwsError("ValidationException", "max_tokens and anthropic_version: Field required")
    found: list[object] = []
    for path in shape.limit:
        value: object = body
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        found.append(value)
    limit = next((value for value in found if isinstance(value, int)), None)
    return read_prompt(body, limit)


def chunk_metrics(serving: Serving, first_ms: int) -> Json:
    """What Bedrock adds to the last chunk of every family."""
    metrics: Json = {
        "inputTokenCount": serving.split.fresh,
        "outputTokenCount": serving.made,
        "invocationLatency": serving.elapsed_ms(),
        "firstByteLatency": first_ms,
    }
    if serving.split.read or serving.split.written:
        metrics["cacheReadInputTokenCount"] = serving.split.read
        metrics["cacheWriteInputTokenCount"] = serving.split.written
    return {"amazon-bedrock-invocationMetrics": metrics}


def _text(answer: Answer) -> str:
    return "".join(answer.pieces)


def _stopped(serving: Serving, cut: str, done: str) -> str:
    return cut if serving.answer.stop_reason == "max_tokens" else done


def _anthropic_usage(serving: Serving, output: int) -> Json:
    split = serving.split
    return {
        "input_tokens": split.fresh,
        "cache_creation_input_tokens": split.written,
        "cache_read_input_tokens": split.read,
        "output_tokens": output,
    }


def _anthropic(serving: Serving) -> Json:
    return {
        "id": "msg_bdrk_double",
        "type": "message",
        "role": "assistant",
        "model": serving.place.model.id,
        "content": [
            {"type": "text", "text": block["text"]}
            if "text" in block
            else {
                "type": "tool_use",
                "id": block["toolUse"]["toolUseId"],
                "name": block["toolUse"]["name"],
                "input": block["toolUse"]["input"],
            }
            for block in whole_content(serving)
            if "reasoningContent" not in block
        ],
        "stop_reason": serving.answer.stop_reason,
        "stop_sequence": None,
        "usage": _anthropic_usage(serving, serving.made),
    }


def _anthropic_first(serving: Serving) -> Sequence[Json]:
    message = {**_anthropic(serving), "content": [], "stop_reason": None, "usage": _anthropic_usage(serving, 1)}
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    return ({"type": "message_start", "message": message}, start)


def _anthropic_last(serving: Serving) -> Sequence[Json]:
    stop = {"stop_reason": serving.answer.stop_reason, "stop_sequence": None}
    return (
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": serving.made}},
        {"type": "message_stop"},
    )


def _llama(serving: Serving) -> Json:
    return {
        "generation": _text(serving.answer),
        "prompt_token_count": serving.split.fresh,
        "generation_token_count": serving.made,
        "stop_reason": _stopped(serving, "length", "stop"),
    }


def _llama_piece(serving: Serving, text: str, index: int) -> Json:
    given = serving.split.fresh if index == 0 else None
    return {"generation": text, "prompt_token_count": given, "generation_token_count": index + 1, "stop_reason": None}


def _llama_last(serving: Serving) -> Sequence[Json]:
    stop = _stopped(serving, "length", "stop")
    return (
        {"generation": "", "prompt_token_count": None, "generation_token_count": serving.made, "stop_reason": stop},
    )


def _mistral(serving: Serving) -> Json:
    return {"outputs": [{"text": _text(serving.answer), "stop_reason": _stopped(serving, "length", "stop")}]}


def _mistral_last(serving: Serving) -> Sequence[Json]:
    return ({"outputs": [{"text": "", "stop_reason": _stopped(serving, "length", "stop")}]},)


def _titan(serving: Serving) -> Json:
    reason = _stopped(serving, "LENGTH", "FINISH")
    result = {"tokenCount": serving.made, "outputText": _text(serving.answer), "completionReason": reason}
    return {"inputTextTokenCount": serving.split.fresh, "results": [result]}


def _titan_piece(serving: Serving, text: str, index: int) -> Json:
    return {
        "outputText": text,
        "index": index,
        "totalOutputTextTokenCount": None,
        "completionReason": None,
        "inputTextTokenCount": serving.split.fresh if index == 0 else None,
    }


def _titan_last(serving: Serving) -> Sequence[Json]:
    return (
        {
            "outputText": "",
            "index": len(serving.answer.pieces),
            "totalOutputTextTokenCount": serving.made,
            "completionReason": _stopped(serving, "LENGTH", "FINISH"),
            "inputTextTokenCount": None,
        },
    )


def _nova(serving: Serving) -> Json:
    message = {"role": "assistant", "content": whole_content(serving)}
    return {"output": {"message": message}, "stopReason": serving.answer.stop_reason, "usage": usage(serving)}


def _nova_last(serving: Serving) -> Sequence[Json]:
    return (
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"messageStop": {"stopReason": serving.answer.stop_reason}},
        {"metadata": {"usage": usage(serving), "metrics": {}, "trace": {}}},
    )


def _openai_chunk(serving: Serving, choice: Json, kind: str) -> Json:
    head = {"id": "chatcmpl-double", "object": kind, "created": int(serving.world.at())}
    return {**head, "model": serving.place.model.id, "choices": [{"index": 0, **choice}]}


def _openai_usage(serving: Serving) -> Json:
    given = serving.split.fresh + serving.split.read + serving.split.written
    return {"prompt_tokens": given, "completion_tokens": serving.made, "total_tokens": given + serving.made}


def _openai(serving: Serving) -> Json:
    message = {"role": "assistant", "content": _text(serving.answer)}
    choice = {"message": message, "finish_reason": _stopped(serving, "length", "stop")}
    return {**_openai_chunk(serving, choice, "chat.completion"), "usage": _openai_usage(serving)}


def _openai_piece(serving: Serving, text: str, index: int) -> Json:
    delta = {"content": text} if index else {"role": "assistant", "content": text}
    return _openai_chunk(serving, {"delta": delta, "finish_reason": None}, "chat.completion.chunk")


def _openai_last(serving: Serving) -> Sequence[Json]:
    choice = {"delta": {}, "finish_reason": _stopped(serving, "length", "stop")}
    return ({**_openai_chunk(serving, choice, "chat.completion.chunk"), "usage": _openai_usage(serving)},)


FAMILIES: dict[str, Family] = {
    "anthropic": Family(
        ("max_tokens",),
        "messages",
        _anthropic,
        lambda _, text, __: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        _anthropic_first,
        _anthropic_last,
    ),
    "llama": Family(("max_gen_len",), "prompt", _llama, _llama_piece, last=_llama_last),
    "mistral": Family(
        ("max_tokens",),
        "prompt",
        _mistral,
        lambda _, text, __: {"outputs": [{"text": text, "stop_reason": None}]},
        last=_mistral_last,
    ),
    "titan": Family(("textGenerationConfig.maxTokenCount",), "inputText", _titan, _titan_piece, last=_titan_last),
    "nova": Family(
        ("inferenceConfig.maxTokens", "inferenceConfig.max_new_tokens"),
        "messages",
        _nova,
        lambda _, text, __: {"contentBlockDelta": {"delta": {"text": text}, "contentBlockIndex": 0}},
        lambda _: ({"messageStart": {"role": "assistant"}},),
        _nova_last,
    ),
    "openai": Family(("max_completion_tokens", "max_tokens"), "messages", _openai, _openai_piece, last=_openai_last),
}
"""How each family's bodies are spelled."""
