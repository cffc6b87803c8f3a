"""Reading what upstreams answer, putting pieces together, and writing what senders get."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.domain.errors import BackendError, Overloaded, ProtocolError, Refused, Rejected, RequestError, Throttled
from router.domain.outcome import Delta, Receipt, Reply, Usage
from router.domain.request import Request
from router.wire.openai import (
    Envelope,
    ToolCallPiece,
    assemble,
    completion_body,
    debug_fields,
    delta_choices,
    error_body,
    error_of,
    read_chunk,
    read_request,
    read_response,
    receipt_fields,
    whole_choices,
)
from router.wire.openai.stream import ChunkWriter

RECEIPT = Receipt('d"1', "small-0", "llama", "p0", 2, 1.25e-7, 0.0015)


def request(**fields: Any) -> Request:
    body = {"messages": [{"role": "user", "content": "hi"}], **fields}
    return read_request(json.dumps(body).encode(), Envelope(id="r1", arrived=0.0, at=0.0, source="test"))


def chunk(*choices: dict[str, Any], **more: Any) -> Delta:
    return read_chunk(json.dumps({"id": "x", "choices": choices, "model": "served", **more}).encode())


def said(text: str | None, finish_reason: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"index": index, "delta": {"content": text, **more}, "finish_reason": finish_reason}


def test_chunk_keeps_its_choices_as_they_came() -> None:
    """The choices of a chunk travel byte for byte, beside what is read of them."""
    body = b'{"choices": [ {"index":0, "delta":{"content":" hi","x":1.50},"finish_reason":"stop"} ], "model":"m"}'
    delta = read_chunk(body)
    assert delta.choices == b'[ {"index":0, "delta":{"content":" hi","x":1.50},"finish_reason":"stop"} ]'
    assert (delta.tokens, delta.finish_reason, delta.served_model, delta.whole) == (1, "stop", "m", False)


@pytest.mark.parametrize(
    ("choice", "tokens"),
    [
        (said(""), 0),
        (said(None), 0),
        (said(" internationally"), 1),
        (said("x" * 36), 10),
        (said(None, reasoning_content="hm"), 1),
        (said(None, reasoning="hm"), 1),
        (said(None, refusal="no"), 1),
        (said(None, tool_calls=[{"index": 0, "function": {"name": "f", "arguments": ""}}]), 1),
        (said(None, tool_calls=[{"index": 0, "id": "1"}]), 0),
    ],
)
def test_tokens_of_a_piece(choice: dict[str, Any], tokens: int) -> None:
    """A piece with anything in it is one token, a long one as many as its text has; an empty one is none."""
    assert chunk(choice).tokens == tokens


def test_usage_chunk_has_usage_and_no_choices() -> None:
    """The chunk that include_usage brings carries tokens, cached ones among the input."""
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}}
    assert chunk(usage=usage).usage == Usage(9, 4, 3)
    assert chunk(usage=usage).choices == b"[]"
    assert read_chunk(b'{"usage":{"prompt_tokens":1,"completion_tokens":2}}').usage == Usage(1, 2)
    assert chunk(said("x"), usage=None).usage is None


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"{}", b"\xff", b'{"choices":5}', b'{"choices":[5]}', b'{"choices":[{"delta":{"content":5}}]}'],
)
def test_chunk_that_is_none(data: bytes) -> None:
    """What cannot be read as a chunk is a ProtocolError."""
    with pytest.raises(ProtocolError):
        read_chunk(data)


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_are_a_chunk_or_a_backend_error(data: bytes) -> None:
    """No bytes make the chunk or response reader fail in any other way."""
    for reader in (read_chunk, read_response):
        try:
            reader(data)
        except BackendError as error:
            assert error.message  # noqa: PT017  # may be raised, need not


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "slow down", "type": "rate_limit_error", "code": None}, Throttled),
        ({"message": "slow down", "code": 429}, Throttled),
        ({"message": "no credit", "type": "insufficient_quota"}, Throttled),
        ({"message": "later", "code": "503"}, Overloaded),
        ({"message": "later", "type": "overloaded_error"}, Overloaded),
        ({"message": "bad", "type": "BadRequestError", "code": 400, "param": "n"}, Refused),
        ({"message": "boom", "type": "InternalServerError", "code": 500}, BackendError),
        ("boom", BackendError),
        ({"code": {}}, ProtocolError),
    ],
)
def test_error_in_a_stream_is_mapped(error: object, kind: type) -> None:
    """An error object where a chunk was due becomes the router's error of its kind, with its message."""
    with pytest.raises(BackendError) as caught:
        read_chunk(json.dumps({"error": error}).encode())
    assert type(caught.value) is kind
    if isinstance(error, dict) and "message" in error:
        assert caught.value.message == error["message"]
    assert type(error_of(json.dumps(error).encode())) is kind


