"""The HTTP front door over real sockets, with a router behind it that does as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.errors import Expired, ProtocolError, Refused, Rejected, RequestError
from router.domain.events import Event, IngressEvent
from router.domain.outcome import Delta, Receipt, Reply, Usage
from router.domain.request import Request
from router.ingress.http import HttpIngress, HttpOptions
from router.ports.dispatch import Responder
from router.wire.openai import assemble, delta_choices, whole_choices

RECEIPT = Receipt("d1", "small-0", "llama", "p0", 1, 0.00042, 0.0015, "chat", 0.25, 0.2, 0.01)
CHAT = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
PIECES = ("", "Hel", "lo")

Behaviour = Callable[[Request, Responder | None], Awaitable[Reply]]


def reply_to(request: Request, choices: bytes = whole_choices("Hello", "stop")) -> Reply:
    return Reply(request, choices, Usage(7, 2, 3), RECEIPT, 1_700_000_000)


async def answer(request: Request, responder: Responder | None) -> Reply:
    """Say "Hello", in pieces where a responder waits for them."""
    if responder is None:
        return reply_to(request)
    deltas = [Delta(delta_choices(text, role=not text), tokens=1) for text in PIECES]
    deltas.append(Delta(delta_choices(finish_reason="stop"), finish_reason="stop"))
    await responder.begin(RECEIPT)
    for delta in deltas:
        await responder.delta(delta)
    return reply_to(request, assemble(deltas))


def raising(error: Exception) -> Behaviour:
    async def fail(request: Request, responder: Responder | None) -> Reply:
        raise error

    return fail


class FakeRouter:
    """A `Dispatch` and an `EventSink`."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = answer
        self.requests: list[Request] = []
        self.events: list[Event] = []
        self.cancelled = asyncio.Event()
        self.taught: list[tuple[str, float]] = []
        self.ready = (True, "")

    async def submit(self, request: Request, responder: Responder | None = None) -> Reply:
        self.requests.append(request)
        try:
            return await self.behaviour(request, responder)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def feedback(self, decision_id: str, quality: float) -> bool:
        self.taught.append((decision_id, quality))
        return decision_id == "d1"

    def deployments(self) -> tuple[Deployment, ...]:
        name = DeploymentName("small-0")
        address = Address("simulated", "llama")
        return (Deployment(name, "small", "llama", Tier.SMALL, Kind.CONTINUOUS, address, Price(0, 0)),)

    def classes(self) -> tuple[str, ...]:
        return ("chat",)

    def is_ready(self) -> tuple[bool, str]:
        return self.ready

    def has_room(self) -> bool:
        return True

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def ingress_events(self) -> list[tuple[str, str]]:
        return [(e.what, e.detail) for e in self.events if isinstance(e, IngressEvent)]


