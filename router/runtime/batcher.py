"""Joins attempts where a deployment takes them by the batch: one batch at a time, its size bound when it starts.

Items of all classes share a batch; the tightest slack binds. What can no longer be in time is refused when a batch
begins if its class may be shed, and rides along otherwise. A batch that fails for what may be one item's fault is run
again in halves, and what is refused of those in halves again. A batch that nobody waits for any more is given up, so
that an endpoint that hangs is not waited for by all who follow.
"""

from __future__ import annotations

import asyncio
import math
from bisect import insort
from collections.abc import Callable

from router.control.batching import BatchTuner
from router.domain.control.batches import BatchEnded, Start
from router.domain.errors import (
    BackendError,
    Overloaded,
    ProtocolError,
    Refused,
    Rejected,
    RouterError,
    Throttled,
    TimedOut,
    Unreachable,
)
from router.domain.events import Event
from router.domain.outcome import Attempt, Delta
from router.ports.backend import BatchBackend

_OF_THE_ENDPOINT = (Throttled, Overloaded, TimedOut, Unreachable)
"""Failures that no item of the batch can be to blame for."""
_RETRY_AFTER_S = 1.0
_LOOK_AGAIN = 0.1
"""Share of what is left to an item after which it is looked at again whether it should go elsewhere."""


class _Item:
    __slots__ = ("attempt", "due", "is_sheddable", "joined", "leaving", "result", "span_s", "until")

    def __init__(
        self, attempt: Attempt, joined: float, due: float | None, wait_s: float | None, *, is_sheddable: bool
    ) -> None:
        self.attempt = attempt
        self.joined = joined
        self.due = math.inf if due is None else due
        self.until = math.inf if wait_s is None else joined + wait_s
        self.is_sheddable = is_sheddable
        self.span_s = self.due - joined
        self.leaving: asyncio.TimerHandle | None = None
        self.result: asyncio.Future[tuple[Delta, float]] = asyncio.get_running_loop().create_future()

    def fail(self, error: RouterError) -> None:
        """Say so to who waits, if anybody still does."""
        if not self.result.done():
            self.result.set_exception(error)


class _Batch:
    """One batch on its way."""

    __slots__ = ("dropped", "items", "late", "reason", "wait_s")

    def __init__(self, items: list[_Item], reason: Start, *, wait_s: float = 0.0, dropped: int = 0, late: int = 0):
        self.items, self.reason = items, reason
        self.wait_s, self.dropped, self.late = wait_s, dropped, late


