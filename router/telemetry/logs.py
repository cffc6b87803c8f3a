"""Log lines: event name first, then ids and figures. Never a prompt, an answer or a key.

`configure` sets structlog up once: JSON off a terminal, the console form on one, and the standard library's
loggers (uvicorn, aiomqtt, boto) through the same door. `EventLog` says one line for each decision and step of
life; its lines are gathered and leave in a single write when the sink's batch ends.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from time import time
from typing import TextIO

import structlog
from msgspec import json as codec
from structlog.typing import EventDict, Processor

from router.domain import events as ev
from router.domain.outcome import Ending
from router.telemetry.sink import Handler, Handlers
from router.wire.trace import read_trace

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
HIDDEN = "[redacted]"
TEXT_MAX = 200

_PLAIN = frozenset({int, float, bool, type(None)})
_SECRET = re.compile(
    r"authorization|api_?key|passwo?r?d|secret|cookie|credential|access_?token|bearer"
    r"|^(prompt|messages?_?content|messages|content|payload|body|choices|last_user|system)$"
)
_IN_TEXT = re.compile(r"(?<=://)[^/@\s]+(?=@)|(?i:bearer)\s+\S+|\bsk-[\w-]{8,}")


class Lines:
    """Rendered lines on their way to a stream. Every level is the same call."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._held: list[str] = []

    def hold(self, line: str) -> None:
        """Keep a line until the next `flush`."""
        self._held.append(line)

    def say(self, line: str) -> None:
        """Write a line now, after those held before it."""
        self._held.append(line)
        self.flush()

    def flush(self) -> None:
        """One write of everything held."""
        if self._held:
            text = "\n".join(self._held) + "\n"
            self._held.clear()
            self._stream.write(text)
            self._stream.flush()


class Level:
    """The logger structlog ends in: each of its level methods takes a rendered line."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = self.msg = take


def redact(_logger: object, _method: str, event_dict: EventDict) -> EventDict:
    """Hide what must not be logged: secret keys, content keys, and credentials inside text."""
    for key, value in event_dict.items():
        kind = type(value)
        if _is_secret(key):
            event_dict[key] = HIDDEN
        elif kind in _PLAIN:
            continue
        elif kind is str:
            if "://" in value or "earer" in value or "sk-" in value:
                event_dict[key] = _IN_TEXT.sub(HIDDEN, value)
        else:
            event_dict[key] = _redacted(value)
    return event_dict


def configure(stream: TextIO, *, level: str = "info", json: bool | None = None) -> EventLog:
    """Set up logging for the process and return the subscriber that logs events. `json` defaults to "off a
    terminal"."""
    as_json = not stream.isatty() if json is None else json
    lines = Lines(stream)
    render: list[Processor] = [_to_json] if as_json else [_printable, structlog.dev.ConsoleRenderer()]
    if as_json:
        render.insert(0, structlog.processors.format_exc_info)
    front: list[Processor] = [structlog.processors.add_log_level, _stamp]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *front, redact, *render],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: Level(lines.say),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=front,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, *render],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(LEVELS[level], logging.WARNING))
    logger = structlog.wrap_logger(
        Level(lines.hold),
        processors=[*front, redact, *([_to_json] if as_json else render)],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
    )
    return EventLog(logger.bind(), lines, LEVELS[level])


