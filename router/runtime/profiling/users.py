"""Levels of a load test: so many users, each of whom asks again when the last answer has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

from msgspec import Struct

from router.learning.profiling.calls import Level, Sample
from router.ports.clock import Clock
from router.runtime.profiling.calls import Caller
from router.runtime.profiling.prompts import Asked
from router.runtime.profiling.purse import Purse

_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
"""After an error that does not say how long to wait; and the longest that is waited if it does."""
_JUDGED_AFTER = 8
_MOST_ERRORS = 0.5


class Plan(Struct, frozen=True):
    """How long each level lasts: `requests` counted calls in all, or `for_s` seconds, whichever is said; and how many
    calls each user makes before that which do not count."""

    levels: tuple[int, ...]
    requests: int | None = None
    for_s: float | None = None
    warm_ups: int = 1

    def wanted(self, users: int) -> int | None:
        """Counted calls of a level; `None` where time bounds it. Unsaid: four a user, twenty at least."""
        if self.requests is not None:
            return self.requests
        return None if self.for_s is not None else max(20, 4 * users)


class _Running:
    """A level while it runs."""

    def __init__(self, concurrency: int, wanted: int | None, for_s: float | None, now: float) -> None:
        self.concurrency = concurrency
        self.wanted = wanted
        self.until = None if for_s is None else now + for_s
        self.samples: list[Sample] = []
        self.warm_ups: list[Sample] = []
        self.started = 0
        self.stopped = ""
        self.errors = 0
        self._began = now
        self._cpu = time.process_time()

    def wants_more(self, now: float) -> bool:
        """Whether another counted call is to be made."""
        if self.stopped or (self.until is not None and now >= self.until):
            return False
        return self.wanted is None or self.started < self.wanted

    def take(self, sample: Sample, *, counted: bool) -> None:
        """One call has ended."""
        (self.samples if counted else self.warm_ups).append(sample)
        self.errors += sample.code is not None
        ended = len(self.samples) + len(self.warm_ups)
        if ended >= _JUDGED_AFTER and self.errors > _MOST_ERRORS * ended and not self.stopped:
            self.stopped = f"{self.errors} of {ended} calls failed, the last with {sample.code or 'none'}"

    def level(self, now: float) -> Level:
        """As it stands."""
        took = now - self._began
        busy = (time.process_time() - self._cpu) / took if took > 0.0 else None
        return Level(self.concurrency, tuple(self.samples), tuple(self.warm_ups), self.stopped, busy)


class LoadTest:
    """Runs the levels of a plan. `levels` holds those that have ended and, where it was cancelled, what there is of the
    last. `seen(level so far)` is told after every call."""

    def __init__(
        self, caller: Caller, prompts: Iterator[Asked], purse: Purse, clock: Clock, seen: Callable[[Level], None]
    ) -> None:
        self._caller, self._prompts, self._purse, self._clock = caller, prompts, purse, clock
        self._seen = seen
        self.levels: list[Level] = []
        self.is_out_of_money = False

    async def run(self, plan: Plan) -> None:
        """Make the calls. Where the deployment takes batches, one user sends batches of so many."""
        for concurrency in plan.levels:
            users, items = (1, concurrency) if self._caller.takes_batches else (concurrency, 1)
            running = _Running(concurrency, plan.wanted(users), plan.for_s, self._clock.now())
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(users):
                        group.create_task(self._user(running, items, plan.warm_ups))
            finally:
                self.levels.append(running.level(self._clock.now()))
            if self.is_out_of_money:
                return

    async def _user(self, running: _Running, items: int, warm_ups: int) -> None:
        for _ in range(warm_ups):
            if running.stopped:
                return
            await self._ask(running, items, counted=False)
        while running.wants_more(self._clock.now()):
            running.started += 1
            await self._ask(running, items, counted=True)

    async def _ask(self, running: _Running, items: int, *, counted: bool) -> None:
        asked = [next(self._prompts) for _ in range(items)]
        worst_usd = sum(self._purse.worst_usd(len(one.payload), one.max_tokens) for one in asked)
        if not self._purse.hold(worst_usd):
            running.stopped = running.stopped or self._purse.refusal(worst_usd)
            self.is_out_of_money = True
            return
        try:
            sample = await self._caller.send(asked)
        except asyncio.CancelledError:
            self._purse.cut_off(worst_usd)
            raise
        self._purse.settle(worst_usd, sample.usd)
        if sample.has_usage and sample.input_tokens:
            self._purse.counted(sum(len(one.payload) for one in asked), sample.input_tokens)
        running.take(sample, counted=counted)
        self._seen(running.level(self._clock.now()))
        if sample.code is not None:
            await asyncio.sleep(min(sample.retry_after_s or _PAUSE_S, _LONGEST_PAUSE_S))