def test_response_is_read_whole() -> None:
    """A complete response carries its choices as they came, its usage, and the tokens it reports."""
    body = {"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "length"}], "model": "m"}
    usage = {"prompt_tokens": 3, "completion_tokens": 8}
    delta = read_response(json.dumps({**body, "usage": usage}).encode())
    assert (delta.whole, delta.tokens, delta.finish_reason, delta.usage) == (True, 8, "length", Usage(3, 8))
    assert json.loads(delta.choices) == body["choices"]
    body["choices"][0]["message"]["content"] = "x" * 36  # type: ignore[index]
    without = read_response(json.dumps(body).encode())
    assert (without.tokens, without.usage) == (10, None)


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"choices":[]}', b'{"choices":null}', b'{"choices":{}}'])
def test_response_that_is_none(body: bytes) -> None:
    """A body without choices is a ProtocolError."""
    with pytest.raises(ProtocolError):
        read_response(body)


texts = st.lists(st.text(max_size=8), min_size=1, max_size=8)


@settings(deadline=None)
@given(st.lists(texts, min_size=1, max_size=3))
def test_assembled_text_is_the_pieces_in_order(answers: list[list[str]]) -> None:
    """Of several choices, interleaved or not, each gets its own pieces, joined in order."""
    deltas = [chunk(said(piece, index=i)) for i, pieces in enumerate(answers) for piece in pieces]
    deltas.sort(key=lambda delta: len(delta.choices))
    by_index: dict[int, str] = {}
    for delta in deltas:
        (choice,) = json.loads(delta.choices)
        by_index[choice["index"]] = by_index.get(choice["index"], "") + choice["delta"]["content"]
    assembled = json.loads(assemble(deltas))
    assert {c["index"]: c["message"]["content"] for c in assembled} == by_index


def test_assembled_answer_has_everything_that_was_streamed() -> None:
    """Tool calls join by index, reasoning and logprobs grow, unknown fields survive, the end reason is kept."""
    calls = [
        [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}],
        [{"index": 0, "function": {"arguments": '{"a"'}}],
        [{"index": 1, "id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}}],
        [{"index": 0, "function": {"arguments": ":1}"}}],
    ]
    deltas = [chunk(said("", role="assistant", refusal=None))]
    deltas += [chunk(said(None, reasoning_content=text)) for text in ("hm", "m")]
    deltas += [chunk(said(None, tool_calls=call)) for call in calls]
    deltas.append(chunk({**said("x"), "logprobs": {"content": [{"token": "x", "logprob": -1}]}}))
    deltas.append(chunk({**said("y"), "logprobs": {"content": [{"token": "y", "logprob": -2}]}}))
    deltas += [chunk(said(None, "tool_calls", novelty=7)), chunk(usage={"prompt_tokens": 1})]
    (choice,) = json.loads(assemble(deltas))
    assert choice["finish_reason"] == "tool_calls"
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == ["x", "y"]
    assert choice["message"] == {
        "role": "assistant",
        "content": "xy",
        "refusal": None,
        "reasoning_content": "hmm",
        "novelty": 7,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
            {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }


def test_whole_answer_is_assembled_already() -> None:
    """A whole piece is the answer, byte for byte; of nothing comes nothing."""
    choices = whole_choices("hi", "stop")
    assert assemble([Delta(choices=choices, whole=True)]) == choices
    assert assemble([]) == b"[]"


def test_own_choices_read_like_any_upstreams() -> None:
    """Pieces made here for backends that are not OpenAI assemble to the whole made here."""
    pieces = [delta_choices(role=True), delta_choices("he"), delta_choices("y"), delta_choices(finish_reason="stop")]
    whole = json.loads(whole_choices("hey", "stop"))
    assert json.loads(assemble([Delta(piece) for piece in pieces])) == whole
    function = ToolCallPiece.Function(name="f", arguments="{}")
    call = delta_choices(role=True, tool_calls=[ToolCallPiece(index=0, id="1", type="function", function=function)])
    (choice,) = json.loads(assemble([Delta(call)]))
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


def test_completion_body_is_openais() -> None:
    """The body has the decision in its id, the choices as they came, and totals."""
    reply = Reply(request(), b'[{"index":0,"x": 1.0}]', Usage(3, 4, 1), RECEIPT, 99)
    body = completion_body(reply)
    assert b'[{"index":0,"x": 1.0}]' in body
    assert json.loads(body) == {
        "id": 'chatcmpl-d"1',
        "object": "chat.completion",
        "created": 99,
        "model": "llama",
        "choices": [{"index": 0, "x": 1.0}],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 1},
        },
    }


