"""What was learned, as a plain document, and back: latency shapes, output lengths, quality offsets, prices."""

from __future__ import annotations

from random import Random

from msgspec import Struct, json
from msgspec.structs import replace

from router.core.controller import Controller
from router.core.learned.lineage import RESTORED, UNSIGNED, Lineage, Step, content_id, descend
from router.core.spending.account import Books
from router.domain.deployment import DeploymentName
from router.domain.errors import RouterError
from router.domain.learned import BeliefsWidened, LearningFrozen, Part
from router.learning.job_wait import JobWait
from router.learning.quality import QualityModel

_MOST_SEEN = 10**15
VERSION = 2
READABLE = (1, VERSION)
"""Form 1 knew no lineage, and kept an offset where there is a belief now."""

Table = dict[str, list[float]]


class Snapshot(Struct, frozen=True):
    """The learned state. `latency` is by deployment, with the model it was learned on. Rollouts are kept
    apart, in `core.rollouts.saved`. In `frozen` are the parts that nothing is learned of."""

    version: int
    policy: str
    saved_at: float
    latency: dict[str, tuple[str, Table]]
    lengths: Table
    qualities: Table
    floors: dict[str, float]
    capacity: dict[str, float]
    spending: dict[str, Books] = {}
    ceilings: Table = {}
    checks: Table = {}
    paces: Table = {}
    frozen: tuple[Part, ...] = ()
    judges: Table = {}
    reserves: Table = {}
    """Tokens a minute in and out of reserved capacity that nobody states."""
    waits: Table = {}
    """How long batch jobs took, by deployment."""
    lineage: Lineage | None = None


def take(controller: Controller, *, at: float) -> bytes:
    """The learned state as JSON."""
    return json.encode(current(controller, at=at))


def take_for_keeps(controller: Controller, *, at: float) -> bytes:
    """The same, to be written: the next one goes on from it."""
    taken = current(controller, at=at)
    assert taken.lineage is not None
    controller.learning.on_saved(taken.lineage)
    return json.encode(taken)


def current(controller: Controller, *, at: float) -> Snapshot:
    """The learned state as it is now, with its lineage."""
    members, learning = controller.fleet.members, controller.learning
    taken = Snapshot(
        version=VERSION,
        policy=controller.policy.digest,
        saved_at=at,
        latency={n: (m.deployment.model, m.latency.state()) for n, m in members.items()},
        lengths=controller.lengths.state(),
        qualities=controller.qualities.state(),
        ceilings=controller.ceilings.state(),
        checks=controller.checks.state(),
        floors={n: f.in_force for n, f in controller.duals.floors.items()},
        capacity={n: m.price.in_force for n, m in members.items()},
        spending=controller.spending.books(),
        paces=controller.duals.paces.state(),
        frozen=tuple(sorted(learning.frozen)),
        judges=controller.judging.docket.state(),
        reserves={n: m.sized.state() for n, m in members.items() if m.sized is not None and m.sized.is_learned},
        waits={n: m.wait.state() for n, m in members.items() if isinstance(m.wait, JobWait) and m.wait.state()},
    )
    seen = {"feedback": controller.qualities.observations, "calls": controller.lengths.observations}
    return signed(taken, learning.parent, learning.steps, estimator=learning.estimator, seen=seen)


def signed(
    unsigned: Snapshot, parent: Lineage | None, steps: tuple[Step, ...], *, estimator: str, seen: dict[str, int]
) -> Snapshot:
    """With the lineage of a checkpoint that went on from `parent` by `steps`."""
    lineage = descend(
        parent,
        steps,
        content=content_id(replace(unsigned, **UNSIGNED)),
        policy=unsigned.policy,
        estimator=estimator,
        seen=seen,
        at=unsigned.saved_at,
    )
    return replace(unsigned, lineage=lineage)


def restored(snapshot: Snapshot) -> Step:
    """What becomes of a checkpoint that does not tell where it comes from."""
    return Step(snapshot.saved_at, RESTORED, f"a checkpoint of form {snapshot.version}")


def read(data: bytes) -> Snapshot:
    """A checkpoint out of its bytes, not yet looked into; raises `RouterError` (`invalid_checkpoint`)."""
    try:
        version = json.decode(data, type=_Versioned).version
        if version not in READABLE:
            raise ValueError(
                f"it has version {version}, and this router reads {' and '.join(map(str, READABLE))}: "
                "write it anew with the router that it comes from, or use that router"
            )
        return json.decode(data, type=Snapshot)
    except (ValueError, RecursionError) as error:
        raise _unreadable(error) from error


class _Versioned(Struct, frozen=True):
    version: int


