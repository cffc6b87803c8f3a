"""Filter, score, pick."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from router.core.evidence import binding
from router.domain.decision import Candidate
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.request import Capability, Prompt, Request, RequestId
from router.domain.slo import Budget, Goal, QualityFloor, RequestClass
from router.domain.view import DeploymentView, Load
from router.routing.filters import PASSING, STANDARD, bar, serves
from router.routing.need import Need
from router.routing.pickers import AlwaysTier, Best, LeastOutstanding, RoundRobin, StaticThreshold, Uniform
from router.routing.scorers import utility

NOTHING: frozenset[Capability] = frozenset()


def deployment(name: str, tier: Tier = Tier.SMALL, **fields: object) -> Deployment:
    base = {
        "group": name,
        "model": f"model-{name}",
        "kind": Kind.CONTINUOUS,
        "address": Address("simulated", name),
        "price": Price(1.0, 1.0),
    }
    return Deployment(name=DeploymentName(name), tier=tier, **{**base, **fields})  # type: ignore[arg-type]


def view(target: Deployment, **fields: object) -> DeploymentView:
    base: dict[str, object] = {
        "blocked": "",
        "load": Load(0, 0, 0, 0),
        "limit": 10.0,
        "p_adequate": 0.8,
        "p_adequate_low": 0.8,
        "output_tokens": 100.0,
        "ttft_s": 0.1,
        "tpot_s": 0.01,
        "e2e_s": 1.1,
        "p_slo": 0.9,
        "cost_usd": 0.001,
        "work_s": 0.1,
        "pressure": 0.5,
        "capacity_price": 0.0,
        "quota_ok": True,
        "quota_fits": True,
    }
    return DeploymentView(deployment=target, **{**base, **fields})  # type: ignore[arg-type]


def need(request_class: RequestClass | None = None, **fields: object) -> Need:
    request = Request(RequestId("r"), 0.0, 0.0, Prompt("hi"), 10, needs=fields.pop("needs", frozenset()))  # type: ignore[arg-type]
    return Need(request, request_class or RequestClass("all"), 0.0, 0.0, **fields)  # type: ignore[arg-type]


def excluded(seen: DeploymentView, asked: Need, forced: str | None = None) -> str | None:
    barred = bar(seen.deployment, forced, asked.request.needs, asked.request_class)
    if barred is not None:
        return barred.code
    for test in STANDARD:
        why = test(seen, asked)
        if why is not None:
            return why.code
    return None


@pytest.mark.parametrize(
    ("seen", "asked", "code"),
    [
        (view(deployment("a")), need(), None),
        (view(deployment("a")), need(RequestClass("all", deployments=("b",))), "not_allowed"),
        (view(deployment("a")), need(tried=frozenset({"a"})), "tried"),
        (view(deployment("a"), blocked="circuit open"), need(), "unhealthy"),
        (
            view(deployment("a", capabilities=frozenset())),
            need(needs=frozenset({Capability.TOOLS})),
            "lacks_capability",
        ),
        (view(deployment("a", context_tokens=5)), need(), "context_too_long"),
        (view(deployment("a")), need(RequestClass("all", budget=Budget(usd_per_request=0.0001))), "too_dear"),
        (view(deployment("a"), quota_ok=False), need(), "no_quota"),
        (view(deployment("a"), quota_ok=False, quota_fits=False), need(), "exceeds_quota"),
        (view(deployment("a"), quota_ok=False), need(unlimited=True), None),
        (view(deployment("a"), load=Load(8, 2, 0, 0)), need(), "at_limit"),
        (view(deployment("a"), load=Load(8, 1, 0, 0)), need(), None),
    ],
)
def test_each_filter_says_why(seen: DeploymentView, asked: Need, code: str | None) -> None:
    """One reason each, from the closed set."""
    assert excluded(seen, asked) == code


def test_a_sender_may_force_a_deployment_by_name_or_model() -> None:
    """What it names is all that may serve it, whatever the class lists."""
    asked = need(RequestClass("all", deployments=("b",)))
    assert excluded(view(deployment("a")), asked, forced="model-a") is None
    assert excluded(view(deployment("b")), asked, forced="a") == "not_allowed"


def test_only_what_passes_by_itself_may_be_waited_for() -> None:
    """A limit, a quota and a circuit pass; a missing capability does not."""
    assert {"at_limit", "no_quota", "unhealthy"} == PASSING


@pytest.mark.parametrize("listed", ["a", "model-a", "small"])
def test_a_class_lists_deployments_by_name_model_or_tier(listed: str) -> None:
    """Any of the names will do."""
    assert serves(RequestClass("all", deployments=(listed,)), deployment("a"))
    assert not serves(RequestClass("all", deployments=("large",)), deployment("a"))


def test_score_is_useful_plus_floor_minus_prices() -> None:
    """The terms add up to the score."""
    asked = need(RequestClass("all", floor=QualityFloor(0.9)), floor_price=2.0, usd_price=50.0)
    candidate = utility(view(deployment("a"), capacity_price=0.3), asked)
    terms = candidate.terms
    assert terms.useful == pytest.approx(0.9 * 0.8)
    assert terms.floor == pytest.approx(2.0 * (0.8 - 0.9))
    assert terms.cost == pytest.approx(0.05)
    assert candidate.score == pytest.approx(terms.useful + terms.floor - terms.cost - terms.capacity)


def test_goal_cost_prefers_the_cheaper_of_two_that_keep_their_promises() -> None:
    """With least cost as the goal and no floor pressing, the cheap one wins; with the floor pressing, the good one."""
    cheap, good = view(deployment("a"), p_slo=1.0), view(deployment("b"), p_slo=1.0, p_adequate=1.0, cost_usd=0.005)
    floor = RequestClass("all", floor=QualityFloor(0.9), goal=Goal.COST)
    relaxed, pressed = need(floor, usd_price=200.0), need(floor, usd_price=200.0, floor_price=5.0)
    assert utility(cheap, relaxed).score > utility(good, relaxed).score
    assert utility(good, pressed).score > utility(cheap, pressed).score


def candidates(views: list[DeploymentView], asked: Need) -> list[Candidate]:
    return [utility(v, asked) for v in views]


def test_logged_propensities_are_the_frequencies_of_the_picks() -> None:
    """Over 20,000 picks each candidate is chosen as often as its propensity says (within 4 standard errors)."""
    views = [view(deployment(n), p_adequate=p, p_adequate_low=p) for n, p in (("a", 0.95), ("b", 0.92), ("c", 0.5))]
    asked = need(RequestClass("all", floor=QualityFloor(0.9), exploration_ratio=0.2))
    rng, counts, picker = Random(1), Counter[int](), Best()
    for _ in range(20_000):
        index, probabilities = picker.pick(candidates(views, asked), views, asked, rng=rng)
        assert index is not None
        counts[index] += 1
    assert probabilities == pytest.approx([0.9, 0.1, 0.0])
    for i, p in enumerate(probabilities):
        assert abs(counts[i] / 20_000 - p) <= 4 * (p * (1 - p) / 20_000) ** 0.5


def test_exploration_never_goes_below_the_floors_lower_bound() -> None:
    """A candidate whose lower bound is under the floor is never explored."""
    safe = view(deployment("a"), p_adequate=0.95, p_adequate_low=0.95)
    views = [safe, view(deployment("b"), p_adequate=0.91, p_adequate_low=0.85)]
    asked = need(RequestClass("all", floor=QualityFloor(0.9), exploration_ratio=0.5))
    _, probabilities = Best().pick(candidates(views, asked), views, asked, rng=Random(0))
    assert probabilities == [1.0, 0.0]


def test_a_variant_is_explored_until_it_is_told_from_one_as_good_as_its_base() -> None:
    """Below the floor's lower bound too, and below its base, while that may be chance; another model is not, and a
    variant of which it is known is not. Where its base is no candidate the floor is what it has to reach."""
    base, safe = deployment("base"), {"p_adequate": 0.92, "p_adequate_low": 0.9}
    variant = deployment("v", derived_from=base.model)
    doubtful, ruined = {"p_adequate": 0.87, "p_adequate_low": 0.74}, {"p_adequate": 0.64, "p_adequate_low": 0.58}
    asked = need(RequestClass("all", floor=QualityFloor(0.8), exploration_ratio=0.1))

    def share(other: DeploymentView, first: DeploymentView) -> float:
        views = [first, other]
        return Best().pick(candidates(views, asked), views, asked, rng=Random(0))[1][1]

    assert share(view(variant, **doubtful), view(base, **safe)) == pytest.approx(0.05)
    assert share(view(deployment("v"), **doubtful), view(base, **safe)) == 0.0
    assert share(view(variant, **ruined), view(base, **safe)) == 0.0
    assert share(view(variant, **doubtful, p_slo=0.1), view(base, **safe)) == 0.0
    best = view(deployment("large"), p_adequate=0.999, p_adequate_low=0.99)
    assert share(view(variant, **doubtful), best) == pytest.approx(0.05)
    assert share(view(variant, **ruined), best) == 0.0


def test_a_fallen_model_is_probed_with_the_whole_exploration_share_and_no_more() -> None:
    """Over 20,000 picks the fallen candidates share what the class explores, exactly as logged; nothing else is
    explored meanwhile."""
    good, fallen = {"p_adequate": 0.95, "p_adequate_low": 0.9}, {"p_adequate": 0.7, "p_adequate_low": 0.7}
    views = [
        view(deployment("a"), **good),
        view(deployment("b"), **good, cost_usd=0.002),
        view(deployment("c"), **fallen, fallen=True),
        view(deployment("d"), **fallen, fallen=True),
        view(deployment("late"), **fallen, fallen=True, p_slo=0.1),
    ]
    asked = need(RequestClass("all", exploration_ratio=0.1), usd_price=10.0)
    rng, counts, picker = Random(2), Counter[int](), Best()
    for _ in range(20_000):
        index, probabilities = picker.pick(candidates(views, asked), views, asked, rng=rng)
        assert index is not None
        counts[index] += 1
    assert probabilities == pytest.approx([0.9, 0.0, 0.05, 0.05, 0.0])
    for i, p in enumerate(probabilities):
        assert abs(counts[i] / 20_000 - p) <= 4 * (p * (1 - p) / 20_000) ** 0.5


@pytest.mark.parametrize(
    "request_class",
    [RequestClass("never"), RequestClass("floor", floor=QualityFloor(0.9), exploration_ratio=0.1)],
)
def test_a_fallen_model_is_not_probed_where_that_is_forbidden(request_class: RequestClass) -> None:
    """A class that does not explore, and one whose floor is above the fallen model's lower bound."""
    views = [
        view(deployment("a"), p_adequate=0.95, p_adequate_low=0.92),
        view(deployment("b"), p_adequate=0.7, p_adequate_low=0.7, fallen=True),
    ]
    asked = need(request_class)
    picks = {Best().pick(candidates(views, asked), views, asked, rng=Random(seed))[0] for seed in range(200)}
    assert picks == {0}
    assert Best().pick(candidates(views, asked), views, asked, rng=Random(0))[1] == [1.0, 0.0]


