"""What was learned, as a plain document, and back: latency shapes, output lengths, quality offsets, prices."""

from __future__ import annotations

from msgspec import Struct, ValidationError, json

from router.core.controller import Controller
from router.domain.deployment import DeploymentName
from router.domain.errors import RouterError

VERSION = 1

Table = dict[str, list[float]]


class Snapshot(Struct, frozen=True):
    """The learned state. `latency` is by deployment, with the model it was learned on."""

    version: int
    policy: str
    saved_at: float
    latency: dict[str, tuple[str, Table]]
    lengths: Table
    qualities: Table
    floors: dict[str, float]
    capacity: dict[str, float]


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
            floors={n: f.value for n, f in controller.duals.floors.items()},
            capacity={n: m.price.integral for n, m in members.items()},
        )
    )


def restore(controller: Controller, data: bytes) -> Snapshot:
    """Take up a snapshot; deployments that are gone or serve another model are skipped. Raises `RouterError`."""
    try:
        snapshot = json.decode(data, type=Snapshot)
    except (ValidationError, ValueError) as error:
        raise RouterError(f"the checkpoint cannot be read: {error}", code="invalid_checkpoint") from error
    if snapshot.version != VERSION:
        raise RouterError(f"the checkpoint has version {snapshot.version}, not {VERSION}", code="invalid_checkpoint")
    for name, (model, state) in snapshot.latency.items():
        member = controller.fleet.members.get(DeploymentName(name))
        if member is not None and member.deployment.model == model:
            member.latency.restore(state)
    controller.lengths.restore(snapshot.lengths)
    controller.qualities.restore(snapshot.qualities)
    for name, value in snapshot.floors.items():
        if name in controller.duals.floors:
            floor = controller.duals.floors[name]
            floor.value = min(max(value, 0.0), floor.high)
    for name, value in snapshot.capacity.items():
        member = controller.fleet.members.get(DeploymentName(name))
        if member is not None:
            member.price.integral = min(max(value, 0.0), member.price.high)
    return snapshot
