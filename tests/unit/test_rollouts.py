"""Who is placed where while an edit is on its way, and what becomes of it."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from router.core.controller import Controller
from router.core.rollouts.rollouts import Rollouts
from router.domain.deployment import DeploymentName
from router.domain.errors import RequestError
from router.domain.events import RolloutChanged
from router.domain.rollout import Rollout, RolloutMode, SplitBy
from router.domain.slo import Match, RequestClass
from router.policy.policy import Policy
from tests.unit.rollouts_on_their_way import (
    CANARY,
    CATCH_ALL,
    FLEET,
    PROMISE,
    SHADOW,
    Flat,
    begun,
    chat,
    policy,
    priorities,
    request,
    rest,
)


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
