"""Who is placed where while an edit is on its way, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec
import pytest

from router.complexity.estimator import Scored
from router.core.controller import Controller
from router.core.feedback import Feedback
from router.core.rollouts.evidence import Evidence
from router.core.rollouts.rollouts import Rollouts
from router.core.rollouts.saved import decode, encode
from router.core.rollouts.verdict import Sides, may_go_on, must_go_back
from router.domain.decision import Decision
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, StepProfile, Tier
from router.domain.errors import RequestError, RouterError
from router.domain.events import RolloutChanged
from router.domain.request import Prompt, Request, RequestId
from router.domain.rollout import Arm, Measure, Rollout, RolloutMode, SplitBy
from router.domain.slo import Indicator, Match, Objective, Objectives, QualityFloor, RequestClass
from router.policy.policy import Policy
from router.stats.confidence import Scale

PROMISE = Objectives(ttft=Objective(Indicator.TTFT, 0.5))
CANARY = Rollout(RolloutMode.CANARY, steps=(0.2, 0.5), step_s=60.0, min_requests=10)
SHADOW = Rollout(RolloutMode.SHADOW)
FLEET = (
    Deployment(
        DeploymentName("only"),
        "only",
        "m",
        Tier.SMALL,
        Kind.CONTINUOUS,
        Address("simulated", "m"),
        Price(1.0, 1.0),
        StepProfile(0.01, 0.0001, 0.0, 0.00001),
    ),
)
CATCH_ALL = RequestClass("default")


class Flat:
    """Every prompt is alike."""

    def estimate(self, request: Request) -> Scored:
        return Scored(0.5, "chat", {"m": 0.9}, {Tier.SMALL: 0.9, Tier.LARGE: 0.9})


def chat(priority: int = 0, *, rollout: Rollout = CANARY, **terms: object) -> RequestClass:
    return RequestClass("chat", Match(use_cases=("chat",)), PROMISE, priority=priority, rollout=rollout, **terms)  # type: ignore[arg-type]


def policy(*classes: RequestClass, digest: str = "p") -> Policy:
    return Policy(digest, (*classes, CATCH_ALL), FLEET)


def request(number: int, tenant: str = "acme", asked: str | None = None) -> Request:
    return Request(RequestId(f"r{number}"), 0.0, 0.0, Prompt("hello"), 10, tenant=tenant, request_class=asked)


def begun(new: RequestClass, old: RequestClass | None = None) -> Rollouts:
    """Rollouts just after `new` was written over `old`."""
    rollouts = Rollouts(policy(old or chat()))
    rollouts.take_up(policy(new, digest="q"), now=0.0, at=0.0)
    return rollouts


def priorities(rollouts: Rollouts, count: int = 400, **kinds: str) -> list[int]:
    return [rollouts.place(request(i, **kinds), "chat").request_class.priority for i in range(count)]


def test_without_rollouts_an_edit_is_in_force_at_once() -> None:
    """Mode `live` is the default and tells of no transition."""
    rollouts = Rollouts(policy(chat(rollout=Rollout())))
    assert rollouts.take_up(policy(chat(3, rollout=Rollout()), digest="q"), now=0.0, at=0.0) == []
    assert set(priorities(rollouts)) == {3}
    assert rollouts.policy.digest == "q"


def test_a_canary_decides_its_share_under_one_whole_snapshot() -> None:
    """A fifth of the requests; the class and the policy that a request gets belong together."""
    rollouts = begun(chat(3))
    placed = [rollouts.place(request(i), "chat") for i in range(1000)]
    canaries = [p for p in placed if p.arm == "canary"]
    assert 150 < len(canaries) < 250
    assert all((p.request_class.priority == 3) == (p.policy.digest == "q") for p in placed)
    assert all(p.request_class in p.policy.classes for p in placed)


def test_a_larger_share_keeps_those_it_had() -> None:
    """Whoever saw the edit at 20 % sees it at 50 %."""
    rollouts = begun(chat(3))
    before = {i for i in range(1000) if rollouts.place(request(i), "chat").arm == "canary"}
    rollouts.take_up(policy(chat(3, rollout=Rollout(RolloutMode.CANARY, steps=(0.5,))), digest="r"), now=1.0, at=1.0)
    after = {i for i in range(1000) if rollouts.place(request(i), "chat").arm == "canary"}
    assert before < after
    assert 430 < len(after) < 570


def test_a_tenant_stays_on_one_side() -> None:
    """With `by: tenant` all requests of a tenant go the same way, and tenants differ."""
    rollouts = begun(chat(3, rollout=Rollout(RolloutMode.CANARY, by=SplitBy.TENANT, steps=(0.5,))))
    sides = {tenant: set(priorities(rollouts, 20, tenant=tenant)) for tenant in map(str, range(40))}
    assert all(len(side) == 1 for side in sides.values())
    assert {3} in sides.values()
    assert {0} in sides.values()


def test_a_wider_match_takes_its_share_from_the_class_it_takes_over() -> None:
    """Requests that only the edited class would match are split too."""
    rollouts = Rollouts(policy(chat()))
    wider = RequestClass("chat", Match(use_cases=("chat", "qa")), PROMISE, rollout=CANARY)
    rollouts.take_up(policy(wider, digest="q"), now=0.0, at=0.0)
    names = [rollouts.place(request(i), "qa").request_class.name for i in range(400)]
    assert 40 < names.count("chat") < 130
    assert names.count("chat") + names.count("default") == 400


def test_a_new_class_can_be_a_canary() -> None:
    """It takes its share from the class that has those requests now."""
    rollouts = Rollouts(policy())
    rollouts.take_up(policy(chat(3), digest="q"), now=0.0, at=0.0)
    assert 40 < priorities(rollouts).count(3) < 130
    assert rollouts.place(request(1, asked="chat"), "qa").request_class.name == "chat"


def test_a_new_class_in_the_shadow_cannot_be_asked_for() -> None:
    """It serves nobody."""
    rollouts = Rollouts(policy())
    rollouts.take_up(policy(chat(3, rollout=SHADOW), digest="q"), now=0.0, at=0.0)
    with pytest.raises(RequestError, match="no request class"):
        rollouts.place(request(1, asked="chat"), "chat")


def test_a_class_that_the_edit_closes_to_a_tenant_stays_open_until_it_is_in_force() -> None:
    """A request by name is served by the class as it was."""
    closed = RequestClass("chat", Match(tenants=("other",)), PROMISE, rollout=CANARY)
    rollouts = begun(closed)
    assert rollouts.place(request(1, asked="chat"), "chat").request_class.match.tenants == ()


def test_a_shadow_is_compared_and_serves_nobody() -> None:
    """The class as it was serves; the edit is at hand for comparison."""
    placed = begun(chat(3, rollout=SHADOW)).place(request(1), "chat")
    assert placed.request_class.priority == 0
    assert placed.shadow is not None
    assert placed.shadow.placed.request_class.priority == 3


def test_a_comparison_says_what_the_edit_would_have_picked() -> None:
    """Beside the decision, with the terms of both, and without leaving a trace in the fleet."""
    controller = Controller(policy(chat()), Flat(), rng=Random(0))
    controller.apply(policy(chat(deployments=("nobody",), rollout=SHADOW), digest="q"), now=0.0, at=0.0)
    ticket = controller.admit(request(1), now=0.0)
    controller.decide(ticket, now=0.0)
    compared = controller.compare(ticket, now=0.0)
    assert compared is not None
    assert (compared.chosen, compared.would, compared.code) == ("only", "", "no_deployment")
    assert controller.fleet.members[DeploymentName("only")].account.in_flight == 0


def test_another_edit_takes_the_place_of_the_one_on_its_way() -> None:
    """Told as superseded, and the class in force is still the first."""
    rollouts = begun(chat(3))
    events = rollouts.take_up(policy(chat(4), digest="r"), now=1.0, at=1.0)
    assert [e.state for e in events if isinstance(e, RolloutChanged)] == ["superseded", "canary"]
    assert set(priorities(rollouts)) == {0, 4}


def test_taking_the_edit_back_by_hand_ends_it() -> None:
    """The text as it was: nothing is on its way."""
    rollouts = begun(chat(3))
    events = rollouts.take_up(policy(chat(), digest="r"), now=1.0, at=1.0)
    assert [e.state for e in events if isinstance(e, RolloutChanged)] == ["superseded"]
    assert set(priorities(rollouts)) == {0}


def test_the_mode_live_puts_an_edit_in_force_by_hand() -> None:
    """Same class, other mode: promoted at once."""
    rollouts = begun(chat(3))
    events = rollouts.take_up(policy(chat(3, rollout=Rollout()), digest="r"), now=1.0, at=1.0)
    assert [e.state for e in events if isinstance(e, RolloutChanged)] == ["promoted"]
    assert set(priorities(rollouts)) == {3}


def test_what_takes_everything_else_changes_at_once() -> None:
    """A class that loses its `match` cannot share that place."""
    rollouts = Rollouts(Policy("p", (RequestClass("chat", Match(use_cases=("chat",))), CATCH_ALL), FLEET))
    lone = RequestClass("chat", rollout=CANARY)
    events = rollouts.take_up(Policy("q", (lone,), FLEET), now=0.0, at=0.0)
    assert [e.state for e in events if isinstance(e, RolloutChanged)] == ["promoted"]
    assert rollouts.place(request(1), "math").request_class == lone


def test_an_edit_is_in_force_where_nothing_is_left_for_the_class_as_it_was() -> None:
    """Its deployments have gone with the same edit."""
    rollouts = begun(chat(3), old=chat(deployments=("gone",)))
    assert set(priorities(rollouts)) == {3}


def side(name: str = "canary") -> Evidence:
    return Evidence(name, risk=0.05, scale=Scale())


def filled(bad: int, total: int, *, name: str = "canary", adequate: float = 0.95) -> Evidence:
    """A side whose first `bad` requests missed the TTFT objective, one a second."""
    evidence = side(name)
    for i in range(total):
        evidence.on_answered(PROMISE, (("ttft", i >= bad),), adequate, 1e-4, now=float(i))
    return evidence


def test_a_side_that_only_refuses_does_not_pass() -> None:
    """Refusing keeps no promise: it burns like missing them."""
    evidence = side()
    for i in range(10):
        evidence.on_failed(PROMISE, now=float(i))
    assert must_go_back(Sides(evidence, filled(0, 100), 0.0), CANARY, None, now=10.0) is not None


def test_a_few_bad_requests_are_no_reason() -> None:
    """Four of four: too few to say."""
    assert must_go_back(Sides(filled(4, 4), filled(0, 100), 0.0), CANARY, None, now=4.0) is None


def test_a_burn_that_is_over_is_no_reason() -> None:
    """Bad long ago, good for the last half hour: the short windows say that it has stopped."""
    sides = Sides(filled(600, 2600), filled(0, 20_000), 0.0)
    assert must_go_back(sides, CANARY, None, now=2600.0) is None


def test_a_loose_target_can_burn_too() -> None:
    """Under a target of 90 % no share of bad requests burns at 14.4: half way to all of them is enough."""
    loose, evidence = Objectives(ttft=Objective(Indicator.TTFT, 0.5, 0.9)), side()
    for i in range(20):
        evidence.on_answered(loose, (("ttft", i % 4 == 0),), 0.9, 0.0, now=float(i))
    assert must_go_back(Sides(evidence, side("stable"), 0.0), CANARY, None, now=20.0) is not None


def test_a_slow_leak_is_stopped_by_the_guard_over_all_traffic() -> None:
    """One bad in twenty never burns fast, but after a while it is more than 1 % of the month's budget."""
    evidence, stable = side(), side("stable")
    for i in range(5000):
        evidence.on_answered(PROMISE, (("ttft", i % 20 != 0),), 0.9, 0.0, now=i * 10.0)
        stable.on_answered(PROMISE, (("ttft", True),), 0.9, 0.0, now=i * 10.0)
    why = must_go_back(Sides(evidence, stable, 0.0), CANARY, None, now=5000 * 10.0)
    assert why is not None
    assert "error budget of 30 days" in why


