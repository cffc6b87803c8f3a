"""What is done to what was learned, in figures and in the log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client import CollectorRegistry

from bench.traffic import policy
from router.domain.events import Event
from router.domain.learned import (
    FREEZABLE,
    BeliefsWidened,
    LearnedImported,
    LearnedReset,
    LearningFrozen,
    Part,
)
from router.storage.history_entries import Kind, entry_of
from router.telemetry.logs import configure
from router.telemetry.metrics import Metrics
from router.telemetry.sink import Sink

EVENTS: tuple[Event, ...] = (
    LearnedReset(("quality", "lengths"), ("m",), (), 3, 1.0),
    LearnedImported("abc", ("quality",), ("m",), 2.0),
    LearningFrozen(("quality",), 3.0),
    BeliefsWidened("one", "two", ("a", "b"), 4.0),
)


@pytest.fixture
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_changes_and_what_is_frozen_are_figures() -> None:
    """By part, from 0 on; a thaw is seen."""
    registry = CollectorRegistry()
    sink = Sink(Metrics(policy(), registry).subscribers)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert [value("router_learning_frozen", part=part) for part in FREEZABLE] == [0.0] * len(FREEZABLE)
    assert {value("router_learned_changes_total", change="reset", part=part) for part in Part} == {0.0}
    for event in EVENTS:
        sink.emit(event)
    sink.drain_all()
    assert not any(sink.failures.values())
    assert value("router_learning_frozen", part="quality") == 1.0
    assert value("router_learning_frozen", part="latency") == 0.0
    assert value("router_learned_changes_total", change="reset", part="lengths") == 1.0
    assert value("router_learned_changes_total", change="imported", part="quality") == 1.0
    assert value("router_learned_widened_models_total") == 2.0
    sink.emit(LearningFrozen((), 5.0))
    sink.drain_all()
    assert value("router_learning_frozen", part="quality") == 0.0


@pytest.mark.usefixtures("_restored")
def test_each_change_is_a_line_of_the_log() -> None:
    """At the level a daemon runs at, with the models' names, which are no labels."""
    out = io.StringIO()
    sink = Sink([configure(out, json=True)])
    for event in EVENTS:
        sink.emit(event)
    sink.drain_all()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in lines] == [
        *("learned_reset", "learned_imported", "learning_frozen", "beliefs_widened")
    ]
    assert (lines[0]["models"], lines[1]["source"], lines[3]["old"]) == (["m"], "abc", "one")


def test_each_change_stands_in_the_history() -> None:
    """Who did it, to what, and how."""
    found = [entry_of(event, 0.0) for event in (*EVENTS, LearningFrozen((), 5.0))]
    assert {entry.what for entry in found} == {Kind.LEARNED}
    assert [(entry.who, entry.subject, entry.state) for entry in found] == [
        ("operator", "quality, lengths", "forgotten"),
        ("operator", "quality", "imported"),
        ("operator", "quality", "frozen"),
        ("controller", "quality", "believed less"),
        ("operator", "everything", "learned again"),
    ]
    assert (found[0].details, found[1].why, found[3].new) == (("m",), "from abc", "two")
