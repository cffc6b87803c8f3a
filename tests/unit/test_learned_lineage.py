"""Where a checkpoint comes from, what it was learned against, and which are taken up."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import json

from router.core import snapshot
from router.core.learned.change import Learned
from router.core.learned.lineage import HISTORY_MAX, UNSIGNED, content_id
from router.domain.errors import RouterError
from router.domain.learned import BeliefsWidened, Part
from tests.unit.learned_router import LARGE, SMALL, born, changed, known, lineage, parts_of, saved, teach, told


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
