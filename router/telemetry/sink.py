"""Fans events out to whoever listens, off the path of the request.

`emit` only queues (a length check and an append). `drain`, called by a loop, hands what has queued to the
subscribers of each event type, a bounded number at a time so that the loop stays responsive. A subscriber
that raises loses that one event; it is counted, said once in the log, and nothing else notices.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from router.domain.events import Event

Handler = Callable[..., None]
Handlers = Mapping[type[Event], Handler]


class Subscriber(Protocol):
    """Who is told. `name` is a metric label."""

    @property
    def name(self) -> str:
        """What it is called in the metrics."""
        ...

    def handlers(self) -> Handlers:
        """One handler for each event type it wants."""
        ...

    def flush(self) -> None:
        """A batch has ended: write what was gathered."""
        ...


class Sink:
    """A bounded queue of events and the routes from event type to handlers."""

    def __init__(self, subscribers: Sequence[Subscriber], *, capacity: int = 65_536) -> None:
        self._subscribers = tuple(subscribers)
        self._capacity = capacity
        self._waiting: deque[Event] = deque()
        self._routes: dict[type[Event], tuple[tuple[str, Handler], ...]] = {}
        for subscriber in self._subscribers:
            for event_type, handler in subscriber.handlers().items():
                self._routes[event_type] = (*self._routes.get(event_type, ()), (subscriber.name, handler))
        self.dropped = 0
        self.failures: Counter[str] = Counter({subscriber.name: 0 for subscriber in self._subscribers})

    @property
    def waiting(self) -> int:
        """Events queued and not yet handed out."""
        return len(self._waiting)

    def emit(self, event: Event) -> None:
        """Queue one event. A full queue (nobody drains) drops it and counts."""
        if len(self._waiting) >= self._capacity:
            self.dropped += 1
        else:
            self._waiting.append(event)

    def drain(self, limit: int = 64) -> int:
        """Hand out up to `limit` events and let the subscribers write; returns how many still wait."""
        waiting = self._waiting
        batch = min(limit, len(waiting))
        if not batch:
            return 0
        for _ in range(batch):
            event = waiting.popleft()
            for name, handler in self._routes.get(type(event), ()):
                try:
                    handler(event)
                except Exception as error:
                    self._failed(name, type(event).__name__, error)
        for subscriber in self._subscribers:
            try:
                subscriber.flush()
            except Exception as error:
                self._failed(subscriber.name, "flush", error)
        return len(waiting)

    def drain_all(self) -> None:
        """Hand out everything that waits: at shutdown, and in tests."""
        while self.drain():
            pass

    def _failed(self, name: str, what: str, error: Exception) -> None:
        self.failures[name] += 1
        if self.failures[name] == 1:
            structlog.get_logger().error("subscriber_failed", subscriber=name, on=what, error=repr(error))
