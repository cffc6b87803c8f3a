"""The OpenAI-compatible backend against its double: what the conformance suite does not ask of every backend."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, formatdate
from pathlib import Path
from types import MappingProxyType
from typing import Any

import botocore
import pytest

from router.backends.openai_http import OpenAIHttpBackend
from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.errors import BackendError, Overloaded, ProtocolError, Refused, Throttled, TimedOut
from router.domain.outcome import Attempt, AttemptId, Delta, Usage
from router.doubles.openai_answers import Answer, Break, How, Refusal, ToolUse, words
from router.doubles.openai_server import OpenAIServer, openai_server
from router.wire.openai import Envelope, assemble, read_request

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
async def double() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as server:
        yield server


@pytest.fixture
async def backend() -> AsyncIterator[OpenAIHttpBackend]:
    one = OpenAIHttpBackend(environ={"KEY": "sesame"}, silence_s=60.0)
    yield one
    await one.close()


def attempt(
    double: OpenAIServer,
    *,
    stream: bool = True,
    within_s: float | None = 600.0,
    address: Mapping[str, str | None] = MappingProxyType({}),
    **body: Any,
) -> Attempt:
    now = time.monotonic()
    fields = {"messages": [{"role": "user", "content": "hi"}], "model": "auto", **body}
    envelope = Envelope(id="r1", arrived=now, at=0.0, source="test", traceparent=TRACE)
    return Attempt(
        id=AttemptId("a1"),
        decision_id=DecisionId("d1"),
        request=read_request(json.dumps(fields).encode(), envelope),
        deployment=Deployment(
            name=DeploymentName("one"),
            group="one",
            model="m",
            tier=Tier.SMALL,
            kind=Kind.CONTINUOUS,
            address=Address("openai_http", "org/m-8b", url=double.url, **address),
            price=Price(1.0, 2.0),
        ),
        number=1,
        started=now,
        deadline=None if within_s is None else now + within_s,
        stream=stream,
        max_tokens=64,
    )


async def call(backend: OpenAIHttpBackend, wanted: Attempt) -> list[Delta]:
    return [delta async for delta in backend.open(wanted)]


async def failure(backend: OpenAIHttpBackend, wanted: Attempt) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await call(backend, wanted)
    return caught.value


async def test_upstream_gets_the_senders_body_with_the_deployments_model(
    double: OpenAIServer, backend: OpenAIHttpBackend
) -> None:
    """Unknown fields travel on, the model becomes the target, usage is asked for, and the trace goes along."""
    await call(backend, attempt(double, seed=7, frobnicate={"a": [1]}))
    sent = double.script.calls[0]
    assert sent.body["model"] == "org/m-8b"
    assert (sent.body["seed"], sent.body["frobnicate"]) == (7, {"a": [1]})
    assert (sent.body["stream"], sent.body["stream_options"]) == (True, {"include_usage": True})
    assert sent.body["max_tokens"] == 64
    assert sent.headers["traceparent"] == TRACE
    assert sent.headers["x-request-id"] == "a1"
    assert "authorization" not in sent.headers


async def test_key_comes_from_the_named_variable(double: OpenAIServer, backend: OpenAIHttpBackend) -> None:
    """The key is read from the environment at the call; without it nothing is sent."""
    await call(backend, attempt(double, address={"api_key_env": "KEY"}))
    assert double.script.calls[0].headers["authorization"] == "Bearer sesame"
    error = await failure(backend, attempt(double, address={"api_key_env": "OTHER"}))
    assert (type(error), error.code) == (Refused, "backend_forbidden")
    assert double.script.served == 1


async def test_a_key_in_a_file_is_kept_until_it_is_to_be_forgotten(
    double: OpenAIServer, backend: OpenAIHttpBackend, tmp_path: Path
) -> None:
    """Read once; another one is used from the first call after `forget` on, and only for the file that was named."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("sk-one\n")
    second.write_text("sk-two")

    async def shown(file: Path) -> str:
        await call(backend, attempt(double, address={"api_key_file": str(file)}))
        return double.script.calls[-1].headers["authorization"]

    assert [await shown(first), await shown(second)] == ["Bearer sk-one", "Bearer sk-two"]
    first.write_text("sk-three")
    second.unlink()
    assert [await shown(first), await shown(second)] == ["Bearer sk-one", "Bearer sk-two"]
    backend.forget((str(first), "another"))
    assert [await shown(first), await shown(second)] == ["Bearer sk-three", "Bearer sk-two"]
    assert double.script.accepted == 1


