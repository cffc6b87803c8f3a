"""What reserved capacity was used for, when load spills from it, who moves to a faster lane, and how many replicas the
offered work asks for."""

from __future__ import annotations

from router.domain.events import Event


class ReserveObserved(Event, frozen=True):
    """An account of reserved capacity is closed, a minute as a rule: tokens used in `seconds`, their share of what was
    paid for, and what of the hour and of its dollars nobody used. The shares are `None` while the size of the
    capacity is not known."""

    deployment: str
    input_tokens: float
    output_tokens: float
    seconds: float
    input_ratio: float | None
    output_ratio: float | None
    wasted_hours: float
    wasted_usd: float


class SpillChanged(Event, frozen=True):
    """Load began to spill from reserved capacity to on-demand (`spilling`), or all of it fits again (`filling`)."""

    deployment: str
    old: str
    new: str
    reason: str


class WantedReplicas(Event, frozen=True):
    """A group of deployments should have another number of replicas, and why."""

    group: str
    old: int
    new: int
    reason: str


class GroupObserved(Event, frozen=True):
    """A group at a tick: `wanted` replicas are advised, `offered` is the work offered to it in replicas (not rounded),
    `listed` is how many the policy has."""

    group: str
    wanted: int
    offered: float
    listed: int


class LaneChanged(Event, frozen=True):
    """A request that was kept for the lane `old` goes to `new`, the same where it had room at last. `waited_s` is how
    long it was kept, `slack_s` what is left of its deadline where it has one. `reason`: room (nothing to be saved by
    waiting is full any more), slack (it can wait no longer)."""

    request_class: str
    old: str
    new: str
    deployment: str
    reason: str
    waited_s: float
    slack_s: float | None