class Batcher:
    """The batches of one deployment; `tell` is given a `BatchEnded` for each."""

    def __init__(
        self, backend: BatchBackend, tuner: BatchTuner, now: Callable[[], float], tell: Callable[[Event], None]
    ) -> None:
        self._backend = backend
        self._tuner = tuner
        self._now = now
        self._tell = tell
        self._waiting: list[_Item] = []
        """Those due first ahead."""
        self._until = self._span_s = math.inf
        self._batch: _Batch | None = None
        self._running: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._held_since: float | None = None

    async def join(
        self,
        attempt: Attempt,
        *,
        due: float | None,
        wait_s: float | None,
        is_sheddable: bool = False,
        leave_s: float | None = None,
    ) -> tuple[Delta, float]:
        """The whole answer, and how long it waited for its batch; raises the batch's `BackendError`, or `Rejected`
        where it could no longer be in time. `wait_s` is the longest deliberate wait; `None` leaves it to the tuner.
        Somebody else could answer it in time until `leave_s` from now: it is let go then, with `Rejected`, where it has
        not been sent and would be late here."""
        now = self._now()
        item = _Item(attempt, now, due, wait_s, is_sheddable=is_sheddable)
        insort(self._waiting, item, key=_due)
        self._until = min(self._until, item.until)
        self._span_s = min(self._span_s, item.span_s)
        self._tuner.arrived(now=now)
        if self._running is None:
            self._consider()
        if leave_s is not None:
            item.leaving = asyncio.get_running_loop().call_later(leave_s, self._let_go, item)
        try:
            return await item.result
        finally:
            if item.leaving is not None:
                item.leaving.cancel()
            if not item.result.done() or item.result.cancelled():
                self._leave(item)

    def _let_go(self, item: _Item) -> None:
        """Others can still answer it in time: it goes if the batch that runs, and its own, would take too long."""
        now = self._now()
        if item not in self._waiting:
            return
        if self._running and now + self._tuner.wait_s(0, now=now) > item.due:
            self._leave(item)
            item.fail(_too_late())
        elif now < item.due:
            look_s = _LOOK_AGAIN * (item.due - now)
            item.leaving = asyncio.get_running_loop().call_later(look_s, self._let_go, item)

    def _leave(self, item: _Item) -> None:
        """Nobody waits for it any more."""
        if item in self._waiting:
            self._waiting.remove(item)
            self._measure()
            if not self._waiting:
                self._held_since = None
        elif self._running and self._batch and all(other.result.done() for other in self._batch.items):
            self._tuner.given_up(now=self._now())
            self._running.cancel()

    def _measure(self) -> None:
        """What those who wait have in common."""
        self._until = min((item.until for item in self._waiting), default=math.inf)
        self._span_s = min((item.span_s for item in self._waiting), default=math.inf)

    def _consider(self) -> None:
        """Start a batch now, or set a timer for when it is no longer worth waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._running is not None or not self._waiting:
            return
        now, due = self._now(), self._waiting[0].due
        at, reason = self._tuner.start(
            len(self._waiting),
            due=None if due == math.inf else due,
            span_s=self._span_s,
            until=self._until,
            now=now,
        )
        loop = asyncio.get_running_loop()
        if at > now:
            if self._held_since is None:
                self._held_since = now
            self._timer = loop.call_later(at - now, self._consider)
            return
        self._waiting = [item for item in self._waiting if not item.result.done()]
        if not self._waiting:
            self._measure()
            self._held_since = None
            return
        batch = self._form(reason, now)
        self._batch, self._held_since = batch, None
        self._running = loop.create_task(self._run(batch))

    def _form(self, reason: Start, now: float) -> _Batch:
        """Take from those who wait what goes now, and refuse who can no longer be in time and may be shed."""
        waiting = self._waiting
        lost, room = self._tuner.cut([item.due - now for item in waiting], now=now)
        in_time = waiting[lost:]
        late = [item for item in waiting[:lost] if not item.is_sheddable]
        shed = [item for item in waiting[:lost] if item.is_sheddable]
        riders = late[: max(room - len(in_time), min(room - 1, 1))]
        taken = in_time[: room - len(riders)]
        if not taken and not riders:
            taken = [shed.pop()]
        held = 0.0 if self._held_since is None else now - self._held_since
        self._waiting = late[len(riders) :] + in_time[len(taken) :]
        self._measure()
        for item in shed:
            item.fail(_too_late())
        return _Batch([*riders, *taken], reason, wait_s=held, dropped=len(shed), late=len(riders))

    async def _run(self, batch: _Batch) -> None:
        try:
            error = await self._call(batch)
            if error is None:
                return
            if len(batch.items) == 1 or isinstance(error, _OF_THE_ENDPOINT):
                _fail(batch.items, error)
                return
            await self._split([batch.items])
        except BaseException as error:
            _fail(batch.items, ProtocolError(f"the batch failed with {type(error).__name__}"))
            raise
        finally:
            self._running = self._batch = None
            self._consider()

    async def _split(self, failed: list[list[_Item]]) -> None:
        """Run these again in halves. What is refused is halved again while other halves are answered: then it is for
        some of its items alone."""
        while failed:
            halves = [half for items in failed for half in _halves(items)]
            errors = [await self._call(_Batch(half, Start.SPLIT)) for half in halves]
            failed = []
            for half, error in zip(halves, errors, strict=True):
                if isinstance(error, Refused) and None in errors and len(half) > 1:
                    failed.append(half)
                elif error is not None:
                    _fail(half, error)

    async def _call(self, batch: _Batch) -> BackendError | None:
        """Call the backend once and give every item its answer; what went wrong where some have none."""
        tuner, items, started = self._tuner, batch.items, self._now()
        expected, upper = tuner.expected_s(len(items)), tuner.upper_s(len(items))
        tuner.begun(len(items), now=started)
        code: str | None = "cancelled"
        try:
            deltas = await self._backend.run_batch(tuple(item.attempt for item in items))
            if len(deltas) != len(items):
                raise ProtocolError(f"{len(deltas)} answers to a batch of {len(items)}")
            failed = next((delta for delta in deltas if isinstance(delta, BackendError)), None)
            code = None if failed is None else failed.code
        except BackendError as error:
            code = error.code
            return error
        except Exception as error:
            code = ProtocolError.code
            return ProtocolError(f"the batch failed with {type(error).__name__}")
        finally:
            took = self._now() - started
            tuner.ended(took if code is None else None, now=started + took)
            self._tell(
                BatchEnded(
                    items[0].attempt.deployment.name,
                    len(items),
                    batch.reason,
                    batch.wait_s,
                    took,
                    expected,
                    upper,
                    batch.dropped,
                    batch.late,
                    code,
                )
            )
        for item, delta in zip(items, deltas, strict=True):
            if not item.result.done() and not isinstance(delta, BackendError):
                item.result.set_result((delta, started - item.joined))
        return failed


def _halves(items: list[_Item]) -> list[list[_Item]]:
    """Of those who are still waited for."""
    left = [item for item in items if not item.result.done()]
    middle = (len(left) + 1) // 2
    return [half for half in (left[:middle], left[middle:]) if half]


def _due(item: _Item) -> float:
    return item.due


def _too_late() -> Rejected:
    return Rejected(
        "it could no longer be answered within its objective when its batch began",
        code="slo_unreachable",
        retry_after_s=_RETRY_AFTER_S,
    )


def _fail(items: list[_Item], error: RouterError) -> None:
    for item in items:
        item.fail(error)
