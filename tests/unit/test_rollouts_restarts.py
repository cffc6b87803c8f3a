"""What a restart keeps of edits on their way, of those that were taken back, and of decided experiments."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from router.core.controller import Controller
from router.core.rollouts.saved import decode, encode
from router.domain.errors import RouterError
from router.domain.events import Event, RolloutChanged
from router.domain.rollout import Arm, Rollout, RolloutMode
from router.policy.policy import Policy
from tests.unit.rollouts_on_their_way import PROMISE, Flat, begun, chat, policy, priorities, request


def restarted(controller: Controller, written: Policy) -> tuple[Controller, list[Event]]:
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


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-9], lambda b: b.replace(b"0.99", b"1.0"), lambda b: b"{}", lambda b: b"\xff"]
)
def test_a_spoiled_state_is_refused_whole(spoil: Callable[[bytes], bytes]) -> None:
    """Cut, changed, empty or not text: one error, and nothing is taken up."""
    with pytest.raises(RouterError, match="cannot be read"):
        decode(spoil(encode(begun(chat(3)).saved(now=0.0))))


def test_a_decided_experiment_stays_decided_after_a_restart() -> None:
    """Everybody gets the winner."""
    arms = (Arm("a", 0.5), Arm("b", 0.5))
    written = policy(chat(rollout=Rollout(RolloutMode.AB, arms=arms)))
    controller = Controller(written, Flat(), rng=Random(0))
    controller.rollouts.experiments["chat"].winner = "b"
    second, _ = restarted(controller, written)
    assert {second.rollouts.place(request(i), "chat").arm for i in range(50)} == {"b"}