def test_error_body_is_openais() -> None:
    """An error has message, type, param and the stable code."""
    said = json.loads(error_body(RequestError("bad", param="n")))
    assert said == {
        "error": {"message": "bad", "type": "invalid_request_error", "param": "n", "code": "invalid_request"}
    }
    assert json.loads(error_body(Rejected("full", code="queue_full")))["error"]["code"] == "queue_full"


def test_a_spent_budget_is_told_as_openai_tells_it() -> None:
    """Type and code are both `insufficient_quota`, which SDKs tell from a rate limit."""
    said = json.loads(error_body(Rejected("spent", code="insufficient_quota")))["error"]
    assert (said["type"], said["code"]) == ("insufficient_quota", "insufficient_quota")


def test_stream_of_chunks() -> None:
    """Each piece is a chunk with one id, time and model; what has no choices is not passed on."""
    writer = ChunkWriter(request(stream=True), RECEIPT, 99)
    (piece,) = writer.pieces(Delta(delta_choices("x")))
    assert json.loads(piece) == {
        "id": 'chatcmpl-d"1',
        "object": "chat.completion.chunk",
        "created": 99,
        "model": "llama",
        "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}],
    }
    assert writer.pieces(Delta(usage=Usage(1, 1))) == []
    assert writer.end(Reply(request(), b"[]", Usage(1, 1), RECEIPT, 99)) == [b"[DONE]"]
    (error,) = writer.error(ProtocolError("cut"))
    assert json.loads(error)["error"]["code"] == "protocol_error"


def test_whole_answer_as_a_stream() -> None:
    """A whole answer becomes what was said and how it ended, and assembles to itself again."""
    message = {"role": "assistant", "content": "hi", "tool_calls": [{"id": "1", "type": "function", "function": {}}]}
    choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}]
    writer = ChunkWriter(request(stream=True), RECEIPT, 99)
    pieces = writer.pieces(Delta(json.dumps(choices).encode(), whole=True))
    chunks = [json.loads(piece)["choices"] for piece in pieces]
    assert [c[0]["finish_reason"] for c in chunks] == [None, "tool_calls"]
    assert json.loads(assemble([Delta(json.dumps(c).encode()) for c in chunks])) == choices


def test_usage_ends_the_stream_where_it_was_asked_for() -> None:
    """With include_usage every chunk says null and the last one the usage."""
    asked = request(stream=True, stream_options={"include_usage": True})
    writer = ChunkWriter(asked, RECEIPT, 99)
    assert json.loads(writer.pieces(Delta(delta_choices("x")))[0])["usage"] is None
    usage, done = writer.end(Reply(asked, b"[]", Usage(1, 2), RECEIPT, 99))
    assert (json.loads(usage)["choices"], json.loads(usage)["usage"]["total_tokens"]) == ([], 3)
    assert done == b"[DONE]"


def test_receipt_is_said_in_plain_numbers() -> None:
    """Small costs keep their digits, without an exponent; phases that were not reached are left out."""
    fields = dict(receipt_fields(RECEIPT))
    assert list(fields) == ["decision-id", "deployment", "model", "cost-usd", "attempts", "policy", "overhead-ms"]
    assert (fields["cost-usd"], fields["overhead-ms"], fields["attempts"]) == ("0.000000125", "1.500", "2")
    assert set(dict(debug_fields(RECEIPT))) == {"schema-version", "class", "queue-ms"}