def test_quality_under_the_floor_on_both_sides_is_not_the_edits_fault() -> None:
    """Both are poor and alike: nothing to take back."""
    sides = Sides(filled(0, 500, adequate=0.7), filled(0, 500, adequate=0.7), 0.0)
    assert must_go_back(sides, CANARY, QualityFloor(0.9), now=500.0) is None


def test_told_quality_outweighs_estimates_once_both_sides_are_judged() -> None:
    """Judgements on one side say nothing against estimates on the other; on both they count."""
    edit, stable = filled(0, 500), filled(0, 500, name="stable")
    for _ in range(400):
        edit.on_quality(0.0)
    assert must_go_back(Sides(edit, stable, 0.0), CANARY, QualityFloor(0.9), now=500.0) is None
    for _ in range(400):
        stable.on_quality(1.0)
    assert must_go_back(Sides(edit, stable, 0.0), CANARY, QualityFloor(0.9), now=500.0) is not None


def test_poor_answers_cannot_hide_behind_a_few_judgements() -> None:
    """Thirty judged answers do not reset what is known of five thousand."""
    edit, stable = filled(0, 5000, adequate=0.5), filled(0, 500, name="stable")
    for _ in range(30):
        edit.on_quality(0.0)
    assert must_go_back(Sides(edit, stable, 0.0), CANARY, QualityFloor(0.9), now=5000.0) is not None


