"""A deployment that nobody has measured: usable at once, believed cautiously, and what is learned of it is its own."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest

from router.complexity.estimator import Scored
from router.complexity.registry import shipped_prior
from router.core.controller import Controller
from router.domain.decision import Candidate, Decision
from router.domain.deployment import Tier
from router.domain.request import Prompt, Request, RequestId
from router.domain.slo import QualityFloor, RequestClass
from router.domain.view import Load
from router.policy.compile import compile_policy
from router.policy.policy import Bounds, Policy
from router.wiring import controller_for
from tests.regressions.house import deployment

PRICE = "backend: simulated, price_usd_per_mtok: {input: 1, output: 1}"
FLOOR = 0.8


def request(number: int = 0) -> Request:
    prompt = Prompt("Prove that there are infinitely many primes of the form 4n + 3.")
    return Request(RequestId(f"r{number}"), 0.0, 0.0, prompt, 20)


def policy(*deployments: str) -> Policy:
    """Deployments d0, d1 ... and one class that explores."""
    text = "deployments:\n" + "".join(f"  - {{name: d{i}, {d}, {PRICE}}}\n" for i, d in enumerate(deployments))
    return compile_policy([("f.yaml", text), ("c.yaml", "class: {name: default, deadline: 1m}\n")])


def decide(controller: Controller, number: int = 0) -> Decision:
    ticket = controller.admit(request(number), now=0.0)
    decision = controller.decide(ticket, now=0.0)
    assert isinstance(decision, Decision)
    return decision


def candidates(controller: Controller) -> Mapping[str, Candidate]:
    return {c.deployment: c for c in decide(controller).candidates}


def test_an_unmeasured_model_gets_the_estimate_of_its_tier_with_a_lower_bound() -> None:
    """The shipped prior's figure for the tier, whose own bound lies below it; and the router's bound below that, since
    it does not know yet how far such an estimate is off for this model."""
    controller = controller_for(policy("model: unheard-of, tier: small"), shipped_prior(), rng=Random(0))
    scored = controller.estimator.estimate(request())
    terms = candidates(controller)["d0"].terms
    assert terms.p_adequate == pytest.approx(scored.tiers[Tier.SMALL])
    assert terms.p_adequate_low < scored.tier_lows[Tier.SMALL] < terms.p_adequate


class Estimator:
    """A small model may do, a large one will; sure enough of the small one for the floor."""

    def estimate(self, asked: Request) -> Scored:
        tiers, lows = {Tier.SMALL: 0.88, Tier.LARGE: 0.97}, {Tier.SMALL: 0.85, Tier.LARGE: 0.95}
        return Scored(0.12, "chat", {}, tiers, tier_lows=lows)


def cautious() -> Controller:
    """A class with a floor that explores, one deployment of each tier, and nothing learned."""
    explores = RequestClass("all", floor=QualityFloor(FLOOR), exploration_ratio=0.5)
    fleet = (deployment("small"), deployment("large", Tier.LARGE))
    controller = Controller(Policy("p", (explores,), fleet, Bounds()), Estimator(), rng=Random(0))
    controller.duals.floors["all"].value = 5.0
    return controller


def test_an_unmeasured_model_is_not_tried_where_a_floor_may_break() -> None:
    """Its estimate and even the estimator's bound are above the floor; the router's is not until feedback has shown
    that such estimates hold for it. Then it is tried, and not before."""
    controller = cautious()
    new = candidates(controller)["small"]
    assert new.terms.p_adequate_low < FLOOR < 0.85 < new.terms.p_adequate
    assert new.propensity == 0.0
    for _ in range(200):
        controller.qualities.observe(0.88, "model-small", "chat", 1.0)
    known = candidates(controller)["small"]
    assert known.terms.p_adequate_low > FLOOR
    assert known.propensity > 0.0


def test_a_deployment_that_is_new_in_the_policy_is_a_candidate_at_once() -> None:
    """Beside others of which much was learned, in figures of some size."""
    controller = controller_for(policy("model: llama-3.1-8b, tier: small"), shipped_prior(), rng=Random(0))
    for i in range(100):
        controller.qualities.observe(0.8, "llama-3.1-8b", "chat", 1.0)
        controller.lengths.observe("default", "llama-3.1-8b", 30, now=float(i))
    edited = policy("model: llama-3.1-8b, tier: small", "model: unheard-of, tier: large")
    controller.apply(edited, now=1.0, at=1.0)
    found = candidates(controller)
    assert set(found) == {"d0", "d1"}
    terms = found["d1"].terms
    assert 0.0 < terms.p_adequate_low < terms.p_adequate < 1.0
    assert 0.0 < terms.ttft_s < 10.0
    assert terms.output_tokens > found["d0"].terms.output_tokens


def variant() -> Controller:
    """A base model with short answers, and a variant that was made from it."""
    fleet = policy("model: llama-3.1-70b, tier: large", "model: legal, tier: large, derived_from: llama-3.1-70b")
    controller = controller_for(fleet, shipped_prior(), rng=Random(0))
    for i in range(100):
        controller.lengths.observe("default", "llama-3.1-70b", 20, now=float(i))
    return controller


def test_a_variant_has_the_speed_of_its_base_from_its_first_request() -> None:
    """Seconds per token and to the first one, not those of an unknown model of its tier."""
    members = variant().fleet.members
    base, made = (members[name].latency for name in ("d0", "d1"))  # type: ignore[index]
    unknown = controller_for(policy("model: legal, tier: large"), shipped_prior(), rng=Random(0))
    tier = unknown.fleet.members["d0"].latency  # type: ignore[index]
    load = Load(8, 0, 0, 8000)
    assert made.predict(load, 500, 100.0, 0.0) == base.predict(load, 500, 100.0, 0.0)
    assert made.predict(load, 500, 100.0, 0.0)[1] < tier.predict(load, 500, 100.0, 0.0)[1]


def test_a_variant_learns_its_own_length() -> None:
    """It does not start at its base's, which it was perhaps made to change, and teaches its base nothing."""
    controller = variant()
    found = candidates(controller)
    base = found["d0"].terms.output_tokens
    assert base < 30.0 < 100.0 < found["d1"].terms.output_tokens
    for i in range(200):
        controller.lengths.observe("default", "legal", 600, now=float(i))
    found = candidates(controller)
    assert found["d1"].terms.output_tokens == pytest.approx(600.0, rel=0.2)
    assert found["d0"].terms.output_tokens == base


def test_what_is_measured_of_a_variant_is_its_own() -> None:
    """A base that has become slow says nothing of its variant on another server, nor the other way."""
    controller = variant()
    members = controller.fleet.members
    base, made = (members[name].latency for name in ("d0", "d1"))  # type: ignore[index]
    before = base.predict(Load(8, 0, 0, 8000), 500, 100.0, 0.0)
    for i in range(100):
        made.observe_gap(Load(8, 0, 0, 8000), 8 * 3.0 * made.prior.base_s, 8, 0, now=0.1 * i)
    assert made.multiplier > 2.0
    assert base.predict(Load(8, 0, 0, 8000), 500, 100.0, 0.0) == before
