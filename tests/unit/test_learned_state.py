"""Lineage, reset, freeze, export and import of what was learned."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from msgspec import json

from router.complexity.estimator import Scored
from router.core import snapshot
from router.core.controller import Controller
from router.core.learned.account import account
from router.core.learned.change import Learned
from router.core.learned.lineage import HISTORY_MAX, UNSIGNED, content_id
from router.core.learned.rows import Choice
from router.domain.deployment import Tier
from router.domain.errors import RequestError, RouterError
from router.domain.events import Event
from router.domain.learned import (
    FROZEN_BY_DEFAULT,
    BeliefsWidened,
    LearnedImported,
    LearnedReset,
    LearningFrozen,
    Part,
)
from router.domain.request import Request
from router.domain.slo import Budget, Ceiling, Check, Parameters, QualityFloor, RequestClass
from router.domain.view import Load
from router.policy.policy import Bounds, Policy
from tests.regressions.house import deployment

CLASSES = (
    RequestClass("chat", floor=QualityFloor(0.9), parameters=Parameters(ceiling=Ceiling(1024))),
    RequestClass("paid", budget=Budget(usd_per_day=10.0)),
)
FLEET = (deployment("small"), deployment("large", Tier.LARGE))
SMALL, LARGE = "model-small", "model-large"
TERMS = Ceiling(1024)


class Estimator:
    """Small is adequate for half, large for nearly all, says the artefact of this digest."""

    def __init__(self, digest: str = "sha256:one") -> None:
        self.digest = digest

    def estimate(self, request: Request) -> Scored:
        return Scored(0.5, "chat", {}, {Tier.SMALL: 0.5, Tier.LARGE: 0.95})


def born(digest: str = "sha256:one", fleet: tuple[Any, ...] = FLEET) -> Controller:
    return Controller(Policy("p1", CLASSES, fleet, Bounds()), Estimator(digest), rng=Random(0))


def teach(controller: Controller, times: int = 40) -> Controller:
    """Some of everything, of both models; the small one is worse than it is estimated."""
    for i in range(times):
        for model, deployed in ((SMALL, "small"), (LARGE, "large")):
            controller.qualities.observe(0.8, model, "code", float(i % 4 == 0))
            controller.lengths.observe("chat", model, 40, now=float(i))
            controller.lengths.observe("paid", model, 400, now=float(i))
            controller.ceilings.observe("chat", model, TERMS, 60, cut=False)
            controller.checks.on_checked(0.7, model, ((Check.JSON, "pass"),))
            controller.checks.observe(0.7, model, ((Check.JSON, "pass"),), 1.0)
            member = controller.fleet.members[deployed]  # type: ignore[index]
            latency = member.latency
            latency.observe_gap(Load(4, 0, 0, 4000), 24.0 * latency.prior.base_s, 8, 0, now=float(i))
            latency.observe_first_token(0.1, 0.2, now=float(i))
            latency.observe_tpot(0.02, 0.03, now=float(i))
            member.price.integral = 0.25
    controller.duals.floors["chat"].value = 1.5
    return controller


def saved(controller: Controller, at: float = 10.0) -> bytes:
    return snapshot.take_for_keeps(controller, at=at)


def known(controller: Controller) -> dict[str, Any]:
    document: dict[str, Any] = json.decode(snapshot.take(controller, at=0.0))
    return document


def parts_of(controller: Controller) -> dict[str, Any]:
    """What is known by field, without where it comes from."""
    found = known(controller)
    return {
        name: found[name] for name in ("qualities", "lengths", "latency", "ceilings", "checks", "floors", "capacity")
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def told(controller: Controller, kind: type[Event]) -> list[Any]:
    return [e for e in controller.tick(now=100.0, at=100.0) if type(e) is kind]


def lineage(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.decode(data)["lineage"]
    return found


def test_the_first_checkpoint_is_born_and_the_next_goes_on_from_it() -> None:
    """Each names its content and the one before it, who wrote it, and from how much it was learned."""
    controller = teach(born())
    first = lineage(saved(controller, at=10.0))
    teach(controller, 1)
    second = lineage(saved(controller, at=20.0))
    assert (first["parent"], first["done"], first["policy"], first["estimator"]) == (None, "born", "p1", "sha256:one")
    assert (second["parent"], second["done"], second["created_at"]) == (first["id"], "continued", 20.0)
    assert first["seen"] == {"feedback": 80, "calls": 160}
    assert second["seen"] == {"feedback": 82, "calls": 164}
    assert [step["what"] for step in second["history"]] == ["born"]


def test_a_checkpoint_that_says_the_same_is_the_same() -> None:
    """Whoever takes it up and writes it again without having learned has not made another one."""
    data = saved(teach(born()))
    again = born()
    snapshot.restore(again, data)
    assert lineage(saved(again, at=99.0)) == lineage(data)


def test_a_checkpoint_changed_by_hand_is_known_as_such() -> None:
    """Its id is the digest of its content; the change is taken up, and told in what comes after."""
    found = json.decode(saved(teach(born())))
    assert found["lineage"]["id"] == content_id(found | UNSIGNED)
    found["floors"]["chat"] = 2.0
    again = born()
    snapshot.restore(again, json.encode(found))
    assert lineage(saved(again))["done"] == "edited outside the router"


def test_the_lineage_survives_a_restart_and_stays_bounded() -> None:
    """Steps are kept, the oldest go first, and what was learned from goes on being counted."""
    controller = teach(born())
    for i in range(HISTORY_MAX + 5):
        Learned(controller).freeze((Part.QUALITY,), at=float(i), thaw=i % 2 == 1)
        data = saved(controller, at=float(i))
        controller = born()
        snapshot.restore(controller, data)
    written = lineage(saved(controller))
    history = written["history"]
    assert written["seen"] == {"feedback": 80, "calls": 160}
    assert len(history) == HISTORY_MAX
    assert (history[-1]["what"], history[-1]["at"]) == ("frozen", HISTORY_MAX + 4.0)


def old_form() -> dict[str, Any]:
    """A checkpoint as routers wrote them before there was a lineage: an offset and its variance for each belief."""
    found = known(teach(born()))
    for name in ("lineage", "frozen", "checks", "judges"):
        found.pop(name, None)
    offsets = {f"{SMALL}\t": [-1.0, 0.05], f"{SMALL}\tcode": [-0.5, 0.2], f"{LARGE}\t": [0.2, 0.1]}
    return found | {"version": 1, "qualities": offsets}


def test_a_checkpoint_of_the_form_before_is_taken_up() -> None:
    """Nobody knows which artefact it was learned against: its beliefs are believed less, the rest as it is."""
    controller, found = born(), old_form()
    snapshot.restore(controller, json.encode(found))
    shift, _ = controller.qualities.beliefs()[SMALL].shift(1.0, 1.0, "other")
    assert -1.0 < shift < 0.0
    assert known(controller)["lengths"] == found["lengths"]
    (event,) = told(controller, BeliefsWidened)
    assert (event.old, event.new, event.models) == ("unknown", "sha256:one", (LARGE, SMALL))
    assert [s["what"] for s in lineage(saved(controller))["history"]] == ["restored", "widened"]


def test_another_artefact_widens_what_is_believed_and_nothing_else() -> None:
    """A correction is relative to the estimates it corrects: its sign stays, its sureness goes, and it is said."""
    teacher = teach(born())
    same, other, data = born(), born("sha256:two"), saved(teacher)
    snapshot.restore(same, data)
    snapshot.restore(other, data)
    assert changed(parts_of(same), parts_of(other)) == {"qualities"}
    before, after = same.qualities.beliefs()[SMALL], other.qualities.beliefs()[SMALL]
    (mean, variance), (less, more) = before.shift(1.0, 1.0, "code"), after.shift(1.0, 1.0, "code")
    assert mean < less < 0.0
    assert more > 2.0 * variance
    assert after.seen == 0
    assert told(same, BeliefsWidened) == []
    assert [(e.old, e.new) for e in told(other, BeliefsWidened)] == [("sha256:one", "sha256:two")]
    written = lineage(saved(other))
    assert (written["estimator"], "widened" in written["done"]) == ("sha256:two", True)
    again = born("sha256:two")
    snapshot.restore(again, saved(other))
    assert told(again, BeliefsWidened) == [], "once is enough"


def test_another_version_is_refused_with_what_to_do() -> None:
    """Nothing is guessed."""
    found = known(teach(born())) | {"version": 9, "qualities": "of another shape"}
    with pytest.raises(RouterError, match="version 9, and this router reads 1 and 2") as raised:
        snapshot.restore(born(), json.encode(found))
    assert raised.value.code == "invalid_checkpoint"


FIELDS = {
    Part.QUALITY: {"qualities"},
    Part.LENGTHS: {"lengths"},
    Part.LATENCY: {"latency"},
    Part.CEILINGS: {"ceilings"},
    Part.CHECKS: {"checks"},
    Part.PRICES: {"floors", "capacity"},
}


@pytest.mark.parametrize("part", Part)
def test_what_is_reset_is_as_in_a_router_that_was_just_started(part: Part) -> None:
    """And nothing else is touched."""
    controller, fresh = teach(born()), parts_of(born())
    before = parts_of(controller)
    rows = Learned(controller).reset(Choice((part,)), at=5.0)
    after = parts_of(controller)
    assert changed(before, after) == FIELDS[part]
    assert all(after[name] == fresh[name] for name in FIELDS[part])
    assert rows > 0
    (event,) = told(controller, LearnedReset)
    assert (event.parts, event.models, event.rows) == ((part,), (), rows)
    assert lineage(saved(controller))["done"] == f"reset {part}"


def test_one_models_quality_is_forgotten_without_its_speed() -> None:
    """Its belief alone: the other model's keeps even what no checkpoint holds, and predictions of speed stay."""
    controller = teach(born())
    other, member = controller.qualities.beliefs()[LARGE], controller.fleet.members["small"]  # type: ignore[index]
    latency, before = member.latency, parts_of(controller)
    Learned(controller).reset(Choice((Part.QUALITY,), models=(SMALL,)), at=5.0)
    assert set(controller.qualities.beliefs()) == {LARGE}
    assert controller.qualities.beliefs()[LARGE] is other
    assert member.latency is latency
    assert changed(before, parts_of(controller)) == {"qualities"}