def test_quality_above_the_floor_is_enough() -> None:
    """Below the other side, but above what was promised: cheaper answers may be poorer as far as the floor allows."""
    sides = Sides(filled(0, 3000, adequate=0.93), filled(0, 3000, adequate=0.99), 0.0)
    assert must_go_back(sides, CANARY, QualityFloor(0.9), now=3000.0) is None


def test_little_traffic_is_judged_by_little() -> None:
    """Two requests a minute under 99.9 %: two bad ones are 2 % of the month's budget, and enough."""
    strict, edit, stable = Objectives(ttft=Objective(Indicator.TTFT, 0.5, 0.999)), side(), side("stable")
    for i in range(100):
        stable.on_answered(strict, (("ttft", True),), 0.9, 0.0, now=i * 30.0)
    for i in range(2):
        edit.on_answered(strict, (("ttft", False),), 0.9, 0.0, now=i * 30.0)
    assert must_go_back(Sides(edit, stable, 0.0), CANARY, None, now=3000.0) is not None


@pytest.mark.parametrize(
    ("bad", "others_bad", "seconds", "requests", "waits"),
    [
        (0, 0, 60.0, 10, None),
        (0, 0, 59.0, 10, "of 60 s"),
        (0, 0, 60.0, 9, "of 10 requests"),
        (3, 0, 60.0, 10, "ttft burns"),
        (3, 6, 60.0, 10, None),
    ],
)
def test_an_edit_goes_on_when_nothing_burns(
    bad: int, others_bad: int, seconds: float, requests: int, waits: str | None
) -> None:
    """Time, requests, and no objective that burns faster than its budget allows or than on the other side."""
    sides = Sides(filled(bad, 100), filled(others_bad, 100, name="stable"), 0.0)
    why = may_go_on(sides, CANARY, on_step_s=seconds, on_step=requests)
    assert (why is None) if waits is None else (why is not None and waits in why)