class EventLog:
    """One line for each decision and step of life; load, prices and single calls only at debug level."""

    name = "logs"

    def __init__(self, logger: structlog.typing.FilteringBoundLogger, lines: Lines, level: int) -> None:
        self._log, self._lines, self._level = logger, lines, level

    def handlers(self) -> Handlers:
        """Handlers for the event types that the level lets through."""
        info: dict[type[ev.Event], Handler] = {
            ev.RequestRejected: self._on_rejected,
            ev.DecisionMade: self._on_decision,
            ev.AttemptEnded: self._on_attempt,
            ev.RequestEnded: self._on_ended,
            ev.HealthChanged: self._on_health,
            ev.PolicyApplied: self._on_applied,
            ev.PolicyRejected: self._on_refused,
            ev.IngressEvent: self._on_ingress,
        }
        debug: dict[type[ev.Event], Handler] = {
            ev.RequestReceived: self._on_received,
            ev.FeedbackReceived: self._on_feedback,
            ev.LimitUpdate: self._plain("limit_updated"),
            ev.PriceUpdate: self._plain("price_updated"),
            ev.CheckpointSaved: self._plain("checkpoint_saved"),
            ev.LoadObserved: self._plain("load_observed"),
            ev.QueueObserved: self._plain("queue_observed"),
        }
        return info | debug if self._level <= LEVELS["debug"] else info

    def flush(self) -> None:
        """Write the batch."""
        self._lines.flush()

    def _plain(self, name: str) -> Handler:
        def say(event: ev.Event) -> None:
            self._log.debug(name, **{field: getattr(event, field) for field in event.__struct_fields__})

        return say

    def _on_received(self, event: ev.RequestReceived) -> None:
        request = event.request
        self._log.debug(
            "request_received",
            request_id=request.id,
            request_class=event.request_class,
            source=request.source,
            tenant=request.tenant,
            input_tokens=request.input_tokens,
            trace_id=_trace_id(request.traceparent),
        )

    def _on_rejected(self, event: ev.RequestRejected) -> None:
        self._log.info(
            "request_rejected",
            request_id=event.request.id,
            request_class=event.request_class,
            code=event.code,
            stage=event.stage,
            trace_id=_trace_id(event.request.traceparent),
        )

    def _on_decision(self, event: ev.DecisionMade) -> None:
        decision = event.decision
        self._log.info(
            "decision",
            at=decision.at,
            decision_id=decision.id,
            request_id=decision.request_id,
            request_class=decision.request_class,
            deployment=decision.chosen,
            binding=decision.binding,
            propensity=decision.propensity,
            complexity=decision.complexity,
            scores={c.deployment: round(c.score, 4) for c in decision.candidates},
            excluded={e.deployment: e.code for e in decision.excluded},
            policy=decision.policy,
            decide_s=decision.decide_s,
        )

    def _on_attempt(self, event: ev.AttemptEnded) -> None:
        outcome = event.outcome
        failed = outcome.ending is Ending.FAILED
        say = self._log.warning if failed else self._log.debug
        say(
            "attempt_failed" if failed else "attempt_ended",
            attempt_id=outcome.attempt.id,
            decision_id=outcome.attempt.decision_id,
            deployment=outcome.attempt.deployment.name,
            number=outcome.attempt.number,
            ending=outcome.ending,
            code=outcome.error_code,
            retry_after_s=outcome.retry_after_s,
        )

    def _on_ended(self, event: ev.RequestEnded) -> None:
        self._log.info(
            "request_ended",
            at=event.at,
            request_id=event.request.id,
            decision_id=event.decision_id,
            request_class=event.request_class,
            deployment=event.deployment,
            status=event.status,
            code=event.code,
            attempts=event.attempts,
            ttft_s=event.ttft_s,
            e2e_s=event.e2e_s,
            queue_s=event.queue_s,
            input_tokens=event.input_tokens,
            output_tokens=event.output_tokens,
            cost_usd=event.cost_usd,
            slo_met=event.slo_met,
            trace_id=_trace_id(event.request.traceparent),
        )

    def _on_feedback(self, event: ev.FeedbackReceived) -> None:
        name = "feedback_received" if event.known else "feedback_unknown"
        self._log.debug(name, decision_id=event.decision_id, quality=event.quality)

    def _on_health(self, event: ev.HealthChanged) -> None:
        self._log.warning(
            "health_changed", deployment=event.deployment, old=event.old, new=event.new, reason=event.reason
        )

    def _on_applied(self, event: ev.PolicyApplied) -> None:
        self._log.info("policy_applied", at=event.at, old=event.old, new=event.new, diff=event.diff)

    def _on_refused(self, event: ev.PolicyRejected) -> None:
        self._log.error("policy_rejected", at=event.at, digest=event.digest, problems=event.problems)

    def _on_ingress(self, event: ev.IngressEvent) -> None:
        say = self._log.debug if event.what == "replied" else self._log.info
        say("ingress_" + event.what, source=event.source, detail=event.detail[:TEXT_MAX], count=event.count)


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return _SECRET.search(key.lower().replace("-", "_")) is not None


def _redacted(value: object) -> object:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        return {k: HIDDEN if _is_secret(str(k)) else _redacted(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redacted(item) for item in value]
    return _IN_TEXT.sub(HIDDEN, value) if isinstance(value, str) else value


def _stamp(_logger: object, _method: str, event_dict: EventDict) -> EventDict:
    at = event_dict.pop("at", None) or time()
    event_dict["timestamp"] = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return event_dict


def _to_json(_logger: object, _method: str, event_dict: EventDict) -> str:
    line = {"event": event_dict.pop("event", ""), "timestamp": event_dict.pop("timestamp"), **event_dict}
    return codec.encode(line, enc_hook=repr).decode()


def _printable(_logger: object, _method: str, event_dict: EventDict) -> EventDict:
    for key, value in event_dict.items():
        if type(value) is str and not value.isprintable():
            event_dict[key] = repr(value)
    return event_dict


def _trace_id(traceparent: str | None) -> str | None:
    trace = read_trace(traceparent)
    return None if trace is None else trace.trace_id