def test_a_fallen_model_that_is_still_the_best_is_used() -> None:
    """Its lower bound decides; where that beats the others there is nothing to probe."""
    views = [view(deployment("a"), p_adequate=0.8, fallen=True), view(deployment("b"), p_adequate=0.3)]
    asked = need(RequestClass("all", exploration_ratio=0.1))
    _, probabilities = Best().pick(candidates(views, asked), views, asked, rng=Random(0))
    assert probabilities == pytest.approx([0.95, 0.05])


def test_sheddable_request_with_nothing_to_gain_is_shed() -> None:
    """Only a sheddable one: the others are served by the best there is."""
    views = [view(deployment("a"), capacity_price=5.0)]
    sheddable, kept = need(RequestClass("all", sheddable=True)), need()
    assert Best().pick(candidates(views, sheddable), views, sheddable, rng=Random(0))[0] is None
    assert Best().pick(candidates(views, kept), views, kept, rng=Random(0))[0] == 0


def test_baselines_pick_as_their_names_say() -> None:
    """Tier, turn, load, threshold, chance."""
    small = view(deployment("s"), load=Load(3, 0, 0, 0), p_adequate=0.7)
    large = view(deployment("l", Tier.LARGE), load=Load(1, 1, 0, 0))
    views, asked = [small, large], need()
    scored = candidates(views, asked)

    def pick(picker: object) -> int | None:
        return picker.pick(scored, views, asked, rng=Random(3))[0]  # type: ignore[attr-defined, no-any-return]

    assert pick(AlwaysTier(Tier.SMALL)) == 0
    assert pick(AlwaysTier(Tier.LARGE)) == 1
    assert pick(LeastOutstanding()) == 1
    assert pick(StaticThreshold(0.69)) == 0
    assert pick(StaticThreshold(0.71)) == 1
    turns = RoundRobin()
    assert [pick(turns), pick(turns), pick(turns)] == [0, 1, 0]
    assert Uniform().pick(scored, views, asked, rng=Random(0))[1] == [0.5, 0.5]


def test_binding_names_the_term_that_decided() -> None:
    """Price, promise, floor or capacity: whatever put the pick before the runner-up."""
    asked = need(usd_price=50.0)
    cheap, dear = view(deployment("a")), view(deployment("b"), cost_usd=0.01)
    slow = view(deployment("c"), p_slo=0.2)
    full = view(deployment("d"), capacity_price=0.4)
    assert binding(candidates([cheap, dear], asked), 0, None) == "cost"
    assert binding(candidates([cheap, slow], asked), 0, None) == "slo"
    assert binding(candidates([cheap, full], asked), 0, None) == "capacity"
    least = need(RequestClass("all", goal=Goal.COST), usd_price=200.0)
    late_and_dear = view(deployment("e"), p_slo=0.7, cost_usd=0.0025)
    assert binding(candidates([cheap, late_and_dear], least), 0, None) == "slo"
    assert binding(candidates([cheap, dear], asked), 1, None) == "explored"
    assert binding(candidates([cheap], asked), 0, None) == "only"
    assert binding(candidates([cheap, dear], asked), 0, "a") == "forced"
