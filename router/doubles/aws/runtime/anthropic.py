"""An answer in the Messages API, as Claude's models give it by InvokeModel, whole and in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from router.doubles.aws.call import Json
from router.doubles.aws.runtime.converse import whole_content
from router.doubles.aws.runtime.serving import Serving


def whole(serving: Serving) -> Json:
    """A complete message."""
    return {
        "id": "msg_bdrk_double",
        "type": "message",
        "role": "assistant",
        "model": serving.place.model.id,
        "content": [_block(block) for block in whole_content(serving)],
        "stop_reason": serving.answer.stop_reason,
        "stop_sequence": None,
        "usage": _usage(serving, serving.made),
    }


def first(serving: Serving) -> Sequence[Json]:
    """Before any block."""
    message = {**whole(serving), "content": [], "stop_reason": None, "usage": _usage(serving, 1)}
    return ({"type": "message_start", "message": message},)


def blocks(serving: Serving) -> Iterator[tuple[bool, Json]]:
    """The chunks between the first and the last, and whether each is a piece of the answer."""
    answer = serving.answer
    index = 0
    for kind, texts in (("thinking", answer.reasoning), ("text", answer.pieces)):
        if texts:
            deltas = [{"type": f"{kind}_delta", kind: text} for text in texts]
            yield from _streamed(index, {"type": kind, kind: ""}, deltas)
            index += 1
    for tool in answer.tools:
        begun = {"type": "tool_use", "id": tool.id, "name": tool.name, "input": {}}
        yield from _streamed(index, begun, [{"type": "input_json_delta", "partial_json": t} for t in tool.arguments])
        index += 1


def last(serving: Serving) -> Sequence[Json]:
    """How it ended."""
    stop = {"stop_reason": serving.answer.stop_reason, "stop_sequence": None}
    return (
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": serving.made}},
        {"type": "message_stop"},
    )


def _block(block: Json) -> Json:
    if "reasoningContent" in block:
        return {"type": "thinking", "thinking": block["reasoningContent"]["reasoningText"]["text"], "signature": "x"}
    if "toolUse" in block:
        use = block["toolUse"]
        return {"type": "tool_use", "id": use["toolUseId"], "name": use["name"], "input": use["input"]}
    return {"type": "text", "text": block["text"]}


def _streamed(index: int, begun: Json, deltas: Sequence[Json]) -> Iterator[tuple[bool, Json]]:
    yield False, {"type": "content_block_start", "index": index, "content_block": begun}
    for delta in deltas:
        yield True, {"type": "content_block_delta", "index": index, "delta": delta}
    yield False, {"type": "content_block_stop", "index": index}


def _usage(serving: Serving, output: int) -> Json:
    split = serving.split
    return {
        "input_tokens": split.fresh,
        "cache_creation_input_tokens": split.written,
        "cache_read_input_tokens": split.read,
        "output_tokens": output,
    }
