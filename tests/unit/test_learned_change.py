"""What was learned is forgotten, and held still."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import json

from router.core import snapshot
from router.core.learned.change import Learned
from router.core.learned.rows import Choice
from router.core.spending.account import Books
from router.domain.errors import RequestError
from router.domain.learned import FROZEN_BY_DEFAULT, LearnedReset, LearningFrozen, Part
from router.policy.policy import Bounds, Policy
from tests.regressions.house import deployment
from tests.unit.learned_router import (
    CLASSES,
    FIELDS,
    FLEET,
    LARGE,
    SMALL,
    born,
    changed,
    lineage,
    parts_of,
    saved,
    teach,
    told,
)


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
    controller.spending.restore({"paid": json.decode(b'{"day":0,"spent_usd":3.0}', type=Books)})
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