def restarted(controller: Controller, written: Policy) -> tuple[Controller, list[object]]:
    """Another process: the directory as written, the checkpoint of the first."""
    second = Controller(written, Flat(), rng=Random(0))
    saved = decode(encode(controller.rollouts.saved(now=100.0)))
    return second, list(second.resume(saved, now=0.0, at=100.0))


def test_a_rollout_survives_a_restart() -> None:
    """The canary goes on with its share, and no transition is told twice."""
    controller = Controller(policy(chat()), Flat(), rng=Random(0))
    controller.apply(policy(chat(3), digest="q"), now=0.0, at=0.0)
    before = [controller.rollouts.place(request(i), "chat").arm for i in range(200)]
    second, events = restarted(controller, policy(chat(3), digest="q"))
    assert events == []
    assert [second.rollouts.place(request(i), "chat").arm for i in range(200)] == before


def test_what_was_taken_back_stays_so_after_a_restart() -> None:
    """The directory still holds the bad edit; nobody gets it."""
    controller = Controller(policy(chat()), Flat(), rng=Random(0))
    controller.apply(policy(chat(3), digest="q"), now=0.0, at=0.0)
    for i in range(20):
        controller.rollouts.trials["chat"].evidence.on_failed(PROMISE, now=float(i))
    events = [e for _ in range(10) for e in controller.tick(now=20.0, at=20.0)]
    assert [e.state for e in events if isinstance(e, RolloutChanged)] == ["rolled_back"]
    second, events = restarted(controller, policy(chat(3), digest="q"))
    assert events == []
    assert set(priorities(second.rollouts)) == {0}


