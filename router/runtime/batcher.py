"""Joins attempts where a deployment takes them by the batch: one batch at a time, its size bound when it starts.

A batch that nobody waits for any more is given up, so that an endpoint that hangs is not waited for by all who follow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from router.control.batching import BatchTuner
from router.domain.errors import BackendError, ProtocolError
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

    def urgency(self) -> tuple[bool, float]:
        """Those with a due time first, the earliest of them ahead."""
        return (self.due is None, self.joined if self.due is None else self.due)

    def fail(self, error: BackendError) -> None:
        """Say so to who waits, if anybody still does."""
        if not self.result.done():
            self.result.set_exception(error)


class Batcher:
    """The batches of one deployment."""

    def __init__(self, backend: BatchBackend, tuner: BatchTuner, now: Callable[[], float]) -> None:
        self._backend = backend
        self._tuner = tuner
        self._now = now
        self._waiting: list[_Item] = []
        self._batch: list[_Item] = []
        self._running: asyncio.Task[None] | None = None
        self._started = 0.0
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
            elif self._running is not None and all(other.result.done() for other in self._batch):
                self._give_up(self._running)

    def _give_up(self, running: asyncio.Task[None]) -> None:
        now = self._now()
        self._tuner.observe_unfinished(len(self._batch), now - self._started, now=now)
        running.cancel()

    def _consider(self) -> None:
        """Start a batch now, or set a timer for when it is no longer worth waiting."""
        if self._running is not None or not self._waiting:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._now()
        ordered = sorted(self._waiting, key=_Item.urgency)
        slack = None if ordered[0].due is None else ordered[0].due - now
        spent = now - self._waiting[0].joined
        allowed = min(item.allowed_wait_s for item in ordered) - spent
        wait = self._tuner.wait_s(len(ordered), slack, allowed)
        if wait > 0.0:
            self._timer = asyncio.get_running_loop().call_later(wait, self._consider)
            return
        size = self._tuner.size(len(ordered), slack)
        batch, self._waiting = ordered[:size], sorted(ordered[size:], key=lambda item: item.joined)
        self._batch, self._started = batch, now
        self._running = asyncio.get_running_loop().create_task(self._run(batch, now))

    async def _run(self, batch: list[_Item], started: float) -> None:
        try:
            deltas = await self._backend.run_batch(tuple(item.attempt for item in batch))
            if len(deltas) != len(batch):
                raise ProtocolError(f"{len(deltas)} answers to a batch of {len(batch)}")
            self._tuner.observe(len(batch), self._now() - started, now=self._now())
            for item, delta in zip(batch, deltas, strict=True):
                if not item.result.done():
                    item.result.set_result((delta, started - item.joined))
        except BackendError as error:
            for item in batch:
                item.fail(error)
        except BaseException as error:
            for item in batch:
                item.fail(ProtocolError(f"the batch failed with {type(error).__name__}"))
            if not isinstance(error, Exception):
                raise
        finally:
            self._running = None
            self._consider()