class Door:
    """A running ingress, its fake router and a client."""

    def __init__(self, ingress: HttpIngress, router: FakeRouter, client: aiohttp.ClientSession) -> None:
        self.ingress, self.router, self.client = ingress, router, client
        self.url = f"http://127.0.0.1:{ingress.port}"

    async def post(self, body: object, path: str = "/v1/chat/completions", **headers: str) -> tuple[int, Any, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.post(self.url + path, data=data, headers=named) as response:
            return response.status, response.headers, await response.read()

    async def get(self, path: str, **headers: str) -> tuple[int, Any, Any]:
        async with self.client.get(self.url + path, headers=headers) as response:
            return response.status, response.headers, await response.read()


Opener = Callable[..., Awaitable[Door]]


@pytest.fixture
async def open_door() -> AsyncIterator[Opener]:
    doors: list[Door] = []

    async def start(**options: Any) -> Door:
        router = FakeRouter()
        ingress = HttpIngress(
            HttpOptions(port=0, **options),
            router,
            router,
            lambda: (b"router_up 1\n", "text/plain; version=0.0.4"),
            decisions={"d1": b'{"id":"d1"}'}.get,
        )
        await ingress.start()
        doors.append(Door(ingress, router, aiohttp.ClientSession()))
        return doors[-1]

    yield start
    for door in doors:
        await door.client.close()
        await door.ingress.stop(grace_s=0)


@pytest.fixture
async def door(open_door: Opener) -> Door:
    return await open_door()


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
    events = body.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-d1"}
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "Hello"
    assert all("usage" not in chunk for chunk in chunks)


async def test_usage_chunk_comes_last_when_asked_for(door: Door) -> None:
    """With include_usage the last chunk has no choices and the usage; those before say null."""
    _, _, body = await door.post({**CHAT, "stream": True, "stream_options": {"include_usage": True}})
    chunks = [json.loads(event.removeprefix("data: ")) for event in body.decode().split("\n\n")[:-2]]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 2
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


async def test_stream_of_an_answer_that_never_streamed(door: Door) -> None:
    """A reply that comes without pieces (known already) still reaches a streaming client as chunks."""

    async def known(request: Request, responder: Responder | None) -> Reply:
        return reply_to(request)

    door.router.behaviour = known
    _, headers, body = await door.post({**CHAT, "stream": True})
    assert headers["x-router-decision-id"] == "d1"
    assert b'"content":"Hello"' in body
    assert body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("error", "status", "code", "retry"),
    [
        (RequestError("no", code="model_not_found", param="model"), 404, "model_not_found", "false"),
        (RequestError("long", code="context_length_exceeded"), 400, "context_length_exceeded", "false"),
        (Rejected("full", code="queue_full"), 429, "queue_full", "true"),
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
async def test_body_over_the_limit_is_refused(open_door: Opener, chunked: bool) -> None:
    """A body longer than the limit is a 413, whether its length was declared or not."""
    door = await open_door(body_limit_bytes=1000)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100

    data = pieces() if chunked else b"x" * 2000
    async with door.client.post(f"{door.url}/v1/chat/completions", data=data) as response:
        assert response.status == 413
        assert (await response.json())["error"]["code"] == "body_too_large"


async def test_headers_set_class_priority_deadline_and_trace(open_door: Opener) -> None:
    """What the headers say of a request arrives in it; the deadline counts from arrival."""
    door = await open_door()
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


async def test_keys_guard_the_api_but_not_health_and_metrics(open_door: Opener) -> None:
    """With keys set, /v1 wants one of them as bearer; health and metrics stay open."""
    door = await open_door(api_keys=frozenset({"one", "two"}))
    for headers in ({}, {"authorization": "Bearer three"}, {"authorization": "Basic one"}):
        status, got, body = await door.post(CHAT, **headers)
        assert status == 401
        assert json.loads(body)["error"]["code"] == "invalid_api_key"
        assert got["www-authenticate"] == "Bearer"
        assert (await door.get("/v1/models", **headers))[0] == 401
    assert door.router.requests == []
    assert (await door.post(CHAT, authorization="Bearer two"))[0] == 200
    assert (await door.get("/v1/models", authorization="bearer one"))[0] == 200
    assert (await door.get("/healthz"))[0] == 200
    assert (await door.get("/metrics"))[0] == 200


async def test_models_are_auto_the_classes_and_the_deployments(door: Door) -> None:
    """All that may be asked for as `model` is listed, and can be had one by one."""
    _, _, body = await door.get("/v1/models")
    said = json.loads(body)
    assert said["object"] == "list"
    assert [model["id"] for model in said["data"]] == ["auto", "chat", "small-0"]
    assert json.loads((await door.get("/v1/models/small-0"))[2])["owned_by"] == "llama"
    status, _, body = await door.get("/v1/models/none")
    assert status == 404
    assert json.loads(body)["error"]["code"] == "model_not_found"


async def test_feedback_teaches_known_decisions_only(door: Door) -> None:
    """Quality for a known decision, by its id or its answer's, is taken; for others it is a 404."""
    assert (await door.post({"decision_id": "chatcmpl-d1", "quality": 0.5}, "/v1/feedback"))[0] == 200
    status, _, body = await door.post({"decision_id": "nope", "quality": 1}, "/v1/feedback")
    assert status == 404
    assert json.loads(body)["error"]["code"] == "decision_not_found"
    assert door.router.taught == [("d1", 0.5), ("nope", 1.0)]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"decision_id":"d1","quality":1.5}', b"\xff"])
async def test_bad_feedback_teaches_nothing(door: Door, body: bytes) -> None:
    """Feedback that cannot be read, or out of range, is a 400."""
    assert (await door.post(body, "/v1/feedback"))[0] == 400
    assert door.router.taught == []


async def test_decision_is_shown_by_id(door: Door) -> None:
    """A known decision is shown as it is, an unknown one is a 404."""
    assert (await door.get("/v1/decisions/chatcmpl-d1"))[2] == b'{"id":"d1"}'
    assert (await door.get("/v1/decisions/d2"))[0] == 404


async def test_health_readiness_and_metrics(door: Door) -> None:
    """Health is always well, readiness follows the router with its reason, metrics are what was passed in."""
    assert (await door.get("/readyz"))[0] == 200
    door.router.ready = (False, "no policy")
    status, _, body = await door.get("/readyz")
    assert (status, json.loads(body)["detail"]) == (503, "no policy")
    assert (await door.get("/healthz"))[0] == 200
    _, headers, page = await door.get("/metrics")
    assert (headers["content-type"], page) == ("text/plain; version=0.0.4", b"router_up 1\n")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [("/v1/none", 404, "not_found"), ("/v1/chat/completions", 405, "method_not_allowed")],
)
async def test_wrong_path_or_method_has_an_openai_body(door: Door, path: str, status: int, code: str) -> None:
    """404 and 405 come in the same form as any other error."""
    got, _, body = await door.get(path)
    assert got == status
    assert json.loads(body)["error"]["code"] == code


