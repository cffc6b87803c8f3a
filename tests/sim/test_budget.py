"""Thirty-two senders at once, answers whose length nobody knows before: a budget of the day holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from random import Random
from typing import Any

import pytest

from router.core.spending.account import DAY_S
from router.domain.deployment import Price, Tier
from router.domain.errors import RouterError, Unreachable
from router.domain.events import AttemptEnded, BudgetChanged, BudgetObserved, DecisionMade
from router.domain.outcome import Attempt, Delta, Reply, Usage
from router.domain.slo import Budget, RequestClass, WhenSpent
from router.wire.openai import delta_choices
from tests.regressions.house import Answer, House, deployment, virtually

SENDERS = 32
LIMIT_USD = 0.05
PRICE = Price(1.0, 10.0)
_LONG = 0.9
"""Log sigma of the lengths, about what chat answers have."""


def varied(seed: int, *, failing: float = 0.0) -> Answer:
    """Log-normal answers around 150 tokens; a share of the calls fails, some of them after a token."""
    rng = Random(seed)

    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        tokens = max(round(rng.lognormvariate(5.0, _LONG)), 1)
        await asyncio.sleep(rng.uniform(0.1, 1.0))
        fails = rng.random() < failing
        if fails and rng.random() < 0.5:
            raise Unreachable("no")
        yield Delta(delta_choices("w", role=True), 1)
        await asyncio.sleep(tokens * 0.01)
        if fails:
            raise Unreachable("no more")
        yield Delta(delta_choices("", finish_reason="stop"), tokens - 1, "stop", Usage(10, tokens))

    return script


class Watched(House):
    """A house with a budget; at every event that moves money the bound is checked."""

    def __init__(self, when: WhenSpent, *, limit_usd: float = LIMIT_USD, **fields: Any) -> None:
        self.settled_usd: dict[int, float] = {}
        self.over_usd = self.most_over_usd = 0.0
        budgeted = RequestClass("all", budget=Budget(usd_per_day=limit_usd, when_spent=when), **fields)
        super().__init__(budgeted, deployments=(deployment("small", price=PRICE), deployment("large", Tier.LARGE)))
        self.limit_usd = limit_usd
        self.reserved: dict[str, float] = {}

    def emit(self, event: Any) -> None:
        super().emit(event)
        now = asyncio.get_running_loop().time()
        books = self.controller.spending.books().get("all")
        if isinstance(event, DecisionMade) and books is not None:
            self.reserved[event.decision.id] = books.open[event.decision.id]
            total = books.spent_usd + sum(books.open.values())
            assert total <= self.limit_usd + 1e-12, "a call is opened only where its reservation fits"
            self.over_usd = 0.0
        elif isinstance(event, AttemptEnded):
            outcome, day = event.outcome, int(now // DAY_S)
            self.settled_usd[day] = self.settled_usd.get(day, 0.0) + outcome.cost_usd
            self.over_usd += max(outcome.cost_usd - self.reserved[outcome.attempt.decision_id], 0.0)
            assert self.settled_usd[day] <= self.limit_usd + self.over_usd + 1e-12
            self.most_over_usd = max(self.most_over_usd, self.settled_usd[day] - self.limit_usd)


async def send(house: House, number: int, times: int) -> list[Reply | str]:
    """One sender: asks again as soon as it is answered."""
    got: list[Reply | str] = []
    for i in range(times):
        try:
            got.append(await house.ask(f"{number}-{i}"))
        except RouterError as error:
            got.append(error.code)
            await asyncio.sleep(0.5)
    return got


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("hedge_after_s", [None, 0.4])
def test_the_budget_holds_under_32_senders(seed: int, hedge_after_s: float | None) -> None:
    """At any time what was spent is over the limit by no more than the calls in flight went over their reservations;
    once it is spent everybody is told `insufficient_quota`, until the next day. Failed calls, retries and hedges
    included."""

    async def scene() -> None:
        house = Watched(WhenSpent.REJECT, hedge_after_s=hedge_after_s)
        house.backend.scripts = {"small": varied(seed, failing=0.2), "large": varied(seed + 100, failing=0.2)}
        heart = asyncio.ensure_future(house.beat(400.0, 0.5))
        senders = [asyncio.ensure_future(send(house, n, 30)) for n in range(SENDERS)]
        got = [one for sender in senders for one in await sender]
        await heart
        codes = {one for one in got if isinstance(one, str)}
        answered = sum(isinstance(one, Reply) for one in got)
        assert 20 < answered < len(got)
        assert codes <= {"insufficient_quota", "unreachable"}
        assert got[-1] == "insufficient_quota"
        books = house.controller.spending.books()["all"]
        assert books.spent_usd == pytest.approx(sum(house.settled_usd.values()))
        assert books.spent_usd > 0.8 * LIMIT_USD, "and it is not left unspent"
        assert books.open == {}
        assert [e.open for e in house.of(BudgetChanged)][-1] is False
        with pytest.raises(RouterError) as refused:
            await house.ask("late")
        await asyncio.sleep(refused.value.retry_after_s or 0.0)
        assert (await house.ask("tomorrow")).choices

    virtually(scene)


@pytest.mark.parametrize("seed", range(2))
def test_what_does_not_fit_is_answered_the_next_day(seed: int) -> None:
    """With `queue` nobody is refused: the rest waits, and is answered on the next days within their budgets."""

    async def scene() -> None:
        house = Watched(WhenSpent.QUEUE)
        house.backend.scripts = {"small": varied(seed), "large": varied(seed + 100)}
        senders = [asyncio.ensure_future(send(house, n, 8)) for n in range(SENDERS)]
        while not all(sender.done() for sender in senders):
            await house.beat(600.0, 20.0)
            assert house.dispatcher.has_room(), "who waits for a budget stops nobody from reading on"
        got = [one for sender in senders for one in await sender]
        assert all(isinstance(one, Reply) for one in got)
        days = sorted(house.settled_usd)
        assert len(days) > 1
        assert days == list(range(len(days))), "no day is left out"
        assert len(house.dispatcher.queue) == 0
        assert house.dispatcher.held("http") == 0
        changes = [(e.open, e.reason) for e in house.of(BudgetChanged)]
        assert (True, "a new day") in changes
        assert house.of(BudgetObserved)

    virtually(scene)
