"""Log lines: event name first, then ids and figures. Never a prompt, an answer or a key.

`configure` sets structlog up once: JSON off a terminal, the console form on one, and the standard library's
loggers (uvicorn, aiomqtt, boto) through the same door. Lines of events are gathered and leave in a single write when
the sink's batch ends.
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

from router.telemetry.event_log import EventLog

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
HIDDEN = "[redacted]"

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
    return EventLog(logger.bind(), lines.flush, debug=LEVELS[level] <= LEVELS["debug"])


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