@pytest.mark.parametrize("stream", [False, True])
async def test_client_that_hangs_up_cancels_its_call(door: Door, stream: bool) -> None:
    """A client that vanishes while it waits, or mid-stream, ends the call behind the door, and is counted."""
    waiting = asyncio.Event()

    async def hang(request: Request, responder: Responder | None) -> Reply:
        if responder is not None:
            await responder.begin(RECEIPT)
            await responder.delta(Delta(delta_choices("x"), tokens=1))
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    door.router.behaviour = hang
    call = asyncio.create_task(door.post({**CHAT, "stream": stream}))
    await waiting.wait()
    call.cancel()
    await asyncio.wait_for(door.router.cancelled.wait(), 5)
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0)
    assert door.router.ingress_events() == [("client_gone", "request")]


async def test_connection_outlives_its_request(door: Door) -> None:
    """A connection that is closed after its answers cancels nothing."""
    for _ in range(3):
        assert (await door.post(CHAT))[0] == 200
    await door.client.close()
    assert (await Door(door.ingress, door.router, door.client).ingress.stop(grace_s=0)) is None
    assert not door.router.cancelled.is_set()
    assert door.router.ingress_events() == []


async def test_slow_reader_holds_the_answer_back(door: Door) -> None:
    """A client that does not read stops the stream at the socket's buffers: the responder waits."""
    sent = 0
    total = 4000

    async def flood(request: Request, responder: Responder | None) -> Reply:
        nonlocal sent
        assert responder is not None
        await responder.begin(RECEIPT)
        for _ in range(total):
            await responder.delta(Delta(delta_choices("x" * 10_000), tokens=1))
            sent += 1
        return reply_to(request)

    door.router.behaviour = flood
    body = json.dumps({**CHAT, "stream": True}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", door.ingress.port, limit=1024)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await reader.readline()
    seen = -1
    while sent != seen:
        seen = sent
        for _ in range(20):
            await door.get("/healthz")
    assert 0 < sent < total
    writer.transport.abort()
    await asyncio.wait_for(door.router.cancelled.wait(), 5)


async def test_stop_waits_for_running_calls_and_refuses_new_ones(door: Door) -> None:
    """A call that is running when the stop comes is answered; nobody new gets in."""
    started, release = asyncio.Event(), asyncio.Event()

    async def slow(request: Request, responder: Responder | None) -> Reply:
        started.set()
        await release.wait()
        return reply_to(request)

    door.router.behaviour = slow
    call = asyncio.create_task(door.post(CHAT))
    await started.wait()
    stopping = asyncio.create_task(door.ingress.stop(grace_s=5))
    await asyncio.sleep(0)
    with pytest.raises(aiohttp.ClientConnectorError):
        await door.post(CHAT)
    release.set()
    assert (await call)[0] == 200
    await stopping


async def test_request_that_arrives_in_full_after_the_stop_is_refused(door: Door) -> None:
    """A request whose body was still on its way when the stop came gets an error that may be retried."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.ingress.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345")
    assert (await door.get("/healthz"))[0] == 200
    await door.ingress.stop(grace_s=0)
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"draining"' in answer
    writer.close()
    await writer.wait_closed()


async def test_stop_ends_what_will_not_end_with_an_error(door: Door) -> None:
    """A call that outlasts the grace is answered with an error that may be retried elsewhere."""
    started = asyncio.Event()

    async def hang(request: Request, responder: Responder | None) -> Reply:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    door.router.behaviour = hang
    call = asyncio.create_task(door.post(CHAT))
    await started.wait()
    await door.ingress.stop(grace_s=0)
    status, headers, body = await call
    assert (status, headers["x-should-retry"]) == (503, "true")
    assert json.loads(body)["error"]["code"] == "draining"
    assert door.router.cancelled.is_set()