@pytest.mark.parametrize("held", [None, b"", b"\xff", b"sk-a\nX-Injected: 1"])
async def test_a_key_file_that_holds_no_key_calls_nobody(
    double: OpenAIServer, backend: OpenAIHttpBackend, tmp_path: Path, held: bytes | None
) -> None:
    """What it holds is not in the error; once it is repaired, it is read without having been forgotten."""
    file = tmp_path / "key"
    if held is not None:
        file.write_bytes(held)
    error = await failure(backend, attempt(double, address={"api_key_file": str(file)}))
    assert (type(error), error.code) == (Refused, "backend_forbidden")
    assert "sk-a" not in str(error)
    assert double.script.served == 0
    file.write_text("sk-fine")
    await call(backend, attempt(double, address={"api_key_file": str(file)}))
    assert double.script.calls[0].headers["authorization"] == "Bearer sk-fine"


async def test_another_authority_counts_once_the_old_one_is_forgotten(
    double: OpenAIServer, backend: OpenAIHttpBackend, tmp_path: Path
) -> None:
    """The file is read at the first call, then again after `forget`: a broken one is not seen before, and is then."""
    file = tmp_path / "ca.pem"
    file.write_bytes((Path(botocore.__file__).parent / "cacert.pem").read_bytes())
    wanted = attempt(double, address={"ca_file": str(file)})
    await call(backend, wanted)
    file.write_text("no certificate")
    await call(backend, wanted)
    backend.forget((str(file),))
    await failure(backend, wanted)
    assert double.script.served == 2


@pytest.mark.parametrize(
    ("refusal", "kind", "code"),
    [
        (Refusal(400, code="bad"), Refused, "backend_refused"),
        (Refusal(400, code="context_length_exceeded"), Refused, "context_length_exceeded"),
        (Refusal(401), Refused, "backend_forbidden"),
        (Refusal(403), Refused, "backend_forbidden"),
        (Refusal(404), Refused, "backend_refused"),
        (Refusal(408), TimedOut, "timeout"),
        (Refusal(429), Throttled, "throttled"),
        (Refusal(500), ProtocolError, "protocol_error"),
        (Refusal(502, raw=b"<html>bad gateway</html>"), Overloaded, "backend_overloaded"),
        (Refusal(503), Overloaded, "backend_overloaded"),
        (Refusal(504), TimedOut, "timeout"),
        (Refusal(529, raw=b"\xff"), Overloaded, "backend_overloaded"),
        (Refusal(302, headers=(("location", "http://127.0.0.1:9/"),)), ProtocolError, "protocol_error"),
        (Refusal(204, raw=b""), ProtocolError, "protocol_error"),
    ],
)
async def test_each_status_has_its_error(
    double: OpenAIServer, backend: OpenAIHttpBackend, refusal: Refusal, kind: type, code: str
) -> None:
    """An HTTP status becomes the router's error, whatever the body; a redirect is not followed."""
    double.script.refuse = refusal
    error = await failure(backend, attempt(double))
    assert (type(error), error.code) == (kind, code)
    assert len(double.script.calls) == 1


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ((("retry-after-ms", "1500"), ("retry-after", "9")), 1.5),
        ((("retry-after", "9"),), 9.0),
        ((("retry-after", "-3"),), 0.0),
        ((("retry-after", formatdate(0, usegmt=True)),), 0.0),
        ((("retry-after", "nan"),), None),
        ((("retry-after", "soon"),), None),
        ((), None),
    ],
)
async def test_wait_that_the_upstream_asks_for(
    double: OpenAIServer,
    backend: OpenAIHttpBackend,
    headers: tuple[tuple[str, str], ...],
    wait_s: float | None,
) -> None:
    """The wait is read from milliseconds, seconds or a date; what cannot be read is no wait."""
    double.script.refuse = Refusal(429, headers=headers)
    assert (await failure(backend, attempt(double))).retry_after_s == wait_s


async def test_wait_until_a_date_ahead(double: OpenAIServer, backend: OpenAIHttpBackend) -> None:
    """A date ahead of now is a wait of the time between."""
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    double.script.refuse = Refusal(503, headers=(("retry-after", date),))
    wait_s = (await failure(backend, attempt(double))).retry_after_s
    assert wait_s is not None
    assert 3000 < wait_s <= 3600


@pytest.mark.parametrize("how", [How.CUT, How.GARBAGE, How.ERROR, How.SILENT_END])
@pytest.mark.parametrize("after", [0, 3])
async def test_pieces_before_a_break_are_given_first(
    double: OpenAIServer, backend: OpenAIHttpBackend, how: How, after: int
) -> None:
    """A stream that breaks gives what came, then an error that may be tried elsewhere."""
    double.script.breaks = Break(how, after)
    answer = backend.open(attempt(double))
    tokens = [(await anext(answer)).tokens for _ in range(2 + after)]
    assert sum(tokens) == after
    with pytest.raises(BackendError) as caught:
        await anext(answer)
    assert caught.value.retryable