def test_a_deployment_that_moved_is_timed_anew() -> None:
    """Its shape, its spread and the slowness of the moment are those that are expected of it; its copy's are not."""
    controller = teach(born())
    members = controller.fleet.members
    Learned(controller).reset(Choice((Part.LATENCY,), models=("small",)), at=5.0)
    assert members["small"].latency.multiplier == 1.0  # type: ignore[index]
    assert members["large"].latency.multiplier > 2.0  # type: ignore[index]
    assert members["large"].latency.state() != members["small"].latency.state()  # type: ignore[index]


def test_one_classes_lengths_are_forgotten() -> None:
    """Those of other classes, and of the model over all classes, stay."""
    controller = teach(born())
    lengths = controller.lengths
    paid, seen = lengths.expect("paid", SMALL, None), lengths.expect("unseen", SMALL, None)
    Learned(controller).reset(Choice((Part.LENGTHS,), classes=("chat",)), at=5.0)
    assert lengths.expect("paid", SMALL, None) == paid
    assert lengths.expect("chat", SMALL, None) == seen == lengths.expect("unseen", SMALL, None)


@pytest.mark.parametrize(
    ("choose", "match"),
    [
        (lambda: Choice(()), "say what"),
        (lambda: Choice((Part.QUALITY,), classes=("chat",)), "quality is not kept by class"),
        (lambda: Choice((Part.QUALITY,), models=("typo",)), "nothing is known of typo.*known are models: model-large"),
        (lambda: Choice((Part.LENGTHS,), classes=("typo",)), "classes: chat, paid"),
    ],
)
def test_a_reset_that_means_nothing_is_refused(choose: Callable[[], Choice], match: str) -> None:
    """And changes nothing."""
    controller = teach(born())
    before = parts_of(controller)
    with pytest.raises(RequestError, match=match):
        Learned(controller).reset(choose(), at=5.0)
    assert parts_of(controller) == before
    assert told(controller, LearnedReset) == []


