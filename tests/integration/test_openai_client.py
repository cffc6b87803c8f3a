"""The official `openai` client, unchanged, against the HTTP front door with a router behind it that we order about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import openai
import pytest

from router.domain.deployment import Deployment
from router.domain.errors import Expired, ProtocolError, Rejected, RequestError, RouterError
from router.domain.events import Event
from router.domain.outcome import Delta, Receipt, Reply, Usage
from router.domain.request import Request
from router.ingress.http import HttpIngress, HttpOptions
from router.ports.dispatch import Responder
from router.wire.openai import ToolCallPiece, assemble, delta_choices

RECEIPT = Receipt("d1", "small-0", "llama", "p0", 1, 0.001, 0.0005, "chat")
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
ASK: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]

Turn = Callable[[Request, Responder | None], Awaitable[Reply]]


async def speak(request: Request, responder: Responder | None) -> Reply:
    """Say "Hello there", or call the first tool, piece by piece."""
    if request.prompt.tools:
        name, arguments = ToolCallPiece.Function(name="weather"), ToolCallPiece.Function(arguments='{"city":"Oslo"}')
        first = ToolCallPiece(index=0, id="c1", type="function", function=name)
        rest = ToolCallPiece(index=0, function=arguments)
        choices = [delta_choices(role=True, tool_calls=[first]), delta_choices(tool_calls=[rest])]
        choices.append(delta_choices(finish_reason="tool_calls"))
    else:
        choices = [delta_choices("Hello", role=True), delta_choices(" there"), delta_choices(finish_reason="stop")]
    deltas = [Delta(one, tokens=1) for one in choices]
    if responder is not None:
        await responder.begin(RECEIPT)
        for delta in deltas:
            await responder.delta(delta)
    return Reply(request, assemble(deltas), Usage(5, 2), RECEIPT, 1_700_000_000)


class FakeRouter:
    """A `Dispatch` and an `EventSink`: plays the turns it was given, then speaks."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.requests: list[Request] = []
        self.cancelled = asyncio.Event()

    def fail(self, *errors: RouterError) -> None:
        for error in errors:
            self.turns.append(_raising(error))

    async def submit(self, request: Request, responder: Responder | None = None) -> Reply:
        self.requests.append(request)
        turn = self.turns.pop(0) if self.turns else speak
        try:
            return await turn(request, responder)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def feedback(self, decision_id: str, quality: float) -> bool:
        return True

    def deployments(self) -> tuple[Deployment, ...]:
        return ()

    def classes(self) -> tuple[str, ...]:
        return ("chat", "batch")

    def is_ready(self) -> tuple[bool, str]:
        return True, ""

    def has_room(self) -> bool:
        return True

    def held(self, source: str) -> int:
        return 0

    def emit(self, event: Event) -> None:
        return


def _raising(error: RouterError) -> Turn:
    async def fail(request: Request, responder: Responder | None) -> Reply:
        raise error

    return fail


@pytest.fixture
def router() -> FakeRouter:
    return FakeRouter()


@pytest.fixture
async def base_url(router: FakeRouter) -> AsyncIterator[str]:
    ingress = HttpIngress(HttpOptions(port=0, api_keys=frozenset({"k"})), router, router, lambda: (b"", "text/plain"))
    await ingress.start()
    yield f"http://127.0.0.1:{ingress.port}/v1"
    await ingress.stop(grace_s=0)


@pytest.fixture
async def client(base_url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=base_url, api_key="k", max_retries=0) as one:
        yield one


@pytest.fixture
def sync_client(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base_url, api_key="k", max_retries=0) as one:
        yield one


async def test_chat(client: openai.AsyncOpenAI, router: FakeRouter) -> None:
    """A chat call gets a typed completion with usage."""
    said = await client.chat.completions.create(model="auto", messages=ASK, temperature=0.2, max_tokens=9)
    assert said.choices[0].message.content == "Hello there"
    assert said.choices[0].finish_reason == "stop"
    assert (said.id, said.model) == ("chatcmpl-d1", "llama")
    assert said.usage is not None
    assert said.usage.total_tokens == 7
    assert router.requests[0].max_tokens == 9


