"""When is the controller's own tuning to blame, and taken back?

A class that burns its error budget fast right after limits or prices were moved may burn because they were. Or because
more comes in, because a server is slower or gone: then moving them is the cure. So they are set back to where they last
did well, and held there, only where nothing else explains the burn: about as much is asked for as before, of servers
about as fast. The pair of windows has the ratio of the SRE workbook's (chapter 5), at a length that fits a loop that
moves within seconds: 5 minutes say that it matters, 25 seconds that it goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from msgspec import Struct

from router.slo.burn import BurnMeter

FAST = 14.4
SHORT_S, LONG_S = 25.0, 300.0
_CALM = 3.0
"""Burn rate under which a class is doing well: that of the workbook's slow pair."""
_ENOUGH_SHORT, _ENOUGH_LONG = 15, 60
_WORSE = 1.25
"""Times as much asked for, or as slow, that explains a burn."""
_OTHERS = 3.0
_ANSWER_S = 30.0
"""How long before a burn was seen its cause may lie: one response time."""
_KEPT_EVERY_S, _KEPT = 5.0, 180
_LEAST_S, _CALM_S = 120.0, 60.0
"""Held for so long at least, and until the class has done well for so long."""
_LONGEST_S = 900.0
"""Held no longer: what has not helped by then was not the cause."""
_DOUBLINGS = 5
_FORGIVEN_S = 3600.0


class World(Struct, frozen=True):
    """What is not the controller's doing: requests and tokens asked for a second, and by deployment how many times
    slower it is than its shape (infinite: not to be called); and sequences of others on them."""

    requests_per_s: float
    tokens_per_s: float
    slowness: Mapping[str, float]
    others: float = 0.0

    def joined(self, other: World) -> World:
        """The worse of the two in everything."""
        names = {*self.slowness, *other.slowness}
        return World(
            max(self.requests_per_s, other.requests_per_s),
            max(self.tokens_per_s, other.tokens_per_s),
            {n: max(self.slowness.get(n, 0.0), other.slowness.get(n, 0.0)) for n in names},
            max(self.others, other.others),
        )

    def explains(self, before: World) -> str | None:
        """What is worse than it was, or `None`."""
        if self.requests_per_s > _WORSE * before.requests_per_s or self.tokens_per_s > _WORSE * before.tokens_per_s:
            return "more is asked for"
        if self.others > max(_WORSE * before.others, before.others + _OTHERS):
            return "others load the servers"
        for name, slow in self.slowness.items():
            if slow > _WORSE * before.slowness.get(name, 0.0):
                return f"{name} is slower"
        return None


class Burn:
    """The budgets of one class, by what was promised."""

    def __init__(self) -> None:
        self.meters: dict[str, BurnMeter] = {}

    def record(self, met: Iterable[tuple[str, float, bool]], *, now: float) -> None:
        """One request ended: what was promised, for what share of them, and whether it was kept."""
        for what, target, good in met:
            meter = self.meters.get(what)
            if meter is None or meter.target != target:
                meter = self.meters[what] = BurnMeter(target, shortest_s=SHORT_S, longest_s=LONG_S)
            meter.record(good, now=now)

    def fast(self, *, now: float) -> str | None:
        """The promise whose budget burns fast over both windows. A share of bad ones cannot exceed 1: for a target that
        allows so many that the rate is out of reach, half way to all of them counts as fast."""
        for what, meter in self.meters.items():
            allowed = 1.0 - meter.target
            limit = min(FAST * allowed, 0.5 * (1.0 + allowed))
            shares = []
            for window_s, enough in ((SHORT_S, _ENOUGH_SHORT), (LONG_S, _ENOUGH_LONG)):
                bad, total = meter.counts(window_s, now=now)
                shares.append(bad / total if total >= enough else 0.0)
            if min(shares) >= limit:
                return f"{what}: {shares[0]:.0%} bad in {SHORT_S:.0f} s, {shares[1]:.0%} in {LONG_S / 60.0:.0f} min"
        return None

    def is_calm(self, *, now: float) -> bool:
        """Whether no budget burned fast of late."""
        return all(
            meter.rate(SHORT_S, now=now) < min(_CALM, 0.25 / (1.0 - meter.target)) for meter in self.meters.values()
        )


class Kept(Struct, frozen=True):
    """Limits and prices, by name, at a time at which every class did well."""

    at: float
    world: World
    values: Mapping[str, float]


