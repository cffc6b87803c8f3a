"""What an edit is judged by: promises that burn, quality under the floor, and how much of either is enough."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from router.core.controller import Controller
from router.core.feedback import Feedback
from router.core.rollouts.evidence import Evidence
from router.core.rollouts.rollouts import Rollouts
from router.core.rollouts.verdict import Sides, may_go_on, must_go_back
from router.domain.decision import Decision
from router.domain.errors import RequestError
from router.domain.events import RolloutChanged
from router.domain.rollout import Measure
from router.domain.slo import Indicator, Match, Objective, Objectives, QualityFloor, RequestClass
from tests.unit.rollouts_on_their_way import CANARY, PROMISE, SHADOW, Flat, begun, chat, policy, request, rest, side


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