async def test_headers_of_a_raw_response(client: openai.AsyncOpenAI) -> None:
    """The receipt is in the headers, and the request id is the one that was sent."""
    raw = await client.chat.completions.with_raw_response.create(
        model="auto", messages=ASK, extra_headers={"x-request-id": "mine", "x-router-debug": "true"}
    )
    assert raw.headers["x-router-decision-id"] == "d1"
    assert raw.headers["x-router-class"] == "chat"
    assert raw.request_id == "mine"
    assert raw.parse().choices[0].message.content == "Hello there"


async def test_stream(client: openai.AsyncOpenAI) -> None:
    """A stream gives its pieces in order, and no usage that was not asked for."""
    stream = await client.chat.completions.create(model="auto", messages=ASK, stream=True)
    chunks = [chunk async for chunk in stream]
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["Hello", " there", None]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


async def test_stream_with_usage(client: openai.AsyncOpenAI) -> None:
    """With include_usage the last chunk has the usage and no choices."""
    stream = await client.chat.completions.create(
        model="auto", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2
    assert all(chunk.usage is None for chunk in chunks[:-1])


@pytest.mark.parametrize("stream", [False, True])
async def test_tools(client: openai.AsyncOpenAI, router: FakeRouter, stream: bool) -> None:
    """Tools reach the router, and the calls come back, also through the client's own accumulation of a stream."""
    if stream:
        async with client.chat.completions.stream(model="auto", messages=ASK, tools=[TOOL]) as events:  # type: ignore[list-item]
            said = await events.get_final_completion()
    else:
        said = await client.chat.completions.create(model="auto", messages=ASK, tools=[TOOL])  # type: ignore[list-item,assignment]
    (call,) = said.choices[0].message.tool_calls or ()
    assert call.type == "function"
    assert (call.id, call.function.name, call.function.arguments) == ("c1", "weather", '{"city":"Oslo"}')
    assert router.requests[0].prompt.tools == 1


async def test_extra_fields_stay_in_the_payload(client: openai.AsyncOpenAI, router: FakeRouter) -> None:
    """What the client sends beyond the standard is in the payload that goes on."""
    await client.chat.completions.create(
        model="auto", messages=ASK, extra_body={"min_p": 0.1}, metadata={"use_case": "x"}
    )
    assert b'"min_p":0.1' in router.requests[0].payload.replace(b" ", b"")
    assert router.requests[0].attributes == (("use_case", "x"),)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RequestError("no", code="model_not_found"), openai.NotFoundError),
        (RequestError("long", code="context_length_exceeded"), openai.BadRequestError),
        (Rejected("full", code="queue_full"), openai.RateLimitError),
        (Expired("late"), openai.InternalServerError),
        (ProtocolError("cut"), openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors_have_the_clients_types(
    client: openai.AsyncOpenAI, router: FakeRouter, error: RouterError, kind: type[openai.APIStatusError], stream: bool
) -> None:
    """Each error comes as the exception that the client has for it, with the stable code."""
    router.fail(error)
    with pytest.raises(kind) as caught:
        await client.chat.completions.create(model="auto", messages=ASK, stream=stream)
    assert caught.value.code == error.code
    assert caught.value.request_id


async def test_bad_parameter_is_named(client: openai.AsyncOpenAI) -> None:
    """A parameter out of range is a BadRequestError that names it."""
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="auto", messages=ASK, temperature=9)
    assert (caught.value.param, caught.value.code) == ("temperature", "invalid_request")


async def test_wrong_key(client: openai.AsyncOpenAI) -> None:
    """A key that is not known is an AuthenticationError."""
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="other").models.list()