def test_an_edit_made_while_the_router_was_down_begins_its_rollout() -> None:
    """What was in force before is in force after."""
    controller = Controller(policy(chat()), Flat(), rng=Random(0))
    second, events = restarted(controller, policy(chat(3), digest="q"))
    assert [e.state for e in events if isinstance(e, RolloutChanged)] == ["canary"]
    assert set(priorities(second.rollouts)) == {0, 3}


def test_arms_get_their_shares_and_differ_in_what_they_say() -> None:
    """Three quarters and one quarter; an arm's parameters take the place of the class's."""
    arms = (Arm("plain", 0.75), Arm("cool", 0.25, temperature=0.1))
    rollouts = Rollouts(policy(chat(rollout=Rollout(RolloutMode.AB, arms=arms))))
    placed = [rollouts.place(request(i), "chat") for i in range(1000)]
    assert 200 < sum(p.arm == "cool" for p in placed) < 300
    assert all((p.request_class.parameters.temperature == 0.1) == (p.arm == "cool") for p in placed)


def rest(**terms: object) -> RequestClass:
    return RequestClass("rest", Match(use_cases=("qa",)), Objectives(e2e=Objective(Indicator.E2E, 9.0)), **terms)  # type: ignore[arg-type]


def test_two_edits_on_their_way_move_each_its_own_share() -> None:
    """One at 20 %, the other at 50 %: neither moves more, and what becomes of one changes nothing of the other."""
    rollouts = Rollouts(policy(chat(), rest()))
    half = Rollout(RolloutMode.CANARY, steps=(0.5,), step_s=60.0, min_requests=10)
    rollouts.take_up(policy(chat(3), rest(priority=4, rollout=half), digest="q"), now=0.0, at=0.0)
    chats = [rollouts.place(request(i), "chat").request_class.priority for i in range(1000)]
    rests = [rollouts.place(request(i), "qa").request_class.priority for i in range(1000)]
    assert 150 < chats.count(3) < 250
    assert 430 < rests.count(4) < 570
    for i in range(20):
        rollouts.trials["rest"].evidence.on_failed(rest().objectives, now=float(i))
    assert [e.state for e in rollouts.tick(now=20.0, at=20.0) if isinstance(e, RolloutChanged)] == ["rolled_back"]
    assert [rollouts.place(request(i), "chat").request_class.priority for i in range(1000)] == chats
    assert {rollouts.place(request(i), "qa").request_class.priority for i in range(1000)} == {0}


