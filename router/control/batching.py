"""How many items go into the next batch, and is it worth waiting for more?

Size is bound late, when the endpoint is free: `n = max{n : age of the oldest + q99(n) <= SLO}`. It is never held under
the stability batch of the arrival rate, `n_stab = rate * alpha / (1 - rate * beta)`: a smaller one takes longer than
its items took to come, and those who come later would be late too. Who cannot be in time in a batch of that size is
given up for those who can.

A batch waits only while that saves compute: while one more item saves a share of the endpoint's time that is worth
having, also by arrivals that dry up; until the tightest item's slack is used up, `W = SLO - age - q99(n + 1)`, less the
time in which one more is expected; and only up to the size during which so few come (99 % of the time) that the next
batch would still answer the first of them in time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from router.control.batch_curve import BatchCurve
from router.domain.control.batches import Start
from router.domain.deployment import BatchProfile
from router.stats.ewma import Rate

_RATE_WINDOW_S, _BURST_WINDOW_S = 5.0, 1.0
"""Arrivals are counted over both. Where too small a batch would make all who come later late the faster is believed;
whether it is worth waiting for more is told by the steady one."""
_MANY_SIGMAS = 2.33
"""Standard normal quantile of .99: of how many come during a batch."""
_LOOK_AGAIN_S = 0.01
"""How long after arrivals that stop have become too few to wait for the batch is looked at again."""
_WORTH_WAITING = 0.01
"""Share of the endpoint's time that one more item in each batch must save: at `n`, `rate * alpha / (n * (n + 1))`."""


class BatchTuner:
    """Size and wait for one batch endpoint."""

    def __init__(self, prior: BatchProfile | None, *, max_items: int) -> None:
        self.curve = BatchCurve(prior)
        self.max_items = max_items
        self._steady, self._burst = Rate(_RATE_WINDOW_S), Rate(_BURST_WINDOW_S)
        self._running, self._started = 0, 0.0

    def expected_s(self, items: float) -> float:
        """Median seconds of a batch of `items`."""
        return self.curve.expected_s(items)

    def upper_s(self, items: float) -> float:
        """Seconds that 99 % of such batches stay under."""
        return self.curve.upper_s(items)

    def arrived(self, *, now: float) -> None:
        """An item came."""
        self._steady.add(1.0, now=now)
        self._burst.add(1.0, now=now)

    def rate(self, *, now: float) -> float:
        """Items that come per second."""
        return max(self._steady.at(now), self._burst.at(now))

    def begun(self, items: int, *, now: float) -> None:
        """A batch began to run."""
        self._running, self._started = items, now

    def ended(self, seconds: float | None, *, now: float) -> None:
        """It is over: answered after this many seconds, or failed, which teaches nothing."""
        items, self._running = self._running, 0
        if seconds is not None:
            self.curve.observe(items, seconds, now=now)

    def given_up(self, *, now: float) -> None:
        """It was given up: it takes at least as long as it ran."""
        items, seconds = self._running, now - self._started
        self._running = 0
        if items and seconds > self.curve.expected_s(items):
            self.curve.observe(items, seconds, now=now)

    def wait_s(self, in_flight: int, *, now: float) -> float:
        """Median seconds to the end of the batch of an item that joins now, where nobody waits on purpose: what is
        left of the one that runs (as long again, where it is overdue), and those ahead of it."""
        running, left = self._running, 0.0
        if running:
            left = abs(self.curve.expected_s(running) - (now - self._started))
        batches, rest = divmod(max(in_flight - running, 0), self.max_items)
        ahead = batches * self.curve.expected_s(self.max_items) if batches else 0.0
        return left + ahead + self.curve.expected_s(rest + 1)

    def stable_items(self, *, now: float) -> int:
        """The stability batch of the arrival rate, at most what fits; at least one."""
        rate = self.rate(now=now)
        spare = 1.0 - rate * self.curve.beta_s
        if spare * self.max_items <= rate * self.curve.alpha_s:
            return self.max_items
        return max(math.ceil(rate * self.curve.alpha_s / spare), 1)

    def cut(self, slacks: Sequence[float], *, now: float) -> tuple[int, int]:
        """How many of the items that wait, by their seconds left in ascending order, are lost, and how many items a
        batch that begins now may hold. Where none can be in time all are lost, and it may hold what fits.

        The first who is safe in a batch that is large enough sets the size; who is less safe but still likelier in
        time than not rides with it.
        """
        waiting, curve = len(slacks), self.curve
        stable = self.stable_items(now=now)
        for margin in (curve.margin, 1.0):
            for first, slack in enumerate(slacks):
                room = int(min(curve.most(slack, margin=margin), self.max_items))
                if room < min(waiting - first, stable):
                    continue
                size = max(room, min(stable, waiting))
                takes = curve.expected_s(min(size, waiting))
                return next((i for i in range(first) if slacks[i] >= takes), first), size
        return waiting, self.max_items

    def start(self, waiting: int, *, due: float | None, span_s: float, until: float, now: float) -> tuple[float, Start]:
        """When a batch of those who wait should begin, and why then; not after now to begin at once. `due` is when the
        tightest must be answered, `span_s` the least time that any of them was given in all, and `until` when the wait
        that their classes allow is over."""
        if waiting >= self.max_items:
            return now, Start.FULL
        if due is None:
            return (until, Start.BOUND) if until < math.inf else (now, Start.AT_ONCE)
        takes, rate = self.curve.upper_s(waiting + 1), self._steady.at(now)
        at, why = due - takes, Start.SLACK
        if at > now:
            worth = rate * self.curve.alpha_s / (_WORTH_WAITING * waiting * (waiting + 1))
            if worth < 1.0:
                return now, Start.ENOUGH
            dried_up = now + _RATE_WINDOW_S * math.log(worth) + _LOOK_AGAIN_S
            at, why = min(at - 1.0 / rate, dried_up), Start.SPARSE
        if at > now and self._crowds(takes, self.rate(now=now), span_s):
            return now, Start.NEXT_BATCH
        return (until, Start.BOUND) if until < at else (at, why)

    def _crowds(self, takes_s: float, rate: float, span_s: float) -> bool:
        """Whether a batch that takes so long would make those late who come while it runs."""
        expected = rate * takes_s
        most = min(expected + _MANY_SIGMAS * math.sqrt(expected), self.max_items)
        return takes_s + self.curve.upper_s(most) > span_s
