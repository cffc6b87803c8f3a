"""The budgets of the day, by class: asked at a decision, reserved at its call, settled at its end.

Only classes with `usd_per_day` come here. An account belongs to a name: an edit of the class, a canary and its stable
side share it, each under its own limit. Wall time is that of the request.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from msgspec import Struct

from router.core.fleet import Member
from router.core.rollouts.trial import STABLE
from router.core.spending.account import Account, Books, day_of, resets_s
from router.core.spending.billing import most_usd
from router.core.ticket import Ticket
from router.core.views import Viewer
from router.domain.deployment import Deployment
from router.domain.events import BudgetChanged, BudgetObserved, Event
from router.domain.outcome import Attempt, Outcome
from router.domain.request import Request
from router.domain.slo import RequestClass, WhenSpent
from router.routing.filters import holds
from router.routing.need import Purse

_TOLD_EVERY_S = 1.0
_GRACE_S = 60.0
"""How long after its deadline a call may still tell its cost before its reservation is given back."""
_LONGEST_S = 3600.0
"""Longest call without a deadline."""


class Paid(Struct, frozen=True):
    """What one call of an earlier life cost, or may have cost, at wall time `at`; one call for each decision.
    `request_class` is `None` where the decision is older than what was read."""

    decision_id: str
    request_class: str | None
    cost_usd: float
    at: float


class _Watch:
    """Whether a class is told to have a budget, and what was seen since that was last looked at."""

    __slots__ = ("closed_at_usd", "fitted", "is_open", "refused", "turned")

    def __init__(self) -> None:
        self.is_open = True
        self.fitted = self.refused = self.turned = False
        self.closed_at_usd = 0.0

    def change(self, limit_usd: float) -> str | None:
        """Why the class has changed sides, if it has. Where some calls fit and others do not, it stays: its budget is
        spent once none fits any more."""
        reason = None
        if self.is_open and self.refused and not self.fitted:
            reason, self.closed_at_usd = "what is left does not hold another call", limit_usd
        elif not self.is_open and self.turned:
            reason = "a new day"
        elif not self.is_open and self.fitted and not self.refused:
            raised = limit_usd > self.closed_at_usd
            reason = "the limit was raised" if raised else "calls cost less than was reserved for them"
        if reason is not None:
            self.is_open = not self.is_open
        self.refused = self.refused and self.fitted and self.is_open and not self.turned
        self.fitted = self.turned = False
        return reason


class Spending:
    """One account for each class with a budget of the day."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._accounts: dict[str, Account] = {}
        self._watches: dict[str, _Watch] = {}
        self._limits: dict[str, float | None] = {}
        self._told_at = float("-inf")

    def adopt(self, classes: Iterable[RequestClass]) -> None:
        """The classes in force. What a class has spent stays, also while it is gone, until the day ends."""
        self._limits = {c.name: c.budget.usd_per_day for c in classes}
        kept = {name for name, limit in self._limits.items() if limit is not None}
        self._watches = {name: self._watches.get(name) or _Watch() for name in kept}

    @property
    def is_needed(self) -> bool:
        """Whether any class in force has a budget of the day."""
        return bool(self._watches)

    def purse(self, ticket: Ticket, members: Sequence[Member], *, now: float) -> Purse | None:
        """What the ticket's class may still pay for today; `None` where nothing bounds it. Who has to wait for
        the budget waits for that of the class in force, so that a raised one lets it go."""
        request_class, budget = ticket.request_class, ticket.request_class.budget
        limit = budget.usd_per_day
        if ticket.was_held and ticket.arm in ("", STABLE):
            limit = self._limits.get(request_class.name, limit)
        if limit is None:
            return None
        at = wall(ticket.request, now)
        account = self._account(request_class.name, at)
        able = [m for m in members if self._is_able(m, ticket)]
        costs = {m.deployment.name: self._most_usd(ticket, m.deployment) for m in able}
        left = limit - account.spent_usd - account.reserved_usd
        short: dict[str, float] = {name: usd for name, usd in costs.items() if usd > max(left, 0.0)}
        is_shut = bool(short) and len(short) == len(able)
        is_spent = bool(short) and all(name in short or usd <= 0.0 for name, usd in costs.items())
        if short and budget.when_spent is WhenSpent.CHEAPEST:
            for name in self._cheapest(able, short, ticket, now):
                del short[name]
        books = (limit, account.spent_usd, account.reserved_usd, resets_s(at))
        return Purse(*books, budget.when_spent, short, is_shut=is_shut, is_spent=is_spent)

    def _is_able(self, member: Member, ticket: Ticket) -> bool:
        """Whether the day's money is all that could keep the deployment from the ticket for good."""
        deployment, request = member.deployment, ticket.request
        if deployment.name in ticket.tried or not holds(deployment, request):
            return False
        bound = ticket.request_class.budget.usd_per_request
        if bound is not None and self._expected_usd(ticket, deployment) > bound:
            return False
        tokens = self._viewer.length(ticket, deployment.model)
        return member.quota is None or member.quota.fits(request.input_tokens, tokens)

    def _cheapest(self, able: list[Member], short: Collection[str], ticket: Ticket, now: float) -> list[str]:
        """Who may be paid past the budget: nobody while anyone within it is well, else the cheapest of those that are
        well by expected cost, all of them where several are."""
        pool = [m.deployment for m in able if not m.circuit.blocked(now=now)] or [m.deployment for m in able]
        if any(deployment.name not in short for deployment in pool):
            return []
        expected = {deployment.name: self._expected_usd(ticket, deployment) for deployment in pool}
        least = min(expected.values())
        return [name for name, usd in expected.items() if usd <= least]

    def _expected_usd(self, ticket: Ticket, deployment: Deployment) -> float:
        tokens = self._viewer.length(ticket, deployment.model)
        return deployment.price.cost_usd(ticket.request.input_tokens, tokens)

    def _most_usd(self, ticket: Ticket, deployment: Deployment) -> float:
        """What a call may cost: 97 of 100 cost less."""
        tokens = self._viewer.longest(ticket, deployment.model)
        return most_usd(deployment, ticket.request.input_tokens, tokens)

    def on_weighed(self, request_class: str, purse: Purse, *, served: bool) -> None:
        """A request of the class has been decided: whether what is left holds what it would have to pay."""
        watch = self._watches.get(request_class)
        if watch is not None:
            watch.refused |= purse.is_spent
            watch.fitted |= served and not purse.is_spent

    def reserve(self, ticket: Ticket, attempt: Attempt, *, now: float) -> None:
        """A call is about to be made."""
        account = self._account(ticket.request_class.name, wall(ticket.request, now))
        usd = self._most_usd(ticket, attempt.deployment)
        account.reserve(attempt.id, attempt.decision_id, usd, expires=_expires(attempt, now))

    def claim(self, ticket: Ticket, attempt: Attempt, usd: float, *, now: float) -> bool:
        """Reserve for a call that costs `usd` at the very most; false where that is not left of the day's budget."""
        name, limit = ticket.request_class.name, ticket.request_class.budget.usd_per_day
        account, watch = self._account(name, wall(ticket.request, now)), self._watches.get(name)
        fits = limit is None or account.spent_usd + account.reserved_usd + usd <= limit
        if watch is not None:
            watch.fitted, watch.refused = watch.fitted or fits, watch.refused or not fits
        if fits:
            account.reserve(attempt.id, attempt.decision_id, usd, expires=_expires(attempt, now))
        return fits

    def settle(self, request_class: str, outcome: Outcome) -> None:
        """A call has ended, one way or another: what it cost is spent. Telling it twice is harmless."""
        attempt = outcome.attempt
        account = self._account(request_class, wall(attempt.request, outcome.ended))
        account.settle(attempt.id, outcome.cost_usd)

    def waste(self, request_class: str, usd: float, *, at: float) -> None:
        """What was paid for an answer that came when its call was over: answers of batch jobs do."""
        if request_class in self._watches:
            self._account(request_class, at).spent_usd += usd

    def _account(self, request_class: str, at: float) -> Account:
        account, day = self._accounts.get(request_class), day_of(at)
        if account is None:
            account = self._accounts[request_class] = Account(day)
        elif account.turn(day):
            watch = self._watches.get(request_class)
            if watch is not None:
                watch.turned = True
        return account

    def tick(self, *, now: float, at: float) -> list[Event]:
        """Once a second: give back what has expired, begin the day, tell how the budgets stand."""
        if now - self._told_at < _TOLD_EVERY_S:
            return []
        self._told_at = now
        for account in self._accounts.values():
            account.lapse(now)
        kept = {n: a for n, a in self._accounts.items() if n in self._watches or not a.is_idle or a.day >= day_of(at)}
        self._accounts = kept
        return [event for name, watch in self._watches.items() for event in self._observe(name, watch, at)]

    def _observe(self, name: str, watch: _Watch, at: float) -> list[Event]:
        limit = self._limits[name]
        assert limit is not None
        account = self._account(name, at)
        events: list[Event] = [BudgetObserved(name, account.spent_usd, account.reserved_usd, limit)]
        reason = watch.change(limit)
        if reason is not None:
            events.append(BudgetChanged(name, watch.is_open, account.spent_usd, limit, reason, at))
        return events

    def balances(self, *, at: float) -> dict[str, tuple[float, float, float]]:
        """By class with a budget: USD spent and reserved today, and the limit."""
        accounts = {name: (self._account(name, at), limit) for name, limit in self._limits.items() if limit is not None}
        return {name: (a.spent_usd, a.reserved_usd, limit) for name, (a, limit) in accounts.items()}

    def books(self) -> dict[str, Books]:
        """What a checkpoint keeps, by class."""
        return {name: account.books() for name, account in self._accounts.items()}

    def restore(self, books: dict[str, Books]) -> None:
        """Take up a checkpoint."""
        self._accounts = {name: Account.of(one) for name, one in books.items()}

    def recover(self, calls: Iterable[Paid], *, at: float) -> float:
        """Count what a log tells of calls after the checkpoint; the USD that makes of difference. A checkpoint of a day
        that is still to come was written by a clock that was wrong: what it says was spent is taken to be of today."""
        today = day_of(at)
        known = {decision: name for name, account in self._accounts.items() for decision in account.carried}
        for account in self._accounts.values():
            account.day = min(account.day, today)
            account.turn(today)
        before = sum(account.spent_usd for account in self._accounts.values())
        for call in calls:
            name = call.request_class or known.get(call.decision_id)
            if name is not None and self._limits.get(name) is not None and day_of(call.at) >= today:
                self._account(name, at).correct(call.decision_id, call.cost_usd)
        return sum(account.spent_usd for account in self._accounts.values()) - before


def _expires(attempt: Attempt, now: float) -> float:
    return (now + _LONGEST_S if attempt.deadline is None else max(attempt.deadline, now)) + _GRACE_S


def wall(request: Request, now: float) -> float:
    """Wall time of `now`, by the clocks at which the request came."""
    return request.at + (now - request.arrived)