async def test_client_retries_what_it_is_told_to(client: openai.AsyncOpenAI, router: FakeRouter) -> None:
    """A rejected call is retried after the wait that the header gives, and then answered."""
    router.fail(Rejected("full", retry_after_s=0.001))
    said = await client.with_options(max_retries=2).chat.completions.create(model="auto", messages=ASK)
    assert said.choices[0].message.content == "Hello there"
    assert len(router.requests) == 2


async def test_client_does_not_retry_what_would_fail_again(client: openai.AsyncOpenAI, router: FakeRouter) -> None:
    """A passed deadline is a 504, which the client would retry, but the header says not to."""
    router.fail(Expired("late"), Expired("late"))
    with pytest.raises(openai.InternalServerError):
        await client.with_options(max_retries=2).chat.completions.create(model="auto", messages=ASK)
    assert len(router.requests) == 1


async def test_error_in_mid_stream(client: openai.AsyncOpenAI, router: FakeRouter) -> None:
    """An error after the first piece ends the iteration with an APIError."""

    async def break_off(request: Request, responder: Responder | None) -> Reply:
        assert responder is not None
        await responder.begin(RECEIPT)
        await responder.delta(Delta(delta_choices("Hel"), tokens=1))
        raise ProtocolError("the upstream broke off")

    router.turns.append(break_off)
    stream = await client.chat.completions.create(model="auto", messages=ASK, stream=True)
    assert (await anext(stream)).choices[0].delta.content == "Hel"
    with pytest.raises(openai.APIError, match="broke off"):
        await anext(stream)


async def test_client_that_leaves_in_mid_stream(client: openai.AsyncOpenAI, router: FakeRouter) -> None:
    """Closing a stream early cancels the call behind it, and the next call is served."""

    async def hang(request: Request, responder: Responder | None) -> Reply:
        assert responder is not None
        await responder.begin(RECEIPT)
        await responder.delta(Delta(delta_choices("Hel"), tokens=1))
        await asyncio.Event().wait()
        raise AssertionError

    router.turns.append(hang)
    stream = await client.chat.completions.create(model="auto", messages=ASK, stream=True)
    await anext(stream)
    await stream.close()
    await asyncio.wait_for(router.cancelled.wait(), 60)
    assert (await client.chat.completions.create(model="auto", messages=ASK)).choices


async def test_client_that_stops_waiting(client: openai.AsyncOpenAI, router: FakeRouter) -> None:
    """A client whose own timeout passes cancels the call behind it."""

    async def hang(request: Request, responder: Responder | None) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    router.turns.append(hang)
    await client.models.list()
    for timeout_s in (1.0, 4.0, 16.0):  # a busy machine may need longer to bring the request to the router
        with pytest.raises(openai.APITimeoutError):
            await client.with_options(timeout=timeout_s).chat.completions.create(model="auto", messages=ASK)
        if router.requests:
            break
    await asyncio.wait_for(router.cancelled.wait(), 60)


async def test_models(client: openai.AsyncOpenAI) -> None:
    """The client's own listing works, and finds one by name."""
    assert [model.id async for model in client.models.list()] == ["auto", "chat", "batch"]
    assert (await client.models.retrieve("batch")).id == "batch"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("none")


async def test_sync_client(sync_client: openai.OpenAI, router: FakeRouter) -> None:
    """The synchronous client chats, streams, lists and fails in the same way."""
    router.turns += [speak, speak, _raising(Rejected("full"))]

    def work() -> tuple[str | None, str, list[str]]:
        said = sync_client.chat.completions.create(model="auto", messages=ASK)
        with sync_client.chat.completions.create(model="auto", messages=ASK, stream=True) as stream:
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        with pytest.raises(openai.RateLimitError):
            sync_client.chat.completions.create(model="auto", messages=ASK)
        return said.choices[0].message.content, streamed, [model.id for model in sync_client.models.list()]

    assert await asyncio.to_thread(work) == ("Hello there", "Hello there", ["auto", "chat", "batch"])
