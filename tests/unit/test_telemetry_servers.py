"""What servers tell of their load, in the metrics and in the log."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
import structlog
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from bench.traffic import policy
from router.domain.control.servers import ServerAsked, ServerHeard
from router.domain.deployment import TelemetryTerms
from router.domain.events import Event
from router.telemetry.logs import configure
from router.telemetry.metrics import Metrics
from router.telemetry.sink import Sink

PLAIN = policy(classes=1, deployments=2)
NAME, OTHER = (d.name for d in PLAIN.deployments)
TERMS = TelemetryTerms("http://s/metrics", 0.5, 0.25)
POLICY = replace(PLAIN, deployments=(replace(PLAIN.deployments[0], telemetry=TERMS), PLAIN.deployments[1]))


class Told:
    """Metrics behind a sink, with their values by name and labels."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(POLICY, self.registry)
        self._sink = Sink(self.metrics.subscribers)

    def tell(self, *events: Event) -> None:
        for event in events:
            self._sink.emit(event)
        self._sink.drain_all()
        assert not any(self._sink.failures.values())

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"deployment": NAME, **labels})


def test_only_who_is_asked_has_series() -> None:
    """Tries begin at 0; of load there is none before it is told."""
    told = Told()
    assert told.value("router_server_scrapes_total", result="timeout") == 0.0
    assert told.value("router_server_scrapes_total", result="timeout", deployment=OTHER) is None
    assert told.value("router_server_up") is None
    assert told.value("router_server_sequences", state="running") is None


def test_what_a_server_tells_is_shown() -> None:
    """Sequences by state, the share of its cache, and as of when."""
    told = Told()
    told.tell(ServerAsked(NAME, "ok", 1.9e9, 12, 3, 0.4))
    assert told.value("router_server_sequences", state="running") == 12.0
    assert told.value("router_server_sequences", state="waiting") == 3.0
    assert told.value("router_server_kv_ratio") == 0.4
    assert told.value("router_server_load_timestamp_seconds") == 1.9e9
    assert (told.value("router_server_up"), told.value("router_server_scrapes_total", result="ok")) == (1.0, 1.0)


def test_a_silent_server_has_an_age_and_no_figures() -> None:
    """Old figures would look like new ones; the moment at which they were told stays."""
    told = Told()
    told.tell(ServerAsked(NAME, "ok", 1.9e9, 12, 3, 0.4), ServerAsked(NAME, "timeout", 1.9e9 + 1.0))
    assert told.value("router_server_sequences", state="running") is None
    assert told.value("router_server_kv_ratio") is None
    assert told.value("router_server_load_timestamp_seconds") == 1.9e9
    assert (told.value("router_server_up"), told.value("router_server_scrapes_total", result="timeout")) == (0.0, 1.0)


def test_who_is_asked_no_more_leaves_no_figures() -> None:
    """Else its silence would be alerted on for ever."""
    told = Told()
    told.tell(ServerAsked(NAME, "timeout", 1.9e9))
    told.metrics.adopt(PLAIN)
    assert told.value("router_server_up") is None


@pytest.fixture
def logged() -> Iterator[tuple[Sink, io.StringIO]]:
    root, text = logging.getLogger(), io.StringIO()
    handlers, level = list(root.handlers), root.level
    yield Sink([configure(text, json=True)]), text
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_the_log_says_once_why_a_server_is_silent(logged: tuple[Sink, io.StringIO]) -> None:
    """Tries are told at debug level only."""
    sink, text = logged
    sink.emit(ServerAsked(NAME, "timeout", 1.9e9))
    sink.emit(ServerHeard(NAME, False, "it answered 404"))
    sink.drain_all()
    (line,) = text.getvalue().splitlines()
    assert '"event":"server_heard"' in line
    assert "it answered 404" in line