def restore(controller: Controller, data: bytes) -> Snapshot:
    """Take up a snapshot whole, or not at all: raises `RouterError` (`invalid_checkpoint`). Deployments that are gone
    or serve another model are skipped."""
    snapshot = read(data)
    fitting, models = fitted(snapshot, controller.learning.estimator)
    attempt(controller, fitting)
    take_up(controller, fitting)
    controller.spending.restore(snapshot.spending)
    controller.duals.paces.restore(snapshot.paces)
    _continue(controller, snapshot, data)
    if models:
        old, new, at = _estimator_of(snapshot) or "unknown", controller.learning.estimator, snapshot.saved_at
        detail = f"beliefs about {', '.join(models)}: another artefact estimates now"
        controller.learning.on_done(Step(at, "widened", detail), BeliefsWidened(old, new, models, at))
    return snapshot


def attempt(controller: Controller, snapshot: Snapshot) -> None:
    """Take it up on a controller like this one, that is let go; raises `RouterError` (`invalid_checkpoint`)."""
    try:
        trial = Controller(controller.policy, controller.estimator, rng=Random(0))
        take_up(trial, snapshot)
        trial.spending.restore(snapshot.spending)
        trial.duals.paces.restore(snapshot.paces)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise _unreadable(error) from error


def fitted(snapshot: Snapshot, estimator: str) -> tuple[Snapshot, tuple[str, ...]]:
    """The snapshot as it is to be believed where this artefact estimates, and the models that are believed less for it:
    a belief corrects the estimates of the artefact it was learned against (see `QualityModel.carry_over`). A form
    without lineage does not say which that was."""
    if not snapshot.qualities or _estimator_of(snapshot) == estimator:
        return snapshot, ()
    try:
        qualities = QualityModel()
        qualities.restore(snapshot.qualities)
    except (ValueError, TypeError) as error:
        raise _unreadable(error) from error
    qualities.carry_over()
    return replace(snapshot, qualities=qualities.state()), tuple(sorted(qualities.beliefs()))


def _continue(controller: Controller, snapshot: Snapshot, data: bytes) -> None:
    learning, lineage, at = controller.learning, snapshot.lineage, snapshot.saved_at
    if snapshot.frozen:
        learning.tell(LearningFrozen(tuple(sorted(snapshot.frozen)), at))
    if lineage is None:
        learning.on_done(restored(snapshot))
        return
    learning.on_saved(lineage)
    controller.qualities.observations = _count(lineage.seen, "feedback")
    controller.lengths.observations = _count(lineage.seen, "calls")
    if content_id(json.decode(data) | UNSIGNED) != lineage.id:
        learning.on_done(Step(at, "edited", "outside the router"))


def _count(seen: dict[str, int], kind: str) -> int:
    return min(max(seen.get(kind, 0), 0), _MOST_SEEN)


def _estimator_of(snapshot: Snapshot) -> str | None:
    return None if snapshot.lineage is None else snapshot.lineage.estimator


def _unreadable(error: Exception) -> RouterError:
    return RouterError(f"the checkpoint cannot be read: {error}", code="invalid_checkpoint")


def take_up(controller: Controller, snapshot: Snapshot) -> None:
    """All but the money of a snapshot; raises `ValueError` and the like where it is not one. What it says the same of
    as is known stays untouched."""
    controller.learning.freeze(snapshot.frozen)
    for name, (model, state) in snapshot.latency.items():
        member = controller.fleet.members.get(DeploymentName(name))
        if member is not None and member.deployment.model == model and member.latency.state() != state:
            member.restore(state)
    controller.learning.hold(m.latency for m in controller.fleet.members.values())
    controller.lengths.restore(snapshot.lengths)
    controller.qualities.restore(snapshot.qualities)
    controller.ceilings.restore(snapshot.ceilings)
    controller.checks.restore(snapshot.checks)
    controller.judging.docket.restore(snapshot.judges)
    for name, value in snapshot.floors.items():
        floor = controller.duals.floors.get(name)
        if floor is not None:
            floor.value = min(max(value, 0.0), floor.high)
    for name, sizes in snapshot.reserves.items():
        member = controller.fleet.members.get(DeploymentName(name))
        if member is not None and member.sized is not None and member.sized.learns:
            member.sized.restore(*sizes)
    _take_up_waits(controller, snapshot.waits)
    for name, value in snapshot.capacity.items():
        member = controller.fleet.members.get(DeploymentName(name))
        if member is not None:
            member.price.integral = min(max(value, 0.0), member.price.high)


def _take_up_waits(controller: Controller, waits: Table) -> None:
    for name, jobs in waits.items():
        member = controller.fleet.members.get(DeploymentName(name))
        if member is not None and isinstance(member.wait, JobWait):
            member.wait.restore(jobs)
