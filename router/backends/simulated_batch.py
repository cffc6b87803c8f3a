"""How does a batch endpoint answer? One batch at a time, in order of arrival; all of it ends together. Sans-IO.

A batch of n items lasts `slowdown * (base + per_item*n)`, with the slowdown in force when it starts.
"""

from __future__ import annotations

from collections import deque

from router.backends.simulated_events import Disturbances, Gate, Refusal
from router.backends.simulated_fleet import DeploymentSpec
from router.backends.simulated_steps import Batch, Gauge, Stage

_PS_PER_MS = 1_000_000_000
_PS_PER_NS = 1000


class BatchServer:
    """One endpoint. `arrive` and `cancel` ask that `advance` was called for the same instant first."""

    def __init__(self, spec: DeploymentSpec, disturbances: Disturbances, *, seed: str) -> None:
        if spec.batch_ms is None:
            raise ValueError(f"{spec.name} has no batch_ms")
        self._base = round(spec.batch_ms.base * _PS_PER_MS)
        self._per_item = round(spec.batch_ms.per_item * _PS_PER_MS)
        self._disturbances = disturbances
        self._gate = Gate(disturbances, seed=seed, largest=spec.max_items)
        self._outage_ns = disturbances.next_outage(-1)
        self._waiting: deque[Batch] = deque()
        self._running: Batch | None = None
        self._ends_ns = 0

    def advance(self, now: int) -> list[Batch]:
        """Let time pass to `now`; the batches that have ended since the last call, in order."""
        ended: list[Batch] = []
        while self._outage_ns is not None and self._outage_ns <= now:
            ended += self._run_to(self._outage_ns)
            ended += self._fall(self._outage_ns)
        return ended + self._run_to(now)

    def wake_ns(self) -> int | None:
        """When `advance` should be called next so that no news comes late."""
        if self._running is None:
            return None
        return self._ends_ns if self._outage_ns is None else min(self._ends_ns, self._outage_ns)

    def arrive(self, batch: Batch, now: int) -> Refusal | None:
        """Take a batch, or say why not."""
        refusal = self._gate.refusal(batch.items, now)
        if refusal is None:
            batch.arrived_ns = now
            self._waiting.append(batch)
            self._start(now)
        return refusal

    def cancel(self, batch: Batch, now: int) -> None:
        """Forget a batch that waits; one under way goes on to its end, for nobody."""
        if batch.stage is Stage.WAITING:
            self._waiting.remove(batch)
        if not batch.ended:
            batch.stage = Stage.CANCELLED

    def gauge(self, now: int) -> Gauge:
        """Items under way and waiting, for an instant that `advance` was called for."""
        running = self._running.items if self._running else 0
        return Gauge(running=running, waiting=sum(batch.items for batch in self._waiting), kv_ratio=0.0)

    def _run_to(self, now: int) -> list[Batch]:
        ended = []
        while self._running is not None and self._ends_ns <= now:
            if self._running.stage is not Stage.CANCELLED:
                self._running.stage = Stage.DONE
                ended.append(self._running)
            self._running = None
            self._start(self._ends_ns)
        return ended

    def _start(self, now: int) -> None:
        if self._running is None and self._waiting:
            batch = self._running = self._waiting.popleft()
            batch.stage = Stage.DECODE
            pace = self._disturbances.slowdown(now)
            work = (self._base + self._per_item * batch.items) * pace.numerator
            self._ends_ns = now + work // (pace.denominator * _PS_PER_NS)

    def _fall(self, now: int) -> list[Batch]:
        """Lose everything to an outage that begins now."""
        lost = [batch for batch in (self._running, *self._waiting) if batch is not None and not batch.ended]
        for batch in lost:
            batch.stage = Stage.LOST
        self._waiting.clear()
        self._running = None
        self._outage_ns = self._disturbances.next_outage(now)
        return lost
