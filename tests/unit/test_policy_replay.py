"""A decision log under a new policy: what would go elsewhere, and what cannot be told from the log."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from router.complexity.estimator import Scored
from router.core.controller import Controller
from router.domain.decision import Candidate, Decision, Exclusion
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.errors import RouterError
from router.domain.request import Prompt, Request, RequestId
from router.domain.slo import Budget, Goal, Indicator, Match, Objective, Objectives, QualityFloor, RequestClass
from router.policy.policy import Policy
from router.sim.off_policy.in_time import p_in_time
from router.sim.replay import REFUSED, SHED, WAITS, Replay, replay


def deployment(name: str, tier: Tier, usd: float, **fields: Any) -> Deployment:
    model = "llama-3.1-8b" if tier is Tier.SMALL else "llama-3.1-70b"
    address, price = Address("simulated", name), Price(usd, usd)
    return Deployment(DeploymentName(name), name, model, tier, Kind.CONTINUOUS, address, price, **fields)


SMALL, LARGE = deployment("small", Tier.SMALL, 0.2), deployment("large", Tier.LARGE, 1.0, tags=frozenset({"eu"}))
PROMISES = Objectives(
    ttft=Objective(Indicator.TTFT, 0.5), tpot=Objective(Indicator.TPOT, 0.05), e2e=Objective(Indicator.E2E, 20.0)
)
CHAT = RequestClass("chat", Match(use_cases=("chat",)), PROMISES, QualityFloor(0.8), Goal.COST, deadline_s=30.0)
REST = RequestClass("rest", objectives=PROMISES, exploration_ratio=0.2)


class Estimator:
    """By the words of the prompt: its use case, and how likely small is to do."""

    def estimate(self, request: Request) -> Scored:
        use_case, small = request.prompt.last_user.split()
        return Scored(0.5, use_case, {}, {Tier.SMALL: float(small), Tier.LARGE: 0.97})


def policy(*classes: RequestClass, fleet: tuple[Deployment, ...] = (SMALL, LARGE), **fields: Any) -> Policy:
    return Policy(str(hash((classes, fleet))), classes, fleet, **fields)


OLD = policy(CHAT, REST)


def requests(count: int, **fields: Any) -> Iterator[Request]:
    """Half chat and half code, of all lengths and hardness, some with a deadline, some that have waited."""
    rng = Random(3)
    for number in range(count):
        waited, now = rng.choice([0.0, 0.0, 0.3]), number * 0.02
        words = f"{rng.choice(['chat', 'code'])} {rng.uniform(0.5, 0.99):.2f}"
        told: dict[str, Any] = {
            "deadline": rng.choice([None, None, now + 6.0]),
            "input_tokens": rng.choice([50, 500, 3000]),
            **fields,
        }
        yield Request(RequestId(str(number)), now - waited, now - waited, Prompt(words), **told)


def logged(of: Policy = OLD, count: int = 200, **fields: Any) -> list[Decision]:
    """Decisions with calls in flight, as the daemon would have logged them."""
    controller = Controller(of, Estimator(), rng=Random(1))
    made: list[Decision] = []
    for request in requests(count, **fields):
        now = int(request.id) * 0.02
        try:
            ticket = controller.admit(request, now=now)
            decision = controller.decide(ticket, now=now)
        except RouterError:
            continue
        if isinstance(decision, Decision):
            controller.start(ticket, now=now)
            made.append(decision)
    assert len(made) > count / 2
    return made


DECISIONS = logged()


def targets(told: Replay) -> set[str]:
    return {route.target for route in told.overall.routes}


def test_the_same_policy_moves_nothing() -> None:
    """Every decision is taken as it was, explored ones among them, and predicts the same."""
    told = replay(DECISIONS, OLD, OLD)
    assert (told.replayed, told.moved, told.skipped, told.reclassed) == (len(DECISIONS), 0, {}, ())
    assert told.overall.then == told.overall.now
    assert any(d.binding == "explored" for d in DECISIONS)
    assert {r.origin for r in told.overall.routes} == {"small", "large"}


def test_the_chance_to_be_in_time_is_recomputed_as_it_was_computed() -> None:
    """From the log alone, P(SLO) under the promises of then is what was recorded then: with waiting, with deadlines of
    the sender and of the class, and under load."""
    by_name = {c.name: c for c in OLD.classes}
    for decision in DECISIONS:
        for one in decision.candidates:
            again = p_in_time(decision, one, by_name[decision.request_class])
            assert again == pytest.approx(one.terms.p_slo, abs=0.005)
    recorded = [c.terms.p_slo for d in DECISIONS for c in d.candidates]
    assert min(recorded) < 0.3 < 0.9 < max(recorded)


def test_a_tighter_promise_moves_what_would_miss_it() -> None:
    """Where large cannot keep the new gap between tokens, small takes over, and the table says so by class."""
    tight = replace(CHAT, objectives=replace(PROMISES, tpot=Objective(Indicator.TPOT, 0.03)))
    told = replay(DECISIONS, OLD, policy(tight, REST))
    assert told.by_class["chat"].moved > 0
    assert told.by_class["rest"].moved == 0
    assert {(r.origin, r.target) for r in told.by_class["chat"].routes if r.origin != r.target} == {("large", "small")}
    now, then = told.by_class["chat"].now, told.by_class["chat"].then
    assert now is not None
    assert then is not None
    assert now.cost_per_1k_usd < then.cost_per_1k_usd
    assert now.p_adequate < then.p_adequate


def test_requests_change_class_with_the_conditions() -> None:
    """A class that also takes code takes it; who moved is told."""
    wider = replace(CHAT, match=Match(use_cases=("chat", "code")))
    told = replay(DECISIONS, OLD, policy(wider, REST))
    (move,) = told.reclassed
    assert (move.origin, move.target) == ("rest", "chat")
    assert told.by_class["chat"].decisions == len(DECISIONS)


@pytest.mark.parametrize(
    "edit",
    [{"residency": ("eu",)}, {"deployments": ("large",)}, {"forced": "large"}],
    ids=["residency", "list", "forced"],
)
def test_what_a_class_may_use_is_obeyed(edit: dict[str, Any]) -> None:
    """Tags, lists and forcing leave only large."""
    told = replay(DECISIONS, OLD, policy(replace(CHAT, **edit), replace(REST, **edit)))
    assert targets(told) == {"large"}
    assert told.moved > 0


def test_a_budget_per_request_and_a_price_are_obeyed() -> None:
    """What has become too dear for every deployment is refused; a price is that of the new policy."""
    bounded = replace(CHAT, budget=Budget(usd_per_request=1e-9))
    told = replay(DECISIONS, OLD, policy(bounded, REST))
    assert {r.target for r in told.by_class["chat"].routes} == {REFUSED}
    free = replay(DECISIONS, OLD, policy(CHAT, REST, fleet=(SMALL, replace(LARGE, price=Price(0.0, 0.0)))))
    before, after = told.overall.then, free.overall.now
    assert before is not None
    assert after is not None
    assert after.cost_per_1k_usd < before.cost_per_1k_usd


def test_what_may_be_shed_is_shed_where_nothing_is_worth_it() -> None:
    """A sheddable class with a promise that nobody can keep."""
    hopeless = Objectives(ttft=Objective(Indicator.TTFT, 1e-6))
    told = replay(DECISIONS, OLD, policy(replace(CHAT, sheddable=True, objectives=hopeless, floor=None), REST))
    assert {r.target for r in told.by_class["chat"].routes} == {SHED}


def test_a_deployment_that_nothing_was_predicted_of_cannot_be_replayed() -> None:
    """Newly allowed, or new to the fleet: it is counted and named, not guessed."""
    narrow = policy(replace(CHAT, deployments=("small",)), REST)
    made = logged(narrow)
    chats = sum(d.request_class == "chat" for d in made)
    told = replay(made, narrow, policy(CHAT, REST))
    assert told.skipped == {"nothing was predicted of large, which the new policy allows": chats}
    assert told.replayed == len(made) - chats


def test_what_was_full_stays_full() -> None:
    """A fact of the moment keeps a deployment out under any policy; if it passes, the request waits."""
    full = [
        replace(d, candidates=d.candidates[:1], excluded=(*d.excluded, *_at_limit(d.candidates[1:])))
        for d in DECISIONS
        if len(d.candidates) == 2 and d.candidates[0].deployment == "small"
    ]
    told = replay(full, OLD, policy(replace(CHAT, forced="large"), replace(REST, forced="large")))
    assert targets(told) == {WAITS}


def _at_limit(candidates: tuple[Candidate, ...]) -> list[Exclusion]:
    return [Exclusion(c.deployment, "at_limit", "full") for c in candidates]


def test_a_class_that_user_properties_chose_is_kept() -> None:
    """They are not in the log, so what they chose stays, and is skipped where the new policy has it no more."""
    tagged = RequestClass("tagged", Match(attributes=(("tier", "gold"),)), PROMISES)
    old = policy(tagged, CHAT, REST)
    made = logged(old, attributes=(("tier", "gold"),))
    assert set(replay(made, old, old).by_class) == {"tagged"}
    told = replay(made, old, policy(CHAT, REST))
    assert told.replayed == 0
    (reason,) = told.skipped
    assert "user properties chose its class `tagged`" in reason


def test_lines_of_older_versions_are_counted_with_their_reason() -> None:
    """Without use case there is no class; without spread no other promise can be judged."""
    plain = [replace(d, use_case="") for d in DECISIONS]
    assert list(replay(plain, OLD, OLD).skipped) == ["it was logged before use case, topic and model were kept"]
    bare = [replace(d, candidates=tuple(replace(c, spread=None) for c in d.candidates)) for d in DECISIONS]
    assert replay(bare, OLD, OLD).replayed == len(bare), "the same promises need no spread"
    tight = replace(CHAT, objectives=replace(PROMISES, ttft=Objective(Indicator.TTFT, 0.1)))
    told = replay(bare, OLD, policy(tight, REST))
    assert told.skipped == {
        "it was logged before the spread of predictions was kept": sum(d.request_class == "chat" for d in bare)
    }
