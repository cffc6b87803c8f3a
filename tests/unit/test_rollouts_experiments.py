"""Arms of an experiment: their shares, their end, and what decides between them."""

from __future__ import annotations

from router.core.rollouts.rollouts import Rollouts
from router.domain.events import RolloutChanged
from router.domain.rollout import Arm, Measure, Rollout, RolloutMode
from tests.unit.rollouts_on_their_way import PROMISE, chat, policy, request


def test_arms_get_their_shares_and_differ_in_what_they_say() -> None:
    """Three quarters and one quarter; an arm's parameters take the place of the class's."""
    arms = (Arm("plain", 0.75), Arm("cool", 0.25, temperature=0.1))
    rollouts = Rollouts(policy(chat(rollout=Rollout(RolloutMode.AB, arms=arms))))
    placed = [rollouts.place(request(i), "chat") for i in range(1000)]
    assert 200 < sum(p.arm == "cool" for p in placed) < 300
    assert all((p.request_class.parameters.temperature == 0.1) == (p.arm == "cool") for p in placed)


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
