"""Reset, freeze, thaw, import and export, of a running controller and of a checkpoint that lies still.

On a running controller a change is worked out on its checkpoint and put back. What the checkpoint then says the same of
as before stays as it is, momentary state included: to forget what is believed of one model touches nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from msgspec import json
from msgspec.structs import replace

from router.core import snapshot as snapshots
from router.core.controller import Controller
from router.core.learned.lineage import Step
from router.core.learned.rows import Choice, merged, only, without
from router.core.snapshot import Snapshot
from router.domain.deployment import DeploymentName
from router.domain.errors import RequestError
from router.domain.learned import FREEZABLE, PORTABLE, LearnedImported, LearnedReset, LearningFrozen, Part

Done = tuple[Snapshot, Step]


def reset(known: Snapshot, choice: Choice, *, at: float) -> tuple[Snapshot, Step, int]:
    """Forget the chosen rows."""
    left, rows = without(known, choice)
    return left, Step(at, "reset", _said(choice)), rows


def frozen(known: Snapshot, parts: Iterable[Part], *, at: float, thaw: bool = False) -> Done:
    """Learn nothing of these parts from here on, or again."""
    asked = set(parts)
    fixed = asked.difference(FREEZABLE)
    if fixed:
        raise RequestError(
            f"{', '.join(sorted(fixed))} cannot be frozen: prices pace promises from moment to moment; choose among "
            f"{', '.join(FREEZABLE)}",
            param="what",
        )
    held = set(known.frozen) - asked if thaw else set(known.frozen) | asked
    step = Step(at, "thawed" if thaw else "frozen", ", ".join(sorted(asked)))
    return replace(known, frozen=tuple(sorted(held))), step


def imported(
    known: Snapshot, theirs: Snapshot, choice: Choice, *, estimator: str, at: float
) -> tuple[Snapshot, Step, tuple[str, ...]]:
    """Take up what was learned elsewhere, by model (see `rows.merged`). Beliefs about the estimates of another artefact
    than `estimator` are believed less."""
    fitting, widened = snapshots.fitted(theirs, estimator)
    whole, names = merged(known, fitting, choice)
    if not names:
        raise RequestError("the document holds nothing of what was asked for: nothing was changed")
    less = "; beliefs widened: another artefact estimates here" if widened and Part.QUALITY in choice.parts else ""
    return whole, Step(at, "imported", f"{_said(choice)} from {source_of(theirs)}{less}"), names


def exported(known: Snapshot, choice: Choice | None = None) -> bytes:
    """A document for another router: models, deployments and classes by name, but no request, no tenant, no money."""
    chosen = only(known, choice or Choice(PORTABLE))
    assert known.lineage is not None
    lineage = known.lineage
    seen, done = lineage.seen, (Step(known.saved_at, "exported"),)
    return json.encode(snapshots.signed(chosen, lineage, done, estimator=lineage.estimator, seen=seen))


def source_of(theirs: Snapshot) -> str:
    """The id of a document, or what it is where it has none."""
    return f"a checkpoint of form {theirs.version}" if theirs.lineage is None else theirs.lineage.id


class Learned:
    """The same on a running controller; each change is told by an event with the next tick."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def export(self, choice: Choice | None, *, at: float) -> bytes:
        """See `exported`."""
        return exported(snapshots.current(self._controller, at=at), choice)

    def reset(self, choice: Choice, *, at: float) -> int:
        """Forget the chosen rows; how many those were."""
        left, step, rows = reset(self._now(at), choice, at=at)
        self._put(left)
        event = LearnedReset(tuple(choice.parts), choice.models, choice.classes, rows, at)
        self._controller.learning.on_done(step, event)
        return rows

    def freeze(self, parts: Iterable[Part], *, at: float, thaw: bool = False) -> None:
        """Learn nothing of these parts from here on, or again."""
        now = self._now(at)
        held, step = frozen(now, parts, at=at, thaw=thaw)
        if held.frozen != now.frozen:
            self._controller.learning.freeze(held.frozen)
            self._controller.learning.hold(m.latency for m in self._controller.fleet.members.values())
            self._controller.learning.on_done(step, LearningFrozen(held.frozen, at))

    def take_in(self, data: bytes, choice: Choice, *, at: float) -> tuple[str, ...]:
        """Take up a document whole or not at all; the models and deployments it was about. Raises `RouterError`
        (`invalid_checkpoint`)."""
        theirs = self._served(snapshots.read(data))
        snapshots.attempt(self._controller, theirs)
        whole, step, names = imported(
            self._now(at), theirs, choice, estimator=self._controller.learning.estimator, at=at
        )
        self._put(whole)
        event = LearnedImported(source_of(theirs), tuple(choice.parts), names, at)
        self._controller.learning.on_done(step, event)
        return names

    def _served(self, theirs: Snapshot) -> Snapshot:
        """A document without what is only true of its own place: deployments that are not here, or serve another model
        here."""
        models = {name: member.deployment.model for name, member in self._controller.fleet.members.items()}
        here = {name: row for name, row in theirs.latency.items() if models.get(DeploymentName(name)) == row[0]}
        capacity = {name: price for name, price in theirs.capacity.items() if name in here}
        floors = {name: price for name, price in theirs.floors.items() if name in self._controller.duals.floors}
        return replace(theirs, latency=here, capacity=capacity, floors=floors, spending={}, frozen=())

    def _now(self, at: float) -> Snapshot:
        return snapshots.current(self._controller, at=at)

    def _put(self, wanted: Snapshot) -> None:
        """Where the snapshot says nothing of a deployment or a price, it is what it is in a router that was just
        born."""
        controller = self._controller
        born = snapshots.current(Controller(controller.policy, controller.estimator, rng=Random(0)), at=0.0)
        floors = {name: born.floors.get(name.partition("/")[0]) for name in controller.duals.floors}
        whole = replace(
            wanted,
            latency={**born.latency, **wanted.latency},
            floors={**{n: v for n, v in floors.items() if v is not None}, **wanted.floors},
            capacity={**born.capacity, **wanted.capacity},
            spending={},
        )
        snapshots.attempt(controller, whole)
        for name, member in controller.fleet.members.items():
            if name not in wanted.latency:
                member.forget_latency()
        snapshots.take_up(controller, whole)


def blank(theirs: Snapshot) -> Snapshot:
    """Where nothing is known yet: what is then taken up descends from the document that it comes from."""
    return Snapshot(theirs.version, theirs.policy, 0.0, {}, {}, {}, {}, {}, lineage=theirs.lineage)


def estimator_of(known: Snapshot) -> str:
    """Digest of the artefact that a checkpoint's beliefs correct, as far as it tells."""
    return "unknown" if known.lineage is None else known.lineage.estimator


def descend_from(known: Snapshot, changed: Snapshot, step: Step) -> Snapshot:
    """A checkpoint that lay still, changed, with its lineage. It stays of the time at which it was saved: what calls
    have cost since then, it does not know, and the next start reads out of the log."""
    parent = known.lineage
    unsigned = replace(changed, version=snapshots.VERSION, saved_at=step.at, lineage=None)
    seen = {} if parent is None else parent.seen
    begun = replace(snapshots.restored(known), at=known.saved_at or step.at)
    steps = (step,) if parent is not None else (begun, step)
    signed = snapshots.signed(unsigned, parent, steps, estimator=estimator_of(known), seen=seen)
    return replace(signed, saved_at=known.saved_at)


def _said(choice: Choice) -> str:
    names = ", ".join((*choice.models, *choice.classes))
    return f"{', '.join(choice.parts)}{' of ' if names else ''}{names}"
