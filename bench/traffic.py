"""A made-up stream of events: what the router emits for requests and at its ticks. For benches and tests."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from msgspec.structs import replace

from bench.control_events import control_events
from router.core.judging.judging import account_of
from router.domain.decision import Candidate, Decision, DecisionId, Exclusion, Prices, Terms
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Mode, Price, Tier
from router.domain.drift import RISKS, FloorAtRisk, FloorObserved
from router.domain.events import (
    AnswerJudged,
    AttemptEnded,
    BudgetChanged,
    BudgetObserved,
    CacheUsed,
    CascadeChecked,
    CeilingUpdate,
    CheckpointSaved,
    DecisionMade,
    Event,
    ExperimentObserved,
    FeedbackReceived,
    HealthChanged,
    IngressEvent,
    JudgeCompared,
    LimitUpdate,
    LoadObserved,
    PolicyApplied,
    PolicyRejected,
    PriceUpdate,
    QueueObserved,
    RequestEnded,
    RequestReceived,
    RequestRejected,
    RequestShaped,
    RolloutChanged,
    ShadowCompared,
)
from router.domain.outcome import Attempt, AttemptId, Ending, Outcome
from router.domain.request import Prompt, Request, RequestId
from router.domain.rollout import Arm, Rollout, RolloutMode
from router.domain.slo import (
    Budget,
    BudgetPaced,
    CacheTerms,
    Cascade,
    Ceiling,
    Check,
    Indicator,
    Judge,
    Objective,
    Objectives,
    Parameters,
    QualityFloor,
    RequestClass,
    Style,
)
from router.policy.policy import Policy

WALL = 1_767_225_600.0
PROMPT = "the words of a prompt, which nobody but the model may read"
BINDINGS = ("cost", "slo", "quality", "floor", "capacity", "only", "explored", "forced")


def policy(*, classes: int = 8, deployments: int = 4) -> Policy:
    """Classes with TTFT and TPOT objectives (thresholds of their own) and a floor; deployments small to large. The
    first class has a canary and a budget, the second an experiment, a cache, a learned ceiling and shaped requests."""
    return Policy(
        "5eed5eed5eed",
        tuple(_request_class(number) for number in range(classes)),
        tuple(deployment(number) for number in range(deployments)),
    )


def deployment(number: int) -> Deployment:
    """One deployment: even ones small, odd ones large, each of its own model."""
    tier = Tier.LARGE if number % 2 else Tier.SMALL
    name = f"{tier.value}-{number}"
    return Deployment(
        name=DeploymentName(name),
        group=name,
        model=f"model-{number}",
        tier=tier,
        kind=Kind.CONTINUOUS,
        address=Address("bedrock" if number % 2 else "openai_http", f"target-{number}"),
        price=Price(0.2 + number, 0.6 + 3 * number),
    )


def request_events(number: int, rng: Random, of: Policy) -> tuple[Event, ...]:
    """What one answered request emits: received, decided, called, ended, replied."""
    request = _request(number)
    name = of.classes[number % len(of.classes)].name
    decision = _decision(number, rng, of, name)
    chosen = next(d for d in of.deployments if d.name == decision.chosen)
    ttft_s, tpot_s, tokens = rng.uniform(0.02, 0.8), rng.uniform(0.005, 0.08), rng.randrange(1, 400)
    attempt = Attempt(AttemptId(f"a{number}"), decision.id, request, chosen, 1, 10.0, None, stream=True)
    cost_usd = chosen.price.cost_usd(request.input_tokens, tokens)
    ended_at = 10.0 + ttft_s + tokens * tpot_s
    outcome = Outcome(attempt, Ending.COMPLETED, ended_at, 10.0 + ttft_s, 100, tokens, cost_usd)
    outcome = replace(outcome, cached_tokens=40, cache_written_tokens=8)
    met = (("ttft", ttft_s <= 0.5), ("tpot", tpot_s <= 0.05))
    ended = RequestEnded(
        request=request,
        request_class=name,
        decision_id=decision.id,
        deployment=chosen.name,
        model=chosen.model,
        tier=chosen.tier.value,
        status="completed",
        code=None,
        attempts=1 + (number % 10 == 0),
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        e2e_s=ttft_s + tokens * tpot_s,
        queue_s=rng.uniform(0, 0.1),
        overhead_s=rng.uniform(0.0002, 0.002),
        input_tokens=request.input_tokens,
        output_tokens=tokens,
        cost_usd=cost_usd,
        baseline_cost_usd=of.deployments[-1].price.cost_usd(request.input_tokens, tokens),
        met=met,
        slo_met=all(kept for _, kept in met),
        at=request.at + 1,
        arm=decision.arm,
        p_adequate=0.8,
    )
    return (
        RequestReceived(request, name, request.arrived + 0.0005),
        DecisionMade(decision),
        AttemptEnded(outcome, name, 0.002, ttft_s, tokens * tpot_s, 0.003),
        ended,
        IngressEvent(request.source, "replied", seconds=0.0004),
    )


def trouble_events(number: int, of: Policy) -> tuple[Event, ...]:
    """A refusal, a call that failed, feedback known and unknown, and what goes wrong at the doors."""
    request, name, model = _request(number), of.classes[0].name, of.deployments[0].model
    attempt = Attempt(AttemptId("x"), DecisionId(f"d{number}"), request, of.deployments[0], 1, 1.0, None, stream=False)
    failed = Outcome(attempt, Ending.FAILED, 1.5, None, 100, 0, 0.0, error_code="throttled", retry_after_s=1.0)
    return (
        RequestReceived(request, name, request.arrived),
        RequestRejected(request, name, "queue_full", "admission", 1.0),
        AttemptEnded(failed, name, None, None, None),
        FeedbackReceived(f"d{number}", 0.9, True, name, model),
        FeedbackReceived("nobody", 0.1, False),
        IngressEvent("mqtt", "cut_call"),
        IngressEvent("mqtt", "dead_letter", "no response topic"),
        IngressEvent("mqtt", "duplicate"),
        IngressEvent("http", "invalid", "invalid_json"),
    )


def tick_events(number: int, of: Policy) -> Iterator[Event]:
    """What the loops emit: load, limits, prices, queue, health, policy, checkpoint."""
    for position, one in enumerate(of.deployments):
        busy = (number + position) % 16
        seen = (busy, 16.0 + position, 120 * busy, 900 * busy, busy / 16, 1.0 + busy / 50)
        yield LoadObserved(one.name, *seen, "step_model", 9e4)
        yield LimitUpdate(one.name, "in_flight", 16.0, 16.0 + position, "headroom")
        yield PriceUpdate("capacity", one.name, 0.0, 0.1 * busy, "saturated")
    yield PriceUpdate("floor", of.classes[0].name, 0.0, 0.4, "floor_missed")
    told = None if number % 2 else 0.88
    yield FloorObserved(of.classes[0].name, 0.9, 0.4, 0.93, 0.91, told, ("", *RISKS)[number % 5])
    yield FloorAtRisk(of.classes[0].name, ("", *RISKS)[number % 5], 0.9, 0.93, 0.91, 0.4, "the price rises")
    yield PriceUpdate("usd", "", 1.0, 1.2, "over_pace")
    yield BudgetPaced(of.classes[0].name, 20.0, 0.0004, 0.0005, 0.001 * (number % 3), number % 2 == 0)
    yield QueueObserved(number % 7, 0.01 * (number % 7))
    yield HealthChanged(of.deployments[0].name, "ok", ("open", "probing", "ok")[number % 3], "5 of 5 calls failed")
    yield PolicyApplied(of.digest, of.digest, ("classes[0].floor: 0.8 -> 0.9",), WALL + number)
    yield PolicyRejected("bad", ("policy.yaml:3:1: classes: expected a list",), WALL + number)
    yield CheckpointSaved("checkpoint.json", 4096, WALL)
    yield from control_events(number, of)
    yield IngressEvent("mqtt", "connected")


def change_events(number: int, of: Policy) -> Iterator[Event]:
    """What rollouts, experiments, budgets, caches and parameters emit, for a policy of two classes or more."""
    rng, first, second = Random(number), of.classes[0], of.classes[1]
    *_, live, other = (d.name for d in of.deployments)
    state, ratio = (("canary", 0.05), ("canary", 0.25), ("promoted", 1.0), ("rolled_back", 0.0))[number % 7 % 4]
    yield RolloutChanged(first.name, state, ratio, "0ed17", "no objective burned", WALL + number)
    yield RolloutChanged(second.name, "ab", 1.0, "0ab17", "2 arms begin", WALL + number)
    for name, arms in ((first.name, ("stable", "canary")), (second.name, [a.name for a in second.rollout.arms])):
        for arm in arms:
            for measure in ("useful", "slo", "quality", "cost"):
                mean = rng.uniform(0.4, 0.6)
                yield ExperimentObserved(name, arm, measure, number, mean, mean - 0.1, mean + 0.1)
    for would in (live, other):
        yield ShadowCompared(f"d{number}", first.name, "0ed17", live, would, None, _terms(rng), _terms(rng))
    yield ShadowCompared(f"d{number}", first.name, "0ed17", live, "", "too_dear", _terms(rng), None)
    spent_usd = rng.uniform(1.0, 12.0)
    yield BudgetObserved(first.name, spent_usd, 0.1, 10.0)
    yield BudgetChanged(first.name, spent_usd < 10.0, spent_usd, 10.0, "12 % of the day is left", WALL + number)
    for result in ("hit", "joined", "miss", "bypass"):
        yield CacheUsed(second.name, result, 0.002 if result in ("hit", "joined") else 0.0)
    yield from _judged(number, of)
    yield CascadeChecked(second.name, of.deployments[0].name, True, "passed", 0.7, 0.8, False)
    yield CascadeChecked(second.name, of.deployments[0].name, False, "json", 0.7, 0.2, True)
    yield RequestShaped(second.name, "input_budget", 350)
    yield RequestShaped(second.name, "style", 0)
    for deployment in of.deployments:
        yield CeilingUpdate(second.name, deployment.model, 1024, 600 + number % 100, 0.01, "p97 is shorter")


def _judged(number: int, of: Policy) -> Iterator[Event]:
    """Verdicts of the judge of the second class, one that a sender told otherwise, and what is left of its budget."""
    second, answered, judge = of.classes[1], of.deployments[0].model, of.deployments[1].name
    common = {"judge": judge, "model": answered, "decision_id": f"d{number}", "propensity": 0.02, "at": WALL + number}
    for verdict, quality in (("adequate", 0.9), ("inadequate", 0.2), ("unreadable", None)):
        yield AnswerJudged(request_class=second.name, verdict=verdict, quality=quality, cost_usd=0.001, **common)
    yield AnswerJudged(request_class=second.name, verdict="busy", **common)
    yield JudgeCompared(second.name, judge, f"d{number}", 0.9, 0.4, number + 1, 0.1, 0.8)
    yield BudgetObserved(account_of(second.name), 0.1, 0.01, 1.0)


def _treatment(number: int) -> dict[str, Any]:
    """What only the first two classes have."""
    if number == 0:
        return {"rollout": Rollout(RolloutMode.CANARY), "budget": Budget(usd_per_day=10.0)}
    if number == 1:
        return {
            "rollout": Rollout(RolloutMode.AB, arms=(Arm("as-is", 0.5), Arm("brief", 0.5, style=Style.CONCISE.value))),
            "cache": CacheTerms(ttl_s=60.0),
            "cascade": Cascade(tuple(Check)),
            "parameters": Parameters(ceiling=Ceiling(1024)),
            "input_budget_tokens": 4000,
            "judge": Judge("large-1"),
        }
    return {"mode": Mode.ADVISE} if number == 2 else {}


def _arm(number: int, of: Policy) -> str:
    """The side of a request, where its class has sides."""
    arms = ((("stable",) * 4 + ("canary",)), ("as-is", "brief"))
    position = number % len(of.classes)
    return arms[position][number // len(of.classes) % len(arms[position])] if position < len(arms) else ""


def _request_class(number: int) -> RequestClass:
    objectives = Objectives(
        ttft=Objective(Indicator.TTFT, 0.5 + number / 100, 0.95),
        tpot=Objective(Indicator.TPOT, 0.05, 0.99),
    )
    return RequestClass(f"class-{number}", objectives=objectives, floor=QualityFloor(0.8), **_treatment(number))


def _request(number: int) -> Request:
    return Request(
        id=RequestId(f"r{number}"),
        arrived=10.0,
        at=WALL + number,
        prompt=Prompt(PROMPT),
        input_tokens=100,
        payload=PROMPT.encode(),
        source="mqtt" if number % 2 else "http",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )


def _decision(number: int, rng: Random, of: Policy, name: str) -> Decision:
    *standing, fallen = of.deployments
    candidates = tuple(Candidate(d.name, rng.random(), _terms(rng), 1 / len(standing)) for d in standing)
    return Decision(
        id=DecisionId(f"d{number}"),
        request_id=f"r{number}",
        request_class=name,
        tenant="default",
        at=WALL + number,
        now=10.0,
        policy=of.digest,
        picker="utility",
        complexity=rng.random(),
        features=tuple((f"feature_{i}", rng.random()) for i in range(16)),
        candidates=candidates,
        excluded=(Exclusion(fallen.name, "unhealthy", "5 of 5 calls failed"),),
        chosen=rng.choice(candidates).deployment,
        propensity=1 / len(standing),
        binding=BINDINGS[number % len(BINDINGS)],
        prices=Prices(1.0, 2.0, {d.name: 0.1 for d in of.deployments}),
        input_tokens=100,
        decide_s=rng.uniform(3e-5, 2e-4),
        arm=_arm(number, of),
    )


def _terms(rng: Random) -> Terms:
    return Terms(
        p_slo=rng.random(),
        p_adequate=rng.random(),
        ttft_s=rng.uniform(0.02, 0.8),
        tpot_s=rng.uniform(0.005, 0.08),
        e2e_s=rng.uniform(0.5, 8.0),
        output_tokens=rng.uniform(10, 400),
        cost_usd=rng.uniform(1e-5, 1e-3),
        useful=rng.random(),
        floor=rng.random(),
        cost=rng.random(),
        capacity=rng.random(),
    )
