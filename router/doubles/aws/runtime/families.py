"""The bodies of InvokeModel, family by family: which prompt they hold, and the answer in their spelling.

Sources: AWS, "Inference request parameters and response fields for foundation models", one page a family.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from router.doubles.aws.call import AwsError, Json
from router.doubles.aws.models import Answer, Model
from router.doubles.aws.runtime import anthropic
from router.doubles.aws.runtime.converse import block_events, usage, whole_content
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
    """`limit` is where a body says the most tokens it wants, `needs` what it must have; `first`, `blocks` and `last`
    give the chunks of a stream, each of the `blocks` with whether it is a piece of the answer."""

    limit: tuple[str, ...]
    needs: str
    whole: Callable[[Serving], Json]
    blocks: Callable[[Serving], Iterator[tuple[bool, Json]]]
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


def _texts(piece: Callable[[Serving, str, int], Json]) -> Callable[[Serving], Iterator[tuple[bool, Json]]]:
    """Of a family that says nothing but text, a chunk a piece."""
    return lambda serving: ((True, piece(serving, text, i)) for i, text in enumerate(serving.answer.pieces))


def _text(answer: Answer) -> str:
    return "".join(answer.pieces)


def _stopped(serving: Serving, cut: str, done: str) -> str:
    return cut if serving.answer.stop_reason == "max_tokens" else done


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


def _nova_blocks(serving: Serving) -> Iterator[tuple[bool, Json]]:
    return ((name == "contentBlockDelta", {name: body}) for name, body in block_events(serving))


def _nova_last(serving: Serving) -> Sequence[Json]:
    return (
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
    message: Json = {"role": "assistant", "content": _text(serving.answer)}
    if serving.answer.tools:
        message["tool_calls"] = [call for _, call in _openai_tools(serving.answer)]
    choice = {"message": message, "finish_reason": _openai_finish(serving)}
    return {**_openai_chunk(serving, choice, "chat.completion"), "usage": _openai_usage(serving)}


def _openai_tools(answer: Answer) -> Iterator[tuple[int, Json]]:
    for index, tool in enumerate(answer.tools):
        called = {"name": tool.name, "arguments": "".join(tool.arguments)}
        yield index, {"id": tool.id, "type": "function", "function": called}


def _openai_blocks(serving: Serving) -> Iterator[tuple[bool, Json]]:
    deltas: list[Json] = [{"content": text} for text in serving.answer.pieces]
    deltas += [{"tool_calls": [{"index": index, **call}]} for index, call in _openai_tools(serving.answer)]
    for index, delta in enumerate(deltas):
        said = delta if index else {"role": "assistant", **delta}
        yield True, _openai_chunk(serving, {"delta": said, "finish_reason": None}, "chat.completion.chunk")


def _openai_finish(serving: Serving) -> str:
    return "tool_calls" if serving.answer.tools else _stopped(serving, "length", "stop")


def _openai_last(serving: Serving) -> Sequence[Json]:
    choice = {"delta": {}, "finish_reason": _openai_finish(serving)}
    return ({**_openai_chunk(serving, choice, "chat.completion.chunk"), "usage": _openai_usage(serving)},)


FAMILIES: dict[str, Family] = {
    "anthropic": Family(
        ("max_tokens",), "messages", anthropic.whole, anthropic.blocks, anthropic.first, anthropic.last
    ),
    "llama": Family(("max_gen_len",), "prompt", _llama, _texts(_llama_piece), last=_llama_last),
    "mistral": Family(
        ("max_tokens",),
        "prompt",
        _mistral,
        _texts(lambda _, text, __: {"outputs": [{"text": text, "stop_reason": None}]}),
        last=_mistral_last,
    ),
    "titan": Family(
        ("textGenerationConfig.maxTokenCount",), "inputText", _titan, _texts(_titan_piece), last=_titan_last
    ),
    "nova": Family(
        ("inferenceConfig.maxTokens", "inferenceConfig.max_new_tokens"),
        "messages",
        _nova,
        _nova_blocks,
        lambda _: ({"messageStart": {"role": "assistant"}},),
        _nova_last,
    ),
    "openai": Family(("max_completion_tokens", "max_tokens"), "messages", _openai, _openai_blocks, last=_openai_last),
}
"""How each family's bodies are spelled."""
