"""What was the reserved capacity used for, and does load spill from it?

Every decision weighs the bid price of the tokens (`router.control.capacity`) against what they would cost on demand,
together with the promised latency, so that no mode has to be switched: a request goes to reserved capacity where that
is worth it. What is told here is the state that follows from it: `spilling` from where a token is worth more than it
costs on demand, or predictions press on the objectives; `filling` again once there is room, and not sooner than
`_DWELL_S` after.

A minute's account says which share of the tokens was used. Both resources bind, so that the capacity is in full use
where either is; what is left of the tighter one is the share of the hour that was paid for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from msgspec import Struct

from router.control.capacity import Quota, Resized
from router.domain.control.capacity import ReserveObserved, SpillChanged
from router.domain.deployment import Deployment, Lane, Price
from router.domain.events import Event, LimitUpdate, PriceUpdate

FILLING, SPILLING = "filling", "spilling"
_ACCOUNT_S = 60.0
_LATER = frozenset({Lane.FLEX, Lane.BATCH})
_DWELL_S = 10.0
_SHORT, _PLENTY = 0.5, 0.25
"""Drained share of a bucket at which load spills, and at which there is room again."""
_PRESSED, _RELAXED = 0.05, 0.01
"""The same of the capacity price, in useful answers per typical request: about what a call on demand costs in them."""
_WORTH_TELLING = 0.25
"""Times the on-demand price: finer moves of a bid price are not told."""


class Account(Struct, frozen=True):
    """What was used of what was paid for, from the first second on. Seconds in which the size was not known count for
    no ratio and no waste."""

    input_tokens: float = 0.0
    output_tokens: float = 0.0
    seconds: float = 0.0
    input_share_s: float = 0.0
    output_share_s: float = 0.0
    wasted_s: float = 0.0
    sized_s: float = 0.0

    def plus(self, other: ReserveObserved) -> Account:
        """With another account that is closed."""
        sized_s = 0.0 if other.input_ratio is None else other.seconds
        return Account(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.seconds + other.seconds,
            self.input_share_s + (other.input_ratio or 0.0) * sized_s,
            self.output_share_s + (other.output_ratio or 0.0) * sized_s,
            self.wasted_s + other.wasted_hours * 3600.0,
            self.sized_s + sized_s,
        )


class Reserve:
    """The books of one provisioned deployment."""

    def __init__(self, deployment: Deployment, quota: Quota) -> None:
        self.deployment = deployment
        self.quota = quota
        self.state = FILLING
        self.account = Account()
        self._since: float | None = None
        self._opened: float | None = None
        self._input = self._output = 0.0
        self._told = (0.0, 0.0)

    def adopt(self, deployment: Deployment, quota: Quota) -> None:
        """The operator has edited it. Where it has other buckets a new account begins; what was told was told."""
        if quota is not self.quota:
            self._opened, self._input, self._output = None, 0.0, 0.0
        self.deployment, self.quota = deployment, quota

    def tick(self, pressed: float, *, now: float) -> list[Event]:
        """At a heartbeat; `pressed` is the capacity price of the deployment."""
        events: list[Event] = self.resized(self.quota.probe(now=now))
        events += self._spill(pressed, now)
        events += self._prices(now)
        if self._opened is None:
            self._opened = now
        elif now - self._opened >= _ACCOUNT_S:
            events.append(self.close(now))
        return events

    def resized(self, moves: list[Resized]) -> list[Event]:
        """What is told of sizes that were learned."""
        return [LimitUpdate(self.deployment.name, m.what, m.old, m.new, m.reason) for m in moves]

    def close(self, now: float) -> ReserveObserved:
        """Close the running account."""
        quota, price = self.quota, self.deployment.price
        seconds = 0.0 if self._opened is None else now - self._opened
        used = (quota.used_input - self._input, quota.used_output - self._output)
        self._opened, self._input, self._output = now, quota.used_input, quota.used_output
        input_ratio = _ratio(used[0], quota.input.capacity, seconds)
        output_ratio = _ratio(used[1], quota.output.capacity, seconds)
        wasted = 0.0
        if input_ratio is not None and output_ratio is not None:
            wasted = (1.0 - min(max(input_ratio, output_ratio), 1.0)) * seconds / 3600.0
        observed = ReserveObserved(
            self.deployment.name, *used, seconds, input_ratio, output_ratio, wasted, wasted * price.hourly_usd
        )
        self.account = self.account.plus(observed)
        return observed

    def _spill(self, pressed: float, now: float) -> list[Event]:
        drained = {
            "input tokens": self.quota.input.drained_ratio(now),
            "output tokens": self.quota.output.drained_ratio(now),
        }
        short = max(drained, key=lambda what: drained[what])
        if self.state == FILLING:
            if drained[short] >= _SHORT:
                return self._turn(SPILLING, f"{short} are worth more than they cost on demand", now)
            if pressed >= _PRESSED:
                return self._turn(SPILLING, "predictions press on the objectives", now)
            return []
        has_dwelt = self._since is None or now - self._since >= _DWELL_S
        if has_dwelt and drained[short] <= _PLENTY and pressed <= _RELAXED:
            return self._turn(FILLING, "there is room", now)
        return []

    def _turn(self, state: str, reason: str, now: float) -> list[Event]:
        old, self.state, self._since = self.state, state, now
        return [SpillChanged(self.deployment.name, old, state, reason)]

    def _prices(self, now: float) -> list[Event]:
        """Told at the scale of the on-demand price."""
        new, on_demand = self.quota.prices(now=now), self.quota.on_demand
        scale = (on_demand.input_usd_per_mtok, on_demand.output_usd_per_mtok)
        if all(abs(a - b) <= _WORTH_TELLING * usd for a, b, usd in zip(new, self._told, scale, strict=True)):
            return []
        old, self._told = self._told, new
        return [
            PriceUpdate(kind, self.deployment.name, before, after, "demand for it" if after > before else "refilled")
            for kind, before, after in zip(("input_tokens", "output_tokens"), old, new, strict=True)
            if before != after
        ]


def spills_to(deployment: Deployment, others: Iterable[Deployment]) -> Price:
    """The price of the cheapest that is paid by the token and serves at once: of the same model, else of the same tier,
    else of any."""
    paid = [
        d for d in others if d.lane not in _LATER and d.price.input_usd_per_mtok + d.price.output_usd_per_mtok > 0.0
    ]
    same = [d for d in paid if d.model == deployment.model] or [d for d in paid if d.tier is deployment.tier] or paid
    prices = (d.price for d in same)
    return min(prices, key=lambda p: p.input_usd_per_mtok + p.output_usd_per_mtok, default=Price(0.0, 0.0))


def _ratio(used: float, tokens_per_min: float, seconds: float) -> float | None:
    """Share used of what came in; `None` where nobody knows how much that is."""
    if math.isinf(tokens_per_min):
        return None
    return max(used, 0.0) / (tokens_per_min * seconds / 60.0) if seconds > 0.0 else 0.0
