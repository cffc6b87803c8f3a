"""What a class does to its requests: parameters filled in, ceilings learned, forced, kept at home, sent on in order."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from router.complexity.estimator import Scored
from router.core import snapshot
from router.core.controller import Controller
from router.core.evidence import Hold
from router.core.feedback import Feedback
from router.core.ledger import Permit
from router.core.ticket import Ticket
from router.domain.decision import Decision
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Sampling, Tier, TokenQuota
from router.domain.errors import RequestError, RouterError
from router.domain.events import CeilingUpdate, Event
from router.domain.outcome import Attempt, Ending, Outcome
from router.domain.request import Capability, Prompt, Request, RequestId
from router.domain.slo import Ceiling, Match, Parameters, RequestClass
from router.policy.policy import Policy
from router.policy.profiles import SHIPPED

CHAT = RequestClass("chat", profile="auto")
LEARNED = RequestClass("learned", parameters=Parameters(ceiling=Ceiling(256)))


class Estimator:
    """Every request is code; small is adequate for half, large for nearly all."""

    def estimate(self, request: Request) -> Scored:
        return Scored(0.5, "code", {}, {Tier.SMALL: 0.5, Tier.LARGE: 0.95})


def deployment(name: str, tier: Tier = Tier.SMALL, **fields: Any) -> Deployment:
    address, kind = Address("scripted", name), fields.pop("kind", Kind.CONTINUOUS)
    return Deployment(DeploymentName(name), name, f"model-{name}", tier, kind, address, Price(1.0, 1.0), **fields)


def controller(*classes: RequestClass, fleet: tuple[Deployment, ...] = ()) -> Controller:
    listed = fleet or (deployment("small"), deployment("large", Tier.LARGE))
    policy = Policy("p", classes, listed, profiles=tuple(SHIPPED.items()))
    return Controller(policy, Estimator(), rng=Random(0))


def request(**fields: Any) -> Request:
    fields.setdefault("input_tokens", 10)
    return Request(RequestId("r"), 0.0, 0.0, Prompt("hi"), **fields)


def called(house: Controller, **fields: Any) -> tuple[Ticket, Attempt, Permit]:
    """A request on its first call."""
    ticket = house.admit(request(**fields), now=0.0)
    assert isinstance(house.decide(ticket, now=0.0), Decision)
    return ticket, *house.start(ticket, now=0.0)


def answered(house: Controller, tokens: int, finish: str = "stop", **fields: Any) -> list[Event]:
    """One request with its answer; what was told of its end."""
    ticket, attempt, permit = called(house, **fields)
    outcome = Outcome(attempt, Ending.COMPLETED, 1.0, 0.5, 10, tokens, 0.0, finish_reason=finish)
    return Feedback(house).on_outcome(ticket, permit, outcome)


def test_a_call_carries_the_profile_of_its_use_case() -> None:
    """Temperature, top_p and the start of the learned bound; top_k where the deployment takes it."""
    _, attempt, _ = called(controller(CHAT))
    assert (attempt.temperature, attempt.top_p, attempt.top_k, attempt.max_tokens) == (0.2, 0.3, None, 4096)
    own = RequestClass("chat", profile="chat", parameters=Parameters(top_k=9, max_tokens=70))
    takes_all = deployment("small", takes=frozenset(Sampling))
    _, attempt, _ = called(controller(own, fleet=(takes_all,)))
    assert (attempt.temperature, attempt.top_p, attempt.top_k, attempt.max_tokens) == (0.5, 0.7, 9, 70)


def test_the_expected_length_is_cut_at_the_learned_ceiling() -> None:
    """What an answer may not reach is neither paid nor waited for in any prediction."""
    short = RequestClass("short", parameters=Parameters(ceiling=Ceiling(20)))
    house = controller(short, LEARNED)
    decision = house.decide(house.admit(request(request_class="short"), now=0.0), now=0.0)
    assert isinstance(decision, Decision)
    assert {c.terms.output_tokens for c in decision.candidates} == {20.0}
    free = house.decide(house.admit(request(request_class="learned"), now=0.0), now=0.0)
    assert isinstance(free, Decision)
    assert all(100 < c.terms.output_tokens <= 256 for c in free.candidates)


def test_the_senders_bound_stands_over_the_learned_one() -> None:
    """It is expected, and nothing is filled in."""
    ticket, attempt, permit = called(controller(LEARNED), max_tokens=8)
    assert (ticket.max_tokens, attempt.max_tokens, permit.expected_tokens) == (8, None, 8.0)


def test_answers_move_the_ceiling_of_the_model_that_gave_them() -> None:
    """Cut answers raise it for the next call; the move is told once, and other models keep theirs."""
    house = controller(LEARNED)
    told = [e for _ in range(32) for e in answered(house, 256, "length") if isinstance(e, CeilingUpdate)]
    (move,) = told
    assert (move.request_class, move.old_tokens, move.new_tokens) == ("learned", 256, 384)
    assert move.truncated_ratio == 1.0
    _, attempt, _ = called(house)
    assert (attempt.deployment.model, attempt.max_tokens) == (move.model, 384)
    others = {"model-small", "model-large"} - {move.model}
    assert [house.ceilings.tokens("learned", m, Ceiling(256)) for m in others] == [256]


@pytest.mark.parametrize(
    "fields", [{"max_tokens": 256}, {"needs": frozenset({Capability.CHOICES})}], ids=["sender's bound", "choices"]
)
def test_what_the_ceiling_did_not_cut_teaches_nothing(fields: dict[str, Any]) -> None:
    """A sender that cuts its own answers does not raise the bound of the others; several choices are one sum."""
    house = controller(LEARNED)
    for _ in range(40):
        answered(house, 256, "length", **fields)
    assert house.ceilings.state() == {}


def test_what_ends_at_the_context_window_teaches_nothing() -> None:
    """Where prompt and ceiling do not fit together no bound was sent, and the window cut the answer."""
    house = controller(LEARNED, fleet=(deployment("small", context_tokens=200),))
    for _ in range(40):
        answered(house, 190, "length")
    assert house.ceilings.state() == {}


def test_a_class_with_a_fixed_bound_learns_none() -> None:
    """Also where an arm of an experiment fixed it over a learned one."""
    house = controller(RequestClass("a", parameters=Parameters(max_tokens=100, ceiling=Ceiling(256))))
    for _ in range(40):
        answered(house, 100, "length")
    assert house.ceilings.state() == {}


def test_ceilings_survive_a_restart() -> None:
    """And a checkpoint from before there were any is taken up still."""
    house, again = controller(LEARNED), controller(LEARNED)
    for _ in range(32):
        answered(house, 256, "length")
    data = snapshot.take(house, at=1.0)
    snapshot.restore(again, data)
    assert again.ceilings.state() == house.ceilings.state() != {}
    older = json.loads(data)
    del older["ceilings"]
    snapshot.restore(controller(LEARNED), json.dumps(older).encode())


def test_spoiled_ceilings_leave_everything_as_it_was() -> None:
    """A checkpoint is taken up whole or not at all."""
    house = controller(LEARNED)
    answered(house, 50)
    document = json.loads(snapshot.take(house, at=1.0))
    document["ceilings"] = {"learned\tm": [1.0, -2.0, 0.0]}
    again = controller(LEARNED)
    with pytest.raises(RouterError) as caught:
        snapshot.restore(again, json.dumps(document).encode())
    assert caught.value.code == "invalid_checkpoint"
    assert again.lengths.state() == {}


@pytest.mark.parametrize("asked", [None, "small", "model-small", "auto-something-unknown"])
def test_a_forced_class_goes_where_it_is_forced(asked: str | None) -> None:
    """Whatever the sender asks for as `model`, known or not."""
    house = controller(RequestClass("chat", forced="model-large"))
    ticket = house.admit(request(model=asked), now=0.0)
    decision = house.decide(ticket, now=0.0)
    assert isinstance(decision, Decision)
    assert (decision.chosen, decision.binding) == ("large", "forced")
    assert [(e.deployment, e.code) for e in decision.excluded] == [("small", "not_allowed")]
    assert decision.excluded[0].detail == "the class asks for model-large"


HOME = RequestClass("home", residency=("eu", "private"))
AT_HOME = deployment("small", tags=frozenset({"eu", "private", "fast"}))
HALF_HOME = deployment("large", Tier.LARGE, tags=frozenset({"eu"}))


def test_data_stays_where_the_class_keeps_it() -> None:
    """Only a deployment with every tag sees it, and the others fall out with the reason."""
    house = controller(HOME, fleet=(AT_HOME, HALF_HOME))
    decision = house.decide(house.admit(request(), now=0.0), now=0.0)
    assert isinstance(decision, Decision)
    assert decision.chosen == "small"
    (barred,) = decision.excluded
    assert (barred.deployment, barred.code) == ("large", "wrong_residency")
    assert barred.detail == "data of class home stays where the tag is private"


@pytest.mark.parametrize("asked", ["large", "model-large"])
def test_a_sender_cannot_take_data_elsewhere_by_name(asked: str) -> None:
    """It is told at once, for no waiting helps."""
    house = controller(HOME, fleet=(AT_HOME, HALF_HOME))
    ticket = house.admit(request(model=asked), now=0.0)
    with pytest.raises(RequestError, match="data of class home stays where the tag is private") as caught:
        house.decide(ticket, now=0.0)
    assert (caught.value.code, caught.value.http_status) == ("unsupported", 400)
    assert house.routable(ticket) == frozenset()


def test_a_class_cannot_be_forced_out_of_its_home() -> None:
    """Residency stands over `forced`."""
    forced = RequestClass("home", residency=("private",), forced="large")
    house = controller(forced, fleet=(AT_HOME, HALF_HOME))
    with pytest.raises(RequestError, match="private"):
        house.decide(house.admit(request(), now=0.0), now=0.0)


FLEET = (
    deployment("a"),
    deployment("b", Tier.LARGE),
    deployment("c", Tier.LARGE),
    deployment("d", Tier.LARGE),
)


def after(house: Controller, *tried: str) -> Decision:
    """The decision on a request that these have failed."""
    ticket = house.admit(request(), now=0.0)
    ticket.tried = frozenset(tried)
    decision = house.decide(ticket, now=0.0)
    assert isinstance(decision, Decision)
    return decision


@pytest.mark.parametrize(
    ("order", "tried", "chosen"),
    [
        (("c", "d"), ("b",), "c"),
        (("model-d", "c"), ("b",), "d"),
        (("c", "a"), ("b", "c"), "a"),
        (("small", "large"), ("b",), "a"),
        (("b", "b"), ("b",), None),
    ],
)
def test_after_a_failure_the_order_of_the_class_decides(
    order: tuple[str, ...], tried: tuple[str, ...], chosen: str | None
) -> None:
    """By name, model or tier; those it does not name come last, and are weighed as always."""
    decision = after(controller(RequestClass("x", fallback=order), fleet=FLEET), *tried)
    later = {e.deployment for e in decision.excluded if e.code == "later_fallback"}
    if chosen is None:
        assert (later, len(decision.candidates)) == (set(), 3)
        assert decision.binding != "fallback"
    else:
        assert (decision.chosen, decision.binding) == (chosen, "fallback")
        assert later == {d.name for d in FLEET} - {chosen} - set(tried)


def test_an_order_says_nothing_before_a_failure() -> None:
    """The first call goes to the best, wherever that stands in the order."""
    decision = after(controller(RequestClass("x", fallback=("a",)), fleet=FLEET))
    assert decision.chosen != "a"
    assert not [e for e in decision.excluded if e.code == "later_fallback"]


def test_several_of_one_place_in_the_order_are_weighed_against_each_other() -> None:
    """The small one stays behind a tier that is named."""
    decision = after(controller(RequestClass("x", fallback=("large",)), fleet=FLEET), "b")
    assert {c.deployment for c in decision.candidates} == {"c", "d"}
    assert decision.binding == "fallback"
    assert [e.detail for e in decision.excluded if e.deployment == "a"] == ["large comes first in the fallback order"]


def test_what_cannot_serve_now_does_not_hold_up_the_order() -> None:
    """Where the first in the order has no quota left, the next comes."""
    empty = deployment("q", kind=Kind.PROVISIONED, quota=TokenQuota(100.0, 100.0))
    house = controller(RequestClass("x", fallback=("q", "a")), fleet=(*FLEET, empty))
    house.fleet.members[DeploymentName("q")].quota.reserve(100, 100.0, now=0.0)  # type: ignore[union-attr]
    decision = after(house, "b")
    assert decision.chosen == "a"
    assert {e.code for e in decision.excluded if e.deployment == "q"} & {"no_quota", "exceeds_quota"}


def test_a_class_that_matches_by_model_keeps_its_aliases() -> None:
    """Forcing nothing, the name a class matches by is no deployment's name."""
    house = controller(RequestClass("gpt", match=Match(models=("gpt-*",))), RequestClass("rest"))
    assert not isinstance(house.decide(house.admit(request(model="gpt-4"), now=0.0), now=0.0), Hold)
