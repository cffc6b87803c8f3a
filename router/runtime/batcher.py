"""Joins attempts where a deployment takes them by the batch: one batch at a time, its size bound when it starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from router.control.batching import BatchTuner
from router.domain.errors import BackendError
from router.domain.outcome import Attempt, Delta
from router.ports.backend import BatchBackend


class _Item:
    __slots__ = ("allowed_wait_s", "attempt", "due", "joined", "result")

    def __init__(self, attempt: Attempt, joined: float, due: float | None, allowed_wait_s: float) -> None:
        self.attempt = attempt
        self.joined = joined
        self.due = due
        self.allowed_wait_s = allowed_wait_s
        self.result: asyncio.Future[tuple[Delta, float]] = asyncio.get_running_loop().create_future()


class Batcher:
    """The batches of one deployment."""

    tuner: BatchTuner

    def __init__(self, backend: BatchBackend, now: Callable[[], float]) -> None:
        self._backend = backend
        self._now = now
        self._waiting: list[_Item] = []
        self._running: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def join(self, attempt: Attempt, *, due: float | None, wait_s: float) -> tuple[Delta, float]:
        """The whole answer, and how long it waited for its batch; raises the batch's `BackendError`."""
        item = _Item(attempt, self._now(), due, wait_s)
        self._waiting.append(item)
        self._consider()
        try:
            return await item.result
        finally:
            if item in self._waiting:
                self._waiting.remove(item)

    def _consider(self) -> None:
        """Start a batch now, or set a timer for when it is no longer worth waiting."""
        if self._running is not None or not self._waiting:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        tuner, now = self.tuner, self._now()
        first = min(self._waiting, key=lambda i: (i.due is None, i.due or i.joined))
        slack = None if first.due is None else first.due - now
        spent = now - self._waiting[0].joined
        wait = tuner.wait_s(len(self._waiting), slack, min(i.allowed_wait_s for i in self._waiting) - spent)
        if wait > 0.0:
            self._timer = asyncio.get_running_loop().call_later(wait, self._consider)
            return
        ordered = sorted(self._waiting, key=lambda i: (i.due is None, i.due or i.joined))
        batch = ordered[: tuner.size(len(ordered), slack)]
        chosen = set(map(id, batch))
        self._waiting = [i for i in self._waiting if id(i) not in chosen]
        self._running = asyncio.get_running_loop().create_task(self._run(batch, tuner))

    async def _run(self, batch: list[_Item], tuner: BatchTuner) -> None:
        started = self._now()
        try:
            deltas = await self._backend.run_batch(tuple(item.attempt for item in batch))
            tuner.observe(len(batch), self._now() - started, now=self._now())
            for item, delta in zip(batch, deltas, strict=True):
                if not item.result.done():
                    item.result.set_result((delta, started - item.joined))
        except BackendError as error:
            for item in batch:
                if not item.result.done():
                    item.result.set_exception(error)
        finally:
            self._running = None
            self._consider()

    async def close(self) -> None:
        """Wait for the batch that is running."""
        if self._running is not None:
            await self._running
