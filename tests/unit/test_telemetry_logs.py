"""Log lines: one a decision, event name first, ids and figures, never a prompt or a key."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from random import Random

import msgspec
import pytest
import structlog

from bench.traffic import PROMPT, policy, request_events, tick_events, trouble_events
from router.backends.openai_errors import error_of_status
from router.domain.events import AttemptEnded, DecisionMade, IngressEvent, RequestEnded
from router.telemetry.logs import HIDDEN, configure, redact
from router.telemetry.sink import Sink

POLICY = policy(classes=2, deployments=2)


class Counting(io.StringIO):
    """A stream that counts its writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


class Terminal(Counting):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def told(stream: io.StringIO, level: str = "info", requests: int = 3) -> None:
    """Send requests, ticks and trouble through an event log on this stream."""
    rng, sink = Random(1), Sink((configure(stream, level=level),))
    for n in range(requests):
        for event in (*request_events(n, rng, POLICY), *tick_events(n, POLICY), *trouble_events(n, POLICY)):
            sink.emit(event)
    sink.drain_all()
    assert not sink.failures["logs"]


def test_one_line_a_decision_with_the_event_name_first() -> None:
    """Each decision is one JSON line that begins with its event name and carries its evidence in short."""
    stream = Counting()
    told(stream)
    decisions = [line for line in stream.lines() if line["event"] == "decision"]
    assert [line["decision_id"] for line in decisions] == ["d0", "d1", "d2"]
    assert all(line.startswith('{"event":"') for line in stream.getvalue().splitlines())
    assert decisions[0]["excluded"] == {"large-1": "unhealthy"}
    assert decisions[0]["policy"] == POLICY.digest
    assert decisions[0]["level"] == "info"
    assert decisions[0]["timestamp"] == "2026-01-01T00:00:00.000+00:00", "the decision's own time"


def test_a_batch_is_one_write() -> None:
    """The lines of a drain leave together."""
    stream, rng = Counting(), Random(1)
    sink = Sink((configure(stream),))
    for n in range(20):
        for event in request_events(n, rng, POLICY):
            sink.emit(event)
    sink.drain(1000)
    assert len(stream.lines()) == 40
    assert stream.writes == 1
    sink.emit(IngressEvent("mqtt", "connected"))
    sink.drain()
    assert len(stream.lines()) == 41, "no line is written twice"


@pytest.mark.parametrize("stream", [Counting(), Terminal()])
def test_no_prompt_is_ever_written(stream: Counting) -> None:
    """Whatever the level and the form, the words of a prompt do not appear."""
    told(stream, level="debug")
    assert "decision" in stream.getvalue()
    assert PROMPT not in stream.getvalue()


