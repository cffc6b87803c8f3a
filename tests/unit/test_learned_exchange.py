"""What was learned goes out as a document, into another router, and to people who ask."""

from __future__ import annotations

from random import Random

import pytest
from msgspec import json

from router.core import snapshot
from router.core.controller import Controller
from router.core.learned.account import account
from router.core.learned.change import Learned
from router.core.learned.lineage import UNSIGNED, content_id
from router.core.learned.rows import Choice
from router.core.spending.account import Books
from router.domain.errors import RequestError, RouterError
from router.domain.learned import FROZEN_BY_DEFAULT, LearnedImported, Part
from router.domain.view import Load
from router.policy.policy import Bounds, Policy
from tests.regressions.house import deployment
from tests.unit.learned_router import (
    CLASSES,
    FLEET,
    LARGE,
    SMALL,
    Estimator,
    born,
    changed,
    known,
    lineage,
    parts_of,
    saved,
    teach,
    told,
)


def test_an_export_tells_nobodys_business() -> None:
    """No money, no decision ids, nothing frozen, no prices; models, deployments and classes by name."""
    controller = teach(born())
    controller.spending.restore({"paid": json.decode(b'{"day":0,"spent_usd":3.0,"open":{"d1":1}}', type=Books)})
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
