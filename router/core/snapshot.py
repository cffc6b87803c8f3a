"""What was learned, as a plain document, and back: latency shapes, output lengths, quality offsets, prices."""

from __future__ import annotations

from random import Random

from msgspec import Struct, json

from router.core.controller import Controller
from router.core.spending.account import Books
from router.domain.deployment import DeploymentName
from router.domain.errors import RouterError

VERSION = 1

Table = dict[str, list[float]]


class Snapshot(Struct, frozen=True):
    """The learned state. `latency` is by deployment, with the model it was learned on. Rollouts are kept
    apart, in `core.rollouts.saved`."""

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


def take(controller: Controller, *, at: float) -> bytes:
    """The learned state as JSON."""
    members = controller.fleet.members
    return json.encode(
        Snapshot(
            version=VERSION,
            policy=controller.policy.digest,
            saved_at=at,
            latency={n: (m.deployment.model, m.latency.state()) for n, m in members.items()},
            lengths=controller.lengths.state(),
            qualities=controller.qualities.state(),
            ceilings=controller.ceilings.state(),
            floors={n: f.value for n, f in controller.duals.floors.items()},
            capacity={n: m.price.integral for n, m in members.items()},
            spending=controller.spending.books(),
        )
    )


def restore(controller: Controller, data: bytes) -> Snapshot:
    """Take up a snapshot whole, or not at all: raises `RouterError` (`invalid_checkpoint`). Deployments that are gone
    or serve another model are skipped."""
    try:
        snapshot = json.decode(data, type=Snapshot)
        if snapshot.version != VERSION:
            raise ValueError(f"it has version {snapshot.version}, not {VERSION}")
        trial = Controller(controller.policy, controller.estimator, rng=Random(0))
        _take_up(trial, snapshot)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise RouterError(f"the checkpoint cannot be read: {error}", code="invalid_checkpoint") from error
    _take_up(controller, snapshot)
    return snapshot


def _take_up(controller: Controller, snapshot: Snapshot) -> None:
    for name, (model, state) in snapshot.latency.items():
        member = controller.fleet.members.get(DeploymentName(name))
        if member is not None and member.deployment.model == model:
            member.restore(state)
    controller.lengths.restore(snapshot.lengths)
    controller.qualities.restore(snapshot.qualities)
    controller.spending.restore(snapshot.spending)
    controller.ceilings.restore(snapshot.ceilings)
    for name, value in snapshot.floors.items():
        floor = controller.duals.floors.get(name)
        if floor is not None:
            floor.value = min(max(value, 0.0), floor.high)
    for name, value in snapshot.capacity.items():
        member = controller.fleet.members.get(DeploymentName(name))
        if member is not None:
            member.price.integral = min(max(value, 0.0), member.price.high)
