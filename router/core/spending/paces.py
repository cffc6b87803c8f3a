"""What may the requests of a class cost on average?

A class with `mean_usd_per_request` has a price of a dollar of its own (`slo.budget`): that at which the best choices of
its recent requests cost what they may, as the scorer sees them, with all other prices in force. It only steers: nobody
is refused and nobody waits for it, and the cheapest that can serve is always left. What requests cost counts as it is
realised, with every retry and second call; the answer of the cache counts neither as a request nor as a cost.

Where floor and mean contradict each other the floor is kept: it is a promise, and the mean is a wish. No choice is made
cheaper that would leave less adequate than the floor asks for, and `BudgetPaced.floor_holds` says so. A limit that must
never be passed is `usd_per_request` or `usd_per_day`.

A pacer belongs to a class by name or to one side of its rollout, each under its own budget: where the mean of each
holds, so does that of all.
"""

from __future__ import annotations

from collections.abc import Iterable

from router.core.ticket import Ticket
from router.domain.decision import Candidate, Exclusion
from router.domain.deployment import Deployment, Price
from router.domain.events import Event, PriceUpdate
from router.domain.slo import BudgetPaced, RequestClass
from router.domain.view import DeploymentView
from router.routing.need import Need
from router.slo.budget import BudgetPrice, Pace

MOST_SAVED = 50.0
"""Budgets of one request that are kept for later, or owed. Over any T requests the mean is within 1 % of the budget
from T = 5,400 on, which is a hundred times this and the overdraft."""
_TOLD_EVERY_S = 1.0
_OVER_PACE = "it costs more than the mean budget of the class can bear now"
_WORTH_TELLING = 0.25
"""Share by which a price has moved."""

Standing = tuple[list[DeploymentView], list[Candidate], list[Exclusion]]


class Paces:
    """The pacers of all classes with a mean budget."""

    def __init__(self) -> None:
        self.by_key: dict[str, BudgetPrice] = {}
        """By class, and by class and side of a rollout."""
        self._of: dict[int, BudgetPrice] = {}
        self._prices: dict[str, Price] = {}
        self._told: dict[str, float] = {}
        self._told_at = float("-inf")

    def adopt(self, classes: Iterable[tuple[str, RequestClass]], deployments: Iterable[Deployment]) -> None:
        """The classes that decisions are made under. What stays keeps its price and what it has saved; where a call
        costs something else now, the price is solved anew."""
        before, self._prices = self._prices, {str(d.name): d.price for d in deployments}
        repriced = any(before[name] != price for name, price in self._prices.items() if name in before)
        found: dict[str, BudgetPrice] = {}
        self._of = {}
        for key, request_class in classes:
            usd = request_class.budget.mean_usd_per_request
            if usd is None:
                continue
            pacer = self.by_key.get(key) or BudgetPrice(usd, most_saved=MOST_SAVED)
            pacer.change(usd)
            if repriced:
                pacer.forget()
            found[key] = self._of[id(request_class)] = pacer
        self.by_key = found
        self._told = {key: price for key, price in self._told.items() if key in found}

    def _pacer(self, request_class: RequestClass) -> BudgetPrice | None:
        """By name for a request that began under an older policy; `None` where that has no mean budget any more."""
        found = self._of.get(id(request_class))
        return self.by_key.get(request_class.name) if found is None else found

    def price(self, request_class: RequestClass) -> float:
        """What a dollar must bring for the class's budget, 0 where there is none."""
        pacer = self._pacer(request_class)
        return 0.0 if pacer is None else pacer.value

    def afforded(self, ticket: Ticket, need: Need, standing: Standing) -> Standing:
        """Those whose cost the budget can bear; the cheapest always. The first time it is asked, the request's
        candidates tell what the next dollars can bring."""
        views, candidates, excluded = standing
        if not candidates or need.unlimited:
            return standing
        if ticket.pace is None:
            pacer = self._pacer(need.request_class)
            if pacer is None:
                return standing
            ticket.pace = Pace(pacer)
            floor = need.request_class.floor
            pacer.offer(
                [c.score + c.terms.cost for c in candidates],
                [v.cost_usd for v in views],
                [v.p_adequate for v in views],
                least_adequate=0.0 if floor is None else floor.ratio,
            )
        cost_usd = [view.cost_usd for view in views]
        most_usd = ticket.pace.bears_usd
        if max(cost_usd) <= most_usd:
            return standing
        most_usd = max(most_usd, min(cost_usd))
        kept = [i for i, usd in enumerate(cost_usd) if usd <= most_usd]
        out = [Exclusion(v.deployment.name, "over_pace", _OVER_PACE) for v in views if v.cost_usd > most_usd]
        return [views[i] for i in kept], [candidates[i] for i in kept], excluded + out

    def tick(self, *, now: float) -> list[Event]:
        """Once a second: how the budgets stand, and where a price has moved; of sides of a rollout nothing."""
        if now - self._told_at < _TOLD_EVERY_S:
            return []
        self._told_at = now
        events: list[Event] = []
        for name, pacer in self.by_key.items():
            if "/" in name:
                continue
            events.append(
                BudgetPaced(name, pacer.value, pacer.mean_usd, pacer.usd, pacer.saved_usd, pacer.is_overruled)
            )
            told = self._told.get(name, 0.0)
            if abs(pacer.value - told) > _WORTH_TELLING * max(told, pacer.value):
                self._told[name] = pacer.value
                events.append(PriceUpdate("usd", name, told, pacer.value, _why(pacer, told)))
        return events

    def balances(self) -> dict[str, tuple[float, float, float]]:
        """By class with a mean budget: mean cost lately, the budget, and what is saved (less than 0: owed), in USD."""
        return {n: (p.mean_usd, p.usd, p.saved_usd) for n, p in self.by_key.items() if "/" not in n}

    def state(self) -> dict[str, list[float]]:
        """What a checkpoint keeps, by class."""
        return {name: pacer.state() for name, pacer in self.by_key.items()}

    def restore(self, state: dict[str, list[float]]) -> None:
        """Take up a checkpoint; raises `ValueError` where it is not one."""
        for name, row in state.items():
            if name in self.by_key:
                self.by_key[name].restore(row)


def _why(pacer: BudgetPrice, told: float) -> str:
    if pacer.is_overruled:
        return "the floor keeps the mean cost above its budget"
    if pacer.value < told:
        return "the budget leaves more to spend"
    return "the mean cost must come down to its budget"