class State(StrEnum):
    """Whether limits and prices move."""

    FREE = "free"
    FROZEN = "frozen"


class Change(Struct, frozen=True):
    """What to do about it: hold limits and prices at `back` (none: let them go)."""

    state: State
    request_class: str
    reason: str
    back: Mapping[str, float]


class Freeze:
    """One per controller."""

    def __init__(self) -> None:
        self.state = State.FREE
        self._kept: list[Kept] = []
        self._burns: dict[str, Burn] = {}
        self._explained: set[str] = set()
        """Classes whose present burn has another cause, or was not helped by a freeze."""
        self._culprit = ""
        self._since = self._calm_since = 0.0
        self._held: World | None = None
        self._freezes = 0
        self._thawed_at = 0.0

    def record(self, name: str, met: Iterable[tuple[str, float, bool]], *, now: float) -> None:
        """A request of a class ended; see `Burn.record`."""
        burn = self._burns.get(name)
        if burn is None:
            burn = self._burns[name] = Burn()
        burn.record(met, now=now)

    def adopt(self, classes: Iterable[str]) -> Change | None:
        """The operator has edited the policy: nothing from before is held against, or in the way of, what holds now."""
        names = frozenset(classes)
        self._burns = {name: burn for name, burn in self._burns.items() if name in names}
        self._kept.clear()
        self._explained = self._explained & names
        return self._thaw("the policy was edited", 0.0) if self.state is State.FROZEN else None

    def look(self, world: World, values: Mapping[str, float], *, now: float) -> Change | None:
        """Once a second or so: what `values` (limits and prices in force) and the `world` are now."""
        burning = {n: why for n, b in self._burns.items() if (why := b.fast(now=now)) is not None}
        self._explained = {n for n in self._explained if not self._burns[n].is_calm(now=now)}
        if self.state is State.FROZEN:
            return self._look_again(world, now)
        for name, why in burning.items():
            if name not in self._explained and (found := self._blamed(name, why, world, values, now)) is not None:
                return found
        is_calm = all(burn.is_calm(now=now) for burn in self._burns.values())
        if is_calm and (not self._kept or now - self._kept[-1].at >= _KEPT_EVERY_S):
            self._kept.append(Kept(now, world, dict(values)))
            del self._kept[:-_KEPT]
        return None

    def _blamed(self, name: str, why: str, world: World, values: Mapping[str, float], now: float) -> Change | None:
        """Set back what was moved since all did well, unless something else explains the burn."""
        last = self._kept[-1].at if self._kept else now
        before = next((k for k in reversed(self._kept) if k.at <= last - _ANSWER_S), None)
        back = {} if before is None else {n: v for n, v in before.values.items() if _moved(v, values.get(n, v))}
        if before is None or not back or world.explains(before.world) is not None:
            self._explained.add(name)
            return None
        if now - self._thawed_at > _FORGIVEN_S:
            self._freezes = 0
        self._freezes = min(self._freezes + 1, _DOUBLINGS)
        self.state, self._culprit, self._since, self._calm_since = State.FROZEN, name, now, now
        self._held = world.joined(before.world)
        return Change(State.FROZEN, name, why, back)

    def _look_again(self, world: World, now: float) -> Change | None:
        burn = self._burns.get(self._culprit)
        if burn is not None and not burn.is_calm(now=now):
            self._calm_since = now
        held_s = now - self._since
        cause = None if self._held is None else world.explains(self._held)
        if cause is not None:
            self._explained.add(self._culprit)
            return self._thaw(f"{cause}: limits and prices have to follow", now)
        if held_s >= _LEAST_S * 2.0 ** (self._freezes - 1) and now - self._calm_since >= _CALM_S:
            return self._thaw("the class has done well for a minute", now)
        if held_s >= _LONGEST_S and self._calm_since == now:
            self._explained.add(self._culprit)
            return self._thaw("holding them has not helped", now)
        return None

    def _thaw(self, reason: str, now: float) -> Change:
        self.state, self._held, self._thawed_at = State.FREE, None, now
        self._kept.clear()
        return Change(State.FREE, self._culprit, reason, {})


def _moved(before: float, now: float) -> bool:
    """Whether a limit or a price is far enough from where it was to matter: a tenth, and a quarter of a unit."""
    return abs(now - before) > max(0.1 * abs(before), 0.25)