def test_a_shadow_beside_a_canary_moves_nobody() -> None:
    """An edit of one class in the shadow gives nothing to the class whose canary would take it."""
    wide = RequestClass("rest", Match(use_cases=("qa", "chat")), rollout=Rollout(RolloutMode.CANARY, steps=(0.5,)))
    narrow = RequestClass("chat", Match(use_cases=("code",)), PROMISE, rollout=SHADOW)
    rollouts = Rollouts(policy(chat(), rest()))
    rollouts.take_up(policy(narrow, wide, digest="q"), now=0.0, at=0.0)
    assert {rollouts.place(request(i), "chat").request_class.name for i in range(400)} == {"chat"}


def test_requests_that_change_classes_are_judged_by_the_promises_of_theirs() -> None:
    """The class they leave promises something else than the one they come to: both sides can be told."""
    wide = RequestClass("chat", Match(use_cases=("chat", "qa")), PROMISE, rollout=CANARY)
    rollouts = Rollouts(policy(chat(), rest()))
    rollouts.take_up(policy(wide, rest(), digest="q"), now=0.0, at=0.0)
    for i in range(40):
        placed = rollouts.place(request(i), "qa")
        assert placed.evidence is not None
        placed.evidence.on_failed(placed.request_class.objectives, now=float(i))
    assert rollouts.trials["chat"].stable.burns.keys() == {Indicator.E2E}
    assert rollouts.trials["chat"].evidence.burns.keys() == {Indicator.TTFT}


def test_a_comparison_with_an_impossible_edit_says_its_error() -> None:
    """Under the edit the model that was asked for is unknown: the request itself is served."""
    alias = RequestClass("chat", Match(models=("gpt-4",)), PROMISE, rollout=SHADOW)
    controller = Controller(policy(alias), Flat(), rng=Random(0))
    controller.apply(policy(chat(rollout=SHADOW), digest="q"), now=0.0, at=0.0)
    ticket = controller.admit(msgspec.structs.replace(request(1), model="gpt-4"), now=0.0)
    controller.decide(ticket, now=0.0)
    compared = controller.compare(ticket, now=0.0)
    assert compared is not None
    assert (compared.would, compared.code) == ("", "model_not_found")


def test_a_request_that_only_the_edit_refuses_counts_against_it() -> None:
    """Errors at admission have no ticket, but they have a side."""
    alias = RequestClass("chat", Match(models=("gpt-4",)), PROMISE)
    controller = Controller(policy(alias), Flat(), rng=Random(0))
    controller.apply(policy(chat(), digest="q"), now=0.0, at=0.0)
    refused = 0
    for i in range(200):
        try:
            controller.admit(msgspec.structs.replace(request(i), model="gpt-4"), now=0.0)
        except RequestError:
            refused += 1
    assert refused > 10
    assert controller.rollouts.trials["chat"].evidence.requests == refused


def test_leaving_the_shadow_begins_anew() -> None:
    """Ten days of comparison are no time on a step."""
    rollouts = begun(chat(3, rollout=SHADOW))
    ten_days = 10 * 86400.0
    events = rollouts.take_up(policy(chat(3), digest="r"), now=ten_days, at=ten_days)
    assert [e.state for e in events if isinstance(e, RolloutChanged)] == ["canary"]
    for i in range(20):
        rollouts.trials["chat"].evidence.on_answered(PROMISE, (("ttft", True),), 0.9, 0.0, now=ten_days + i)
    assert rollouts.tick(now=ten_days + 30.0, at=ten_days + 30.0) == []


