"""The sink: everyone is told, nobody is harmed, nothing grows without bound."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
import structlog

from bench.traffic import policy, request_events, tick_events
from router.domain.events import DecisionMade, Event, QueueObserved
from router.telemetry.sink import Sink


class Listener:
    """A subscriber that remembers what it was told and when it was asked to flush."""

    def __init__(self, name: str, *types: type[Event], breaks: bool = False) -> None:
        self.name, self._types, self._breaks = name, types, breaks
        self.told: list[Event] = []
        self.flushed_after: list[int] = []

    def handlers(self) -> dict[type[Event], Callable[..., None]]:
        return dict.fromkeys(self._types, self._on)

    def flush(self) -> None:
        self.flushed_after.append(len(self.told))

    def _on(self, event: Event) -> None:
        if self._breaks:
            raise ValueError("broken")
        self.told.append(event)


@pytest.fixture(autouse=True)
def said() -> object:
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_each_subscriber_gets_the_types_it_asked_for_in_order() -> None:
    """Events reach every subscriber of their type, in the order emitted, and nobody else."""
    decisions, queue = Listener("a", DecisionMade), Listener("b", DecisionMade, QueueObserved)
    sink, rng, of = Sink((decisions, queue)), Random(1), policy()
    sent = [event for n in range(5) for event in (*request_events(n, rng, of), *tick_events(n, of))]
    for event in sent:
        sink.emit(event)
    sink.drain_all()
    assert decisions.told == [event for event in sent if isinstance(event, DecisionMade)]
    assert queue.told == [event for event in sent if isinstance(event, DecisionMade | QueueObserved)]


def test_emit_does_no_work_before_the_drain() -> None:
    """A subscriber is not called on the path of the request."""
    listener = Listener("a", QueueObserved)
    sink = Sink((listener,))
    sink.emit(QueueObserved(1, 0.0))
    assert listener.told == []
    assert sink.waiting == 1


def test_a_drain_is_bounded_and_says_what_is_left() -> None:
    """One drain hands out at most its limit, then lets the subscribers write once."""
    listener = Listener("a", QueueObserved)
    sink = Sink((listener,))
    for n in range(10):
        sink.emit(QueueObserved(n, 0.0))
    assert sink.drain(4) == 6
    assert listener.flushed_after == [4]
    assert sink.drain(100) == 0
    assert listener.flushed_after == [4, 10]
    assert sink.drain() == 0
    assert listener.flushed_after == [4, 10], "an empty drain writes nothing"


def test_a_failing_subscriber_is_counted_and_harms_nobody(said: list[dict[str, object]]) -> None:
    """Others still get every event; the failures are counted by name and said once."""
    broken, fine = Listener("broken", QueueObserved, breaks=True), Listener("fine", QueueObserved)
    sink = Sink((broken, fine))
    for n in range(3):
        sink.emit(QueueObserved(n, 0.0))
    sink.drain_all()
    assert len(fine.told) == 3
    assert sink.failures == {"broken": 3, "fine": 0}
    assert [line["subscriber"] for line in said] == ["broken"]


def test_a_flush_that_fails_is_counted_too() -> None:
    """A subscriber that cannot write does not keep the next one from writing."""

    class Unwritable(Listener):
        def flush(self) -> None:
            raise OSError("disk full")

    unwritable, fine = Unwritable("unwritable"), Listener("fine", QueueObserved)
    sink = Sink((unwritable, fine))
    sink.emit(QueueObserved(1, 0.0))
    sink.drain_all()
    assert sink.failures["unwritable"] == 1
    assert fine.flushed_after == [1]


def test_a_full_queue_drops_the_newest_and_counts() -> None:
    """Nobody draining costs memory for `capacity` events and no more."""
    listener = Listener("a", QueueObserved)
    sink = Sink((listener,), capacity=3)
    for n in range(5):
        sink.emit(QueueObserved(n, 0.0))
    sink.drain_all()
    assert [event.waiting for event in listener.told if isinstance(event, QueueObserved)] == [0, 1, 2]
    assert sink.dropped == 2