def test_money_is_not_learned() -> None:
    """What a class has spent today outlives every reset and import, and what is reserved is counted once."""
    controller = teach(born())
    controller.spending.restore({"paid": json.decode(b'{"day":0,"spent_usd":3.0}', type=snapshot.Books)})
    before = controller.spending.books()
    Learned(controller).reset(Choice(tuple(Part)), at=5.0)
    Learned(controller).take_in(Learned(teach(born())).export(None, at=1.0), Choice((Part.LENGTHS,)), at=6.0)
    assert controller.spending.books() == before


@pytest.mark.parametrize("part", [p for p in FIELDS if p is not Part.PRICES])
def test_what_is_frozen_is_not_learned_until_it_is_thawed(part: Part) -> None:
    """Whoever observes, and everything else goes on being learned."""
    controller = teach(born())
    Learned(controller).freeze((part,), at=5.0)
    before = parts_of(controller)
    teach(controller)
    moved = changed(before, parts_of(controller))
    assert FIELDS[part].isdisjoint(moved)
    assert moved >= {"qualities", "lengths", "latency", "ceilings", "checks"} - FIELDS[part]
    Learned(controller).freeze((part,), at=6.0, thaw=True)
    teach(controller)
    assert changed(before, parts_of(controller)) >= FIELDS[part]
    assert [e.frozen for e in told(controller, LearningFrozen)] == [(part,), ()]