def test_an_arm_that_answers_nobody_does_not_win_by_its_price() -> None:
    """What is not answered costs nothing and is worth nothing."""
    arms = (Arm("serves", 0.5), Arm("refuses", 0.5))
    terms = Rollout(RolloutMode.AB, arms=arms, measure=Measure.COST)
    rollouts = Rollouts(policy(chat(rollout=terms)))
    serves, refuses = rollouts.experiments["chat"].all_evidence()
    for i in range(2000):
        serves.on_answered(PROMISE, (("ttft", True),), 0.9, 0.01, now=float(i))
        refuses.on_failed(PROMISE, now=float(i))
        if i % 10 == 0:
            refuses.on_answered(PROMISE, (("ttft", True),), 0.9, 0.001, now=float(i))
    assert rollouts.tick(now=2000.0, at=2000.0) == []


def test_an_experiment_that_is_edited_away_has_an_end() -> None:
    """Told as superseded, and everybody gets the class as it is written."""
    arms = (Arm("a", 0.5), Arm("b", 0.5, temperature=0.1))
    rollouts = Rollouts(policy(chat(rollout=Rollout(RolloutMode.AB, arms=arms))))
    events = rollouts.take_up(policy(chat(rollout=Rollout()), digest="q"), now=0.0, at=0.0)
    assert [e.state for e in events if isinstance(e, RolloutChanged)] == ["superseded"]
    assert {rollouts.place(request(i), "chat").arm for i in range(50)} == {""}


def test_other_terms_are_another_experiment() -> None:
    """A measure that was edited begins anew."""
    arms = (Arm("a", 0.5), Arm("b", 0.5))
    rollouts = Rollouts(policy(chat(rollout=Rollout(RolloutMode.AB, arms=arms, measure=Measure.COST))))
    edited = chat(rollout=Rollout(RolloutMode.AB, arms=arms, measure=Measure.SLO))
    events = rollouts.take_up(policy(edited, digest="q"), now=0.0, at=0.0)
    assert [e.state for e in events if isinstance(e, RolloutChanged)] == ["ab"]


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-9], lambda b: b.replace(b"0.99", b"1.0"), lambda b: b"{}", lambda b: b"\xff"]
)
def test_a_spoiled_state_is_refused_whole(spoil: Callable[[bytes], bytes]) -> None:
    """Cut, changed, empty or not text: one error, and nothing is taken up."""
    with pytest.raises(RouterError, match="cannot be read"):
        decode(spoil(encode(begun(chat(3)).saved(now=0.0))))


def test_late_judgements_of_an_edit_that_was_replaced_do_not_count_for_the_next() -> None:
    """They belong to the side that the answer was made on."""
    controller = Controller(policy(chat()), Flat(), rng=Random(0))
    controller.apply(policy(chat(3), digest="q"), now=0.0, at=0.0)
    number = next(i for i in range(100) if controller.rollouts.place(request(i), "chat").arm == "canary")
    ticket = controller.admit(request(number), now=0.0)
    decision = controller.decide(ticket, now=0.0)
    controller.start(ticket, now=0.0)
    controller.apply(policy(chat(4), digest="r"), now=1.0, at=1.0)
    assert isinstance(decision, Decision)
    Feedback(controller).on_quality(decision.id, 0.0, adequate=0.0)
    assert controller.rollouts.trials["chat"].evidence.mean(Measure.QUALITY, told=True).count == 0


def test_a_decided_experiment_stays_decided_after_a_restart() -> None:
    """Everybody gets the winner."""
    arms = (Arm("a", 0.5), Arm("b", 0.5))
    written = policy(chat(rollout=Rollout(RolloutMode.AB, arms=arms)))
    controller = Controller(written, Flat(), rng=Random(0))
    controller.rollouts.experiments["chat"].winner = "b"
    second, _ = restarted(controller, written)
    assert {second.rollouts.place(request(i), "chat").arm for i in range(50)} == {"b"}
