"""Holds limits and prices where they last did well, while a class burns its error budget for their sake."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from msgspec import Struct

from router.control.advised_limit import AdvisedLimit
from router.control.staleness import Knowledge
from router.core.duals import Duals
from router.core.fleet import Fleet
from router.core.rollouts.evidence import Met
from router.core.stability.freeze import Change, Freeze, State, World
from router.core.ticket import Ticket
from router.domain.control.stability import TuningChanged
from router.domain.events import Event, LimitUpdate, PriceUpdate
from router.domain.view import Health
from router.policy.policy import Policy
from router.stats.ewma import Ewma

_LOOK_S = 1.0
_RATE_HALF_LIFE_S = 10.0
_LIMIT, _CAPACITY, _FLOOR = "limit/", "capacity/", "floor/"
BACK = "set back to where it last did well"


class Advised(Struct, frozen=True):
    """What is in force and what the controller would have in its place. `what`: limit, capacity price, floor price."""

    what: str
    subject: str
    in_force: float
    advised: float


class Standing(Struct, frozen=True):
    """How tuning stands: held for which class and why, or not; and what is only said."""

    state: str
    request_class: str
    reason: str
    advised: tuple[Advised, ...]


class Tuning:
    """One per controller. Hard signals go on while it is frozen: circuits, throttles, refusals, budgets."""

    def __init__(self, fleet: Fleet, duals: Duals) -> None:
        self._fleet, self._duals = fleet, duals
        self.freeze = Freeze()
        self._requests = self._tokens = 0
        self._rates = Ewma(_RATE_HALF_LIFE_S, mean=0.0), Ewma(_RATE_HALF_LIFE_S, mean=0.0)
        self._looked: float | None = None
        self._events: list[Event] = []
        self._last: Change | None = None

    def standing(self) -> Standing:
        """As it is told to whoever asks."""
        advised = tuple(self._advised())
        if self._last is None or not self.is_frozen:
            return Standing(State.FREE.value, "", "", advised)
        return Standing(State.FROZEN.value, self._last.request_class, self._last.reason, advised)

    def _advised(self) -> Iterator[Advised]:
        for deployment, member in self._fleet.members.items():
            if isinstance(member.limit, AdvisedLimit):
                yield Advised("limit", deployment, member.limit.value, member.limit.advised)
            if member.price.is_advice:
                yield Advised("capacity price", deployment, member.price.in_force, member.price.integral)
        for name, floor in self._duals.floors.items():
            if floor.static is not None:
                yield Advised("floor price", name, floor.static, floor.value)

    @property
    def is_frozen(self) -> bool:
        """Whether limits and prices are held."""
        return self.freeze.state is State.FROZEN

    def see(self, ticket: Ticket) -> None:
        """A request came."""
        self._requests += 1
        self._tokens += ticket.request.input_tokens

    def on_ended(self, ticket: Ticket, met: Met, *, now: float) -> None:
        """A request ended. A refused one keeps no promise: a limit that shuts everybody out is no success."""
        objectives = ticket.request_class.objectives.each()
        kept = [(w, o.target, good) for o, (w, good) in zip(objectives, met, strict=True)]
        self.freeze.record(ticket.request_class.name, kept, now=now)

    def adopt(self, policy: Policy) -> None:
        """Another policy is in force."""
        change = self.freeze.adopt(c.name for c in policy.classes)
        if change is not None:
            self._events += self._do(change)
        for member in self._fleet.members.values():
            member.price.is_held = False

    def tick(self, *, now: float) -> list[Event]:
        """Whether to hold limits and prices, or to let them go."""
        events, self._events = self._events, []
        if self._looked is not None and now - self._looked < _LOOK_S:
            return events
        if self._looked is not None:
            lasted = now - self._looked
            for rate, seen in zip(self._rates, (self._requests, self._tokens), strict=True):
                rate.update(seen / lasted, now=now)
        self._requests = self._tokens = 0
        self._looked = now
        self._fleet.has_blind = any(m.staleness.known is Knowledge.BLIND for m in self._fleet.members.values())
        change = self.freeze.look(self._world(), dict(self._values()), now=now)
        return events if change is None else events + self._do(change)

    def _world(self) -> World:
        slowness = {
            str(n): m.latency.multiplier if m.circuit.health is Health.OK else inf
            for n, m in self._fleet.members.items()
        }
        others = sum(m.account.outside for m in self._fleet.members.values())
        return World(self._rates[0].mean, self._rates[1].mean, slowness, others)

    def _values(self) -> Iterator[tuple[str, float]]:
        for deployment, member in self._fleet.members.items():
            yield f"{_LIMIT}{deployment}", member.limit.value
            yield f"{_CAPACITY}{deployment}", member.price.in_force
        for name, floor in self._duals.floors.items():
            yield f"{_FLOOR}{name}", floor.in_force

    def _do(self, change: Change) -> list[Event]:
        self._last, is_held = change, change.state is State.FROZEN
        before = dict(self._values())
        events: list[Event] = []
        for name, value in change.back.items():
            events += self._put(name, value)
        for member in self._fleet.members.values():
            member.price.is_held = is_held
        for floor in self._duals.floors.values():
            floor.is_held = is_held
        after = dict(self._values())
        restored = tuple((n, before[n], after[n]) for n in change.back if n in after and after[n] != before[n])
        old = State.FREE if is_held else State.FROZEN
        return [TuningChanged(change.request_class, old, change.state, change.reason, restored), *events]

    def _put(self, name: str, value: float) -> list[Event]:
        """Set one of them back."""
        kind, _, subject = name.partition("/")
        if f"{kind}/" == _FLOOR:
            floor = self._duals.floors.get(subject)
            if floor is None or floor.static is not None:
                return []
            old, floor.value = floor.value, min(value, floor.high)
            return [PriceUpdate("floor", subject, old, floor.value, BACK)]
        member = next((m for n, m in self._fleet.members.items() if n == subject), None)
        if member is None or member.price.is_advice:
            return []
        if f"{kind}/" == _LIMIT:
            update: LimitUpdate | None = member.limit.put(value, BACK)
            return [] if update is None else [update]
        old, member.price.integral = member.price.integral, min(value, member.price.high)
        return [PriceUpdate("capacity", subject, old, member.price.integral, BACK)]
