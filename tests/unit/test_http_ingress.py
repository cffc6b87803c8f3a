"""Chat over the HTTP front door: answers, streams, errors, headers and bad input, over real sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from router.domain.errors import Expired, ProtocolError, Refused, Rejected, RequestError
from router.domain.outcome import Delta, Receipt, Reply, Usage
from router.domain.request import Request
from router.ports.dispatch import Responder
from router.wire.openai import delta_choices, whole_choices
from tests.unit.http_door import CHAT, RECEIPT, Door, answer, open_door, raising, reply_to


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with open_door() as one:
        yield one


async def test_answer_is_a_completion_with_its_receipt_in_headers(door: Door) -> None:
    """A request is answered with a chat.completion and the receipt, and the router saw what was sent."""
    status, headers, body = await door.post(CHAT, x_request_id="abc", x_router_tenant="blue")
    assert status == 200
    said = json.loads(body)
    assert said["object"] == "chat.completion"
    assert said["id"] == "chatcmpl-d1"
    assert said["choices"][0]["message"]["content"] == "Hello"
    assert said["usage"]["total_tokens"] == 9
    assert said["usage"]["prompt_tokens_details"]["cached_tokens"] == 3
    assert headers["x-request-id"] == "abc"
    assert headers["x-router-decision-id"] == "d1"
    assert headers["x-router-deployment"] == "small-0"
    assert headers["x-router-model"] == "llama"
    assert float(headers["x-router-cost-usd"]) == 0.00042
    assert float(headers["x-router-overhead-ms"]) == 1.5
    assert headers["x-router-attempts"] == "1"
    assert headers["x-router-policy"] == "p0"
    assert "x-router-class" not in headers
    (request,) = door.router.requests
    assert (request.id, request.tenant, request.source, request.model) == ("abc", "blue", "http", None)


async def test_debug_headers_come_only_when_asked_for(door: Door) -> None:
    """`x-router-debug: true` adds class, complexity, phases and the schema version."""
    _, headers, _ = await door.post(CHAT, x_router_debug="true")
    assert headers["x-router-class"] == "chat"
    assert headers["x-router-complexity"] == "0.2500"
    assert float(headers["x-router-ttft-ms"]) == 200
    assert float(headers["x-router-queue-ms"]) == 10
    assert headers["x-router-schema-version"] == "1"


async def test_stream_is_server_sent_events_ending_in_done(door: Door) -> None:
    """A stream carries the pieces as chunks of one id, no usage unless asked for, and ends with [DONE]."""
    status, headers, body = await door.post({**CHAT, "stream": True})
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["x-router-deployment"] == "small-0"
    assert "x-router-cost-usd" not in headers, "it is not known before the last piece"
    events = body.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-d1"}
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "Hello"
    assert all("usage" not in chunk for chunk in chunks)


async def test_usage_chunk_comes_last_when_asked_for(door: Door) -> None:
    """With include_usage the last chunk has no choices, the usage and what it cost; those before say null."""
    _, _, body = await door.post({**CHAT, "stream": True, "stream_options": {"include_usage": True}})
    chunks = [json.loads(event.removeprefix("data: ")) for event in body.decode().split("\n\n")[:-2]]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 2
    assert chunks[-1]["usage"]["cost_usd"] == 0.00042
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


async def test_stream_of_an_answer_that_never_streamed(door: Door) -> None:
    """A reply that comes without pieces (known already) still reaches a streaming client as chunks."""

    async def known(request: Request, responder: Responder | None) -> Reply:
        return reply_to(request)

    door.router.behaviour = known
    _, headers, body = await door.post({**CHAT, "stream": True})
    assert headers["x-router-decision-id"] == "d1"
    assert float(headers["x-router-cost-usd"]) == 0.00042
    assert b'"content":"Hello"' in body
    assert body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("error", "status", "code", "retry"),
    [
        (RequestError("no", code="model_not_found", param="model"), 404, "model_not_found", "false"),
        (RequestError("long", code="context_length_exceeded"), 400, "context_length_exceeded", "false"),
        (Rejected("full", code="queue_full"), 429, "queue_full", "true"),
        (Rejected("spent", code="insufficient_quota"), 429, "insufficient_quota", "false"),
        (Rejected("bye", code="draining"), 503, "draining", "true"),
        (Expired("late"), 504, "deadline_exceeded", "false"),
        (Refused("bad"), 400, "backend_refused", "false"),
        (Refused("key", code="backend_forbidden"), 502, "backend_forbidden", "false"),
        (ProtocolError("cut"), 502, "protocol_error", "true"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_error_before_the_first_piece_is_an_ordinary_error(
    door: Door, error: Exception, status: int, code: str, retry: str, stream: bool
) -> None:
    """Every error has its status, OpenAI body and retry advice, for streams too while nothing was sent."""
    door.router.behaviour = raising(error)
    got, headers, body = await door.post({**CHAT, "stream": stream})
    assert got == status
    assert json.loads(body)["error"]["code"] == code
    assert headers["x-should-retry"] == retry
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"]


async def test_retry_after_is_given_in_both_units(door: Door) -> None:
    """A known wait goes out in milliseconds and in whole seconds, rounded up."""
    door.router.behaviour = raising(Rejected("wait", retry_after_s=1.2))
    _, headers, _ = await door.post(CHAT)
    assert headers["retry-after-ms"] == "1200"
    assert headers["retry-after"] == "2"


async def test_error_after_the_first_piece_ends_the_stream_in_band(door: Door) -> None:
    """Once a piece is out an error is an event of the stream, and no [DONE] makes it look complete."""

    async def break_off(request: Request, responder: Responder | None) -> Reply:
        assert responder is not None
        await responder.begin(RECEIPT)
        await responder.delta(Delta(delta_choices("Hel", role=True), tokens=1))
        raise ProtocolError("the upstream broke off")

    door.router.behaviour = break_off
    status, _, body = await door.post({**CHAT, "stream": True})
    assert status == 200
    events = body.decode().split("\n\n")
    assert json.loads(events[-2].removeprefix("data: "))["error"]["code"] == "protocol_error"
    assert "[DONE]" not in body.decode()


@pytest.mark.parametrize("stream", [False, True])
async def test_unexpected_failure_says_nothing_of_its_cause(door: Door, stream: bool) -> None:
    """A bug behind the door is a 500 without its text, and the next request is served."""
    door.router.behaviour = raising(ValueError("secret detail"))
    status, _, body = await door.post({**CHAT, "stream": stream})
    assert status == 500
    assert json.loads(body)["error"]["code"] == "internal_error"
    assert b"secret" not in body
    door.router.behaviour = answer
    assert (await door.post(CHAT))[0] == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"messages":[{"role":"user","content":"\xff"}]}', "invalid_json"),
        (b"[]", "invalid_request"),
        (b'{"messages":[]}', "invalid_request"),
        (b'{"messages":[{"role":"user","content":"x"}],"max_tokens":-1}', "invalid_request"),
    ],
)
async def test_bad_bodies_are_the_senders_fault_and_counted(door: Door, body: bytes, code: str) -> None:
    """A body that cannot be read is a 400 with its code, an event, and never reaches the router."""
    status, _, said = await door.post(body)
    assert status == 400
    assert json.loads(said)["error"]["code"] == code
    assert door.router.requests == []
    assert door.router.ingress_events() == [("invalid", code)]


@pytest.mark.parametrize("chunked", [False, True])
async def test_body_over_the_limit_is_refused(chunked: bool) -> None:
    """A body longer than the limit is a 413, whether its length was declared or not."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100

    data = pieces() if chunked else b"x" * 2000
    url = "/v1/chat/completions"
    async with open_door(body_limit_bytes=1000) as door, door.client.post(door.url + url, data=data) as response:
        assert response.status == 413
        assert (await response.json())["error"]["code"] == "body_too_large"