def test_prices_cannot_be_frozen() -> None:
    """A price that stands still keeps no promise."""
    controller = born()
    with pytest.raises(RequestError, match="prices cannot be frozen"):
        Learned(controller).freeze((Part.PRICES,), at=5.0)
    assert controller.learning.frozen == frozenset()


def test_a_frozen_latency_still_sees_that_a_server_is_slow() -> None:
    """What stands still is the shape and the spread; also of a deployment that comes later, and over silence."""
    controller = teach(born())
    Learned(controller).freeze((Part.LATENCY,), at=5.0)
    latency = controller.fleet.members["small"].latency  # type: ignore[index]
    latency.observe_overdue(0.1, 1.0, 1.0, now=100.0)
    slow, state = latency.multiplier, latency.state()
    latency.relax(now=200.0)
    assert (latency.state(), slow > 1.0, latency.multiplier < slow) == (state, True, True)
    controller.apply(Policy("p2", CLASSES, (*FLEET, deployment("new")), Bounds()), now=201.0, at=201.0)
    fresh = controller.fleet.members["new"].latency  # type: ignore[index]
    fresh.observe_first_token(0.1, 0.4, now=202.0)
    assert fresh.ttft.mean == 0.0


def test_frozen_survives_a_restart_and_is_told_again() -> None:
    """A restart is no thaw."""
    controller = teach(born())
    Learned(controller).freeze(FROZEN_BY_DEFAULT, at=5.0)
    again = born()
    snapshot.restore(again, saved(controller))
    before = parts_of(again)
    assert [set(e.frozen) for e in told(again, LearningFrozen)] == [set(FROZEN_BY_DEFAULT)]
    teach(again)
    assert changed(before, parts_of(again)) == {"latency"}


def test_an_export_tells_nobodys_business() -> None:
    """No money, no decision ids, nothing frozen, no prices; models, deployments and classes by name."""
    controller = teach(born())
    controller.spending.restore(
        {"paid": json.decode(b'{"day":0,"spent_usd":3.0,"open":{"d1":1}}', type=snapshot.Books)}
    )
    Learned(controller).freeze(FROZEN_BY_DEFAULT, at=5.0)
    document = json.decode(Learned(controller).export(None, at=6.0))
    told_of = {name for name, value in document.items() if value}
    assert told_of == {
        *("version", "policy", "saved_at", "lineage"),
        *("latency", "lengths", "qualities", "ceilings", "checks"),
    }
    assert document["lineage"]["history"][-1]["what"] == "exported"
    assert document["lineage"]["id"] == content_id(document | UNSIGNED)
    priced = json.decode(Learned(controller).export(Choice(tuple(Part)), at=6.0))
    assert (priced["floors"], priced["capacity"]) == ({"chat": 1.5}, {"small": 0.25, "large": 0.25})


def test_an_import_replaces_by_model_and_leaves_the_rest() -> None:
    """What both know is theirs, what only one knows stays; a deployment that is not here, or serves another model
    here, is left out, and so are prices."""
    mine = teach(born(), 3)
    mine.qualities.observe(0.8, "mine alone", "code", 0.0)
    theirs = _elsewhere()
    before = parts_of(mine)
    names = Learned(mine).take_in(Learned(theirs).export(None, at=1.0), Choice((Part.QUALITY, Part.LATENCY)), at=2.0)
    after, source = parts_of(mine), parts_of(theirs)
    assert changed(before, after) == {"qualities", "latency"}
    assert after["qualities"] == {
        **{key: row for key, row in before["qualities"].items() if not key.startswith(f"{SMALL}\t")},
        **source["qualities"],
    }
    assert after["latency"]["small"] == source["latency"]["small"]
    assert after["latency"]["large"] == before["latency"]["large"]
    assert names == (SMALL, "small")
    (event,) = told(mine, LearnedImported)
    assert (event.parts, event.models) == (("quality", "latency"), names)
    assert "imported quality, latency from" in lineage(saved(mine))["done"]