@pytest.mark.parametrize("how", [How.CUT, How.GARBAGE, How.ERROR, How.SILENT_END])
async def test_whole_answer_that_breaks(double: OpenAIServer, backend: OpenAIHttpBackend, how: How) -> None:
    """A whole answer that is cut, empty, nonsense or an error is an error."""
    double.script.breaks = Break(how)
    assert (await failure(backend, attempt(double, stream=False))).retryable


async def silenced(backend: OpenAIHttpBackend, wanted: Attempt) -> tuple[int, str]:
    """The tokens that came before the call was given up for silence, and the code of that."""
    heard = 0
    answer = backend.open(wanted)
    while True:
        try:
            heard += (await anext(answer)).tokens
        except TimedOut as error:
            return heard, error.code


@pytest.mark.parametrize(("after", "stream"), [(0, True), (0, False), (2, True)])
async def test_silence_ends_a_call_that_has_no_deadline(double: OpenAIServer, after: int, stream: bool) -> None:
    """An upstream that says nothing for `silence_s` is timed out, and sees us leave; the code says whether a token had
    come. (On a machine that stands still for so long the call is over before its tokens come: it is made again.)"""
    impatient = OpenAIHttpBackend(environ={"KEY": "sesame"}, connect_s=60.0, silence_s=0.5)
    double.script.breaks = Break(How.HANG, after)
    heard = -1
    async with asyncio.timeout(60.0):
        while heard < after:
            heard, code = await silenced(impatient, attempt(double, stream=stream, within_s=None))
            assert code == ("timeout_gap" if heard else "timeout_first_token")
            await double.script.gone.acquire()
    await impatient.close()


async def test_deadline_in_the_past_calls_nobody(double: OpenAIServer, backend: OpenAIHttpBackend) -> None:
    """A deadline that has passed already costs no call."""
    error = await failure(backend, attempt(double, within_s=-1.0))
    assert (type(error), error.code) == (TimedOut, "timeout_deadline")
    assert not double.script.calls


@pytest.mark.parametrize("stream", [True, False])
async def test_tool_calls_and_reasoning_come_through(
    double: OpenAIServer, backend: OpenAIHttpBackend, stream: bool
) -> None:
    """Tool calls and reasoning are put together the same from a stream as from a whole answer."""
    tool = ToolUse("call_1", "weather", ('{"ci', 'ty":"Oslo"}'))
    double.script.answer = Answer((), ("hm", "m"), (tool,), finish_reason="tool_calls", cached_tokens=4)
    deltas = await call(backend, attempt(double, stream=stream))
    (choice,) = json.loads(assemble(deltas))
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None or choice["message"]["content"] == ""
    assert choice["message"]["reasoning_content"] == "hmm"
    function = {"name": "weather", "arguments": '{"city":"Oslo"}'}
    assert choice["message"]["tool_calls"] == [{"id": "call_1", "type": "function", "function": function}]
    assert [delta.usage for delta in deltas if delta.usage] == [Usage(1, 2, 4)]


async def test_upstream_that_does_not_stream(double: OpenAIServer, backend: OpenAIHttpBackend) -> None:
    """A whole answer to a call that asked for a stream is taken as it is."""
    double.script.ignores_stream = True
    (delta,) = await call(backend, attempt(double, stream=True))
    assert (delta.whole, delta.finish_reason) == (True, "stop")


async def test_answer_without_usage_is_estimated(double: OpenAIServer, backend: OpenAIHttpBackend) -> None:
    """Without usage the tokens are an estimate and no usage is claimed."""
    double.script.answer = Answer(("word ",) * 9, reports_usage=False)
    for stream in (True, False):
        deltas = await call(backend, attempt(double, stream=stream))
        assert [delta.usage for delta in deltas if delta.usage] == []
        assert sum(delta.tokens for delta in deltas) == pytest.approx(9, abs=4)


@pytest.mark.parametrize("gap_s", [None, 0.0])
async def test_connection_is_used_again(double: OpenAIServer, backend: OpenAIHttpBackend, gap_s: float | None) -> None:
    """Calls one after the other share a connection, whole or streamed, as long as each was read to its end."""
    double.script.gap_s = gap_s
    double.script.answer = words(30)
    for stream in (True, False, True, True):
        await call(backend, attempt(double, stream=stream))
    assert (double.script.served, double.script.accepted) == (4, 1)


async def test_nothing_stays_open_after_close(double: OpenAIServer, backend: OpenAIHttpBackend) -> None:
    """Closing frees the connections; a backend that was never used closes as well."""
    await call(backend, attempt(double))
    await backend.close()
    await backend.close()
    await call(backend, attempt(double))
    assert double.script.served == 2