async def test_headers_set_class_priority_deadline_and_trace(door: Door) -> None:
    """What the headers say of a request arrives in it; the deadline counts from arrival."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await door.post(CHAT, x_router_class="batch", x_router_priority="-3", x_router_deadline_ms="250", traceparent=trace)
    (request,) = door.router.requests
    assert (request.request_class, request.priority, request.traceparent) == ("batch", -3, trace)
    assert request.deadline is not None
    assert request.deadline - request.arrived == pytest.approx(0.25)


@pytest.mark.parametrize("header", ["x_router_deadline_ms", "x_router_priority"])
@pytest.mark.parametrize("value", ["soon", "nan", "inf"])
async def test_header_that_is_no_number_is_refused(door: Door, header: str, value: str) -> None:
    """A deadline or priority that is no finite number is named in the error."""
    status, _, body = await door.post(CHAT, **{header: value})
    assert status == 400
    assert json.loads(body)["error"]["param"] == header.replace("_", "-")


async def test_unfit_request_id_is_replaced(door: Door) -> None:
    """An overlong request id is not taken over; each request then gets its own."""
    ids = [(await door.post(CHAT, x_request_id="x" * 200))[1]["x-request-id"] for _ in range(2)]
    assert len({*ids, "x" * 200}) == 3
    assert [request.id for request in door.router.requests] == ids


async def test_text_that_no_header_can_hold_is_escaped(door: Door) -> None:
    """A receipt value with other than printable ASCII still gives a valid response."""

    async def odd(request: Request, responder: Responder | None) -> Reply:
        receipt = Receipt("d1", "größe\r\nx: y", "m", "p", 1, 0.0, 0.0)
        return Reply(request, whole_choices("x", "stop"), Usage(1, 1), receipt, 0)

    door.router.behaviour = odd
    status, headers, _ = await door.post(CHAT)
    assert status == 200
    assert headers["x-router-deployment"] == "gr\\xf6\\xdfe\\r\\nx: y"