def _elsewhere() -> Controller:
    """A router that knows the small model alone, and calls something else large."""
    other = Policy("p9", CLASSES, (FLEET[0], deployment("elsewhere")), Bounds())
    controller = Controller(other, Estimator(), rng=Random(0))
    latency = controller.fleet.members["small"].latency  # type: ignore[index]
    for i in range(70):
        controller.qualities.observe(0.8, SMALL, "chat", 1.0)
        latency.observe_gap(Load(4, 0, 0, 4000), 2.0, 8, 0, now=float(i))
    return controller


def test_an_import_for_one_class_leaves_the_others_lengths() -> None:
    """A choice bounds what is taken and what gives way."""
    mine, theirs = teach(born()), born()
    for i in range(90):
        theirs.lengths.observe("chat", SMALL, 4000, now=float(i))
    paid, large = mine.lengths.expect("paid", SMALL, None), mine.lengths.expect("chat", LARGE, None)
    document = Learned(theirs).export(None, at=1.0)
    Learned(mine).take_in(document, Choice((Part.LENGTHS,), models=(SMALL,), classes=("chat",)), at=2.0)
    assert mine.lengths.expect("chat", SMALL, None) > 2000
    assert mine.lengths.expect("paid", SMALL, None) == paid
    assert mine.lengths.expect("chat", LARGE, None) == large


def test_beliefs_about_another_artefact_are_imported_wider() -> None:
    """And it stands in the lineage."""
    mine, theirs = born("sha256:two"), teach(born())
    Learned(mine).take_in(Learned(theirs).export(None, at=1.0), Choice((Part.QUALITY,)), at=2.0)
    sure, unsure = (c.qualities.beliefs()[SMALL].shift(1.0, 1.0, "code")[1] for c in (theirs, mine))
    assert unsure > 2.0 * sure
    assert "beliefs widened" in lineage(saved(mine))["done"]


def test_a_document_with_a_fault_changes_nothing() -> None:
    """Whole or not at all: also where the fault is in a part that was not asked for."""
    controller = teach(born())
    before = parts_of(controller)
    document = json.decode(Learned(teach(born(), 9)).export(None, at=1.0))
    for name in ("qualities", "lengths", "checks"):
        with pytest.raises(RouterError, match="cannot be read") as raised:
            Learned(controller).take_in(
                json.encode(document | {name: {"a\tb": [1.0]}}), Choice((Part.LATENCY,)), at=2.0
            )
        assert raised.value.code == "invalid_checkpoint"
    with pytest.raises(RequestError, match="holds nothing"):
        Learned(controller).take_in(json.encode(document), Choice((Part.QUALITY,), models=("typo",)), at=2.0)
    assert parts_of(controller) == before
    assert told(controller, LearnedImported) == []


def test_the_account_tells_people_what_is_known() -> None:
    """In figures they can read, the same from a file, but for what only a running router knows."""
    controller = teach(born())
    now = snapshot.current(controller, at=1.0)
    live, lying = account(now, controller), account(now)
    quality, lengths = live.models[SMALL].quality, live.models[SMALL].lengths
    assert quality is not None
    assert (quality.seen, quality.fallen) == (40, 0)
    assert quality.low < quality.believed < quality.high < quality.estimated
    assert list(quality.use_cases) == ["code"]
    assert 40.0 <= lengths["chat"].mean_tokens < lengths[""].mean_tokens < lengths["paid"].mean_tokens <= 420.0
    assert live.models[SMALL].checks["json"]["pass"].likelihood_ratio > 1.0
    assert (live.deployments["small"].slowness or 0.0) > 2.0
    assert live.floors == {"chat": 1.5}
    (resting,) = (found.quality for name, found in lying.models.items() if name == SMALL)
    assert resting is not None
    assert (resting.believed, resting.fallen, lying.deployments["small"].slowness) == (quality.believed, None, None)


def test_a_faulty_document_gives_no_account() -> None:
    """It is refused as it would be by a router."""
    found = known(teach(born())) | {"lengths": {"a\tb": [1.0]}}
    with pytest.raises(RouterError, match="cannot be read"):
        account(snapshot.read(json.encode(found)))