def test_the_request_and_its_decision_share_their_ids_and_trace() -> None:
    """A line of the end can be joined with the line of the decision, and with the caller's trace."""
    stream = Counting()
    told(stream, requests=1)
    by_event = {line["event"]: line for line in stream.lines()}
    ended = by_event["request_ended"]
    assert ended["decision_id"] == by_event["decision"]["decision_id"]
    assert ended["request_id"] == by_event["decision"]["request_id"]
    assert ended["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_ticks_and_every_single_call_are_for_debugging_only() -> None:
    """At info there is no line for load, prices or replies; at debug there is."""
    info, debug = Counting(), Counting()
    told(info)
    told(debug, level="debug")
    names = {str(line["event"]) for line in info.lines()}
    assert {"decision", "request_ended", "request_rejected", "attempt_failed", "policy_rejected"} <= names
    quiet = {"load_observed", "price_updated", "ingress_replied", "request_received", "feedback_unknown"}
    assert not quiet & names
    assert quiet <= {str(line["event"]) for line in debug.lines()}


def test_secrets_and_content_are_hidden_wherever_they_are() -> None:
    """Keys that name a secret or content are redacted at any depth, and credentials inside text too."""
    line = redact(
        None,
        "info",
        {
            "event": "e",
            "Authorization": "Bearer abc",
            "api_key": "abc",
            "x-api-key": "abc",
            "password": "abc",
            "messages": [{"role": "user", "content": "secret words"}],
            "prompt": "secret words",
            "nested": {"headers": {"Authorization": "abc"}, "body": "secret words", "n": 1},
            "url": "mqtt://user:hunter2@broker:1883",
            "problem": "upstream said: Bearer eyJhbGciOi is not valid, nor sk-abcdefghijkl",
            "input_tokens": 12,
            "deployment": "small",
        },
    )
    text = json.dumps(line)
    for secret in ("abc", "secret words", "hunter2", "eyJhbGciOi", "sk-abcdef"):
        assert secret not in text
    assert (line["input_tokens"], line["deployment"]) == (12, "small")
    assert line["url"] == f"mqtt://{HIDDEN}@broker:1883"
    assert line["nested"]["n"] == 1


def test_a_failed_call_is_told_as_its_service_names_it() -> None:
    """Status, code and request id, by which the service's support finds the call; nothing where nothing is known. Of
    an OpenAI-compatible server too."""
    body = b'{"error":{"message":"your prompt was: secret words","type":"requests","code":"rate_limit_exceeded"}}'
    error = error_of_status(429, {"x-request-id": "req_1a"}, body)
    failed = next(e for e in trouble_events(0, POLICY) if isinstance(e, AttemptEnded))
    stream = Counting()
    sink = Sink((configure(stream),))
    for said in (error.said, None):
        sink.emit(msgspec.structs.replace(failed, outcome=msgspec.structs.replace(failed.outcome, said=said)))
    sink.drain_all()
    full, bare = stream.lines()
    told = {name: value for name, value in full.items() if name.startswith("service_")}
    assert (full["event"], full["code"]) == ("attempt_failed", "throttled")
    assert told == {"service_status": 429, "service_code": "rate_limit_exceeded", "service_request_id": "req_1a"}
    assert not any(name.startswith("service_") for name in bare)
    assert "secret words" not in stream.getvalue()


def test_loggers_of_libraries_come_through_the_same_door() -> None:
    """A warning of the standard library's logging is one redacted JSON line too; chatter below it is not written."""
    stream = Counting()
    configure(stream)
    logging.getLogger("some.library").warning("cannot reach mqtt://user:hunter2@broker")
    logging.getLogger("some.library").info("chatter")
    (line,) = stream.lines()
    assert line["event"] == f"cannot reach mqtt://{HIDDEN}@broker"
    assert line["level"] == "warning"


def test_a_line_said_directly_keeps_the_order() -> None:
    """A logger used outside the event log writes after what was held before it."""
    stream, rng = Counting(), Random(1)
    log = configure(stream)
    for event in request_events(1, rng, POLICY):
        handler = log.handlers().get(type(event))
        if handler is not None:
            handler(event)
    structlog.get_logger().error("shell_failed", error="x")
    assert [line["event"] for line in stream.lines()] == ["decision", "request_ended", "shell_failed"]


def test_a_traceback_is_one_json_line() -> None:
    """An exception logged off a terminal stays on its line."""
    stream = Counting()
    configure(stream)
    try:
        raise ValueError("no good")
    except ValueError:
        structlog.get_logger().exception("loop_failed")
    (line,) = stream.lines()
    assert line["event"] == "loop_failed"
    assert "ValueError: no good" in str(line["exception"])


def test_a_terminal_gets_words_and_no_forged_lines() -> None:
    """On a terminal the console form is used, and a newline inside a value cannot begin a line."""
    stream = Terminal()
    sink = Sink((configure(stream),))
    sink.emit(IngressEvent("mqtt", "dead_letter", "x\n2026-01-01 [info] forged"))
    sink.drain_all()
    assert stream.getvalue().count("\n") == 1
    assert "ingress_dead_letter" in stream.getvalue()
    with pytest.raises(json.JSONDecodeError):
        stream.lines()


def test_an_invalid_traceparent_is_not_repeated() -> None:
    """What is not a trace id by the standard does not get into the trace_id field."""
    stream = Counting()
    sink = Sink((configure(stream),))
    event = next(e for e in request_events(1, Random(1), POLICY) if isinstance(e, RequestEnded))
    request = msgspec.structs.replace(event.request, traceparent="00-" + "my secret words".ljust(32, ".") + "-x")
    sink.emit(msgspec.structs.replace(event, request=request))
    sink.drain_all()
    assert stream.lines()[0]["trace_id"] is None


def test_below_the_level_nothing_is_even_asked_for() -> None:
    """At info the event log does not subscribe to what it would not say."""
    assert DecisionMade in configure(io.StringIO()).handlers()
    assert len(configure(io.StringIO(), level="debug").handlers()) > len(configure(io.StringIO()).handlers())
