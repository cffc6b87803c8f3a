"""What a running controller keeps about its own learning: where it comes from, what is frozen, what is to be told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from router.core.learned.lineage import Lineage, Step
from router.domain.events import Event
from router.domain.learned import Part


class Freezable(Protocol):
    """A model that learns nothing while it is frozen."""

    frozen: bool


class Learning:
    """One per controller. `models` are those that can be frozen; latency models come and go with deployments."""

    def __init__(self, estimator: str, models: dict[Part, Freezable]) -> None:
        self.estimator = estimator
        """Digest of the artefact behind the estimates; empty where there is none."""
        self.frozen: frozenset[Part] = frozenset()
        self.parent: Lineage | None = None
        """Of the checkpoint that was restored or written last."""
        self.steps: tuple[Step, ...] = ()
        """What was done since then."""
        self._models = models
        self._untold: list[Event] = []

    def freeze(self, parts: Iterable[Part]) -> None:
        """From here on nothing is learned of these, and of these only."""
        self.frozen = frozenset(parts)
        for part, model in self._models.items():
            model.frozen = part in self.frozen

    def hold(self, latencies: Iterable[Freezable]) -> None:
        """Have the latency models of a fleet, which may be new, stand still or go on."""
        for latency in latencies:
            latency.frozen = Part.LATENCY in self.frozen

    def on_done(self, step: Step, event: Event | None = None) -> None:
        """Something was done: it stands in the next checkpoint's lineage, and the event is told with the next tick."""
        self.steps += (step,)
        if event is not None:
            self._untold.append(event)

    def tell(self, event: Event) -> None:
        """Have an event told with the next tick."""
        self._untold.append(event)

    def told(self) -> list[Event]:
        """What is to be told, once."""
        untold, self._untold = self._untold, []
        return untold

    def on_saved(self, lineage: Lineage) -> None:
        """A checkpoint stands for what is known: the next one goes on from it."""
        self.parent, self.steps = lineage, ()
