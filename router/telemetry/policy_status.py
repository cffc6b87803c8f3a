"""Which policy is in force, which edit was refused and why, and how the rollouts stand: for whoever asks, and at every
change for whoever wants to be told."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
from msgspec import Struct

from router.core.rollouts.status import RolloutStatus
from router.domain.events import PolicyApplied, PolicyRejected, RolloutChanged
from router.telemetry.sink import Handlers

PROBLEMS_MAX = 20
_OVER = frozenset({"promoted", "superseded", "concluded"})
"""States of a rollout of which the next policy says everything."""


class Rollout(Struct, frozen=True):
    """The last that was told of the rollout of one class."""

    request_class: str
    state: str
    ratio: float
    version: str
    reason: str
    at: float


class Status(Struct, frozen=True):
    """The status message. `digest` is the policy last taken up; what of it is on its way, or was taken back, stands in
    `rollouts`. `at` is when `state` began, in seconds of wall time: `in_force`, or `edit_refused` with the digest of
    the refused text and its problems, while `digest` stays."""

    router: str
    digest: str
    at: float
    state: str = "in_force"
    problems: tuple[str, ...] = ()
    refused_digest: str | None = None
    rollouts: tuple[Rollout, ...] = ()


class PolicyStatus:
    """A subscriber of the sink. `router` tells apart those that share a broker."""

    name = "policy_status"

    def __init__(self, digest: str, *, at: float, router: str) -> None:
        self._status = Status(router, digest, at)
        self._remark: str | None = None
        self._has_changed = False
        self.on_change: list[Callable[[], None]] = []
        """Told after every batch of events that changed the status."""

    def resume(self, rollouts: Iterable[RolloutStatus], *, at: float) -> None:
        """How rollouts stood when an earlier life of the process ended."""
        stood = tuple(Rollout(r.request_class, r.state, r.ratio, r.version, r.reason, at) for r in rollouts)
        self._put(msgspec.structs.replace(self._status, rollouts=stood))

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {PolicyApplied: self._on_applied, PolicyRejected: self._on_refused, RolloutChanged: self._on_rollout}

    def flush(self) -> None:
        """Tell of what has changed."""
        if self._has_changed:
            self._has_changed = False
            for tell in self.on_change:
                tell()

    def page(self) -> bytes:
        """The status as JSON."""
        return msgspec.json.encode(self._status)

    def remark(self) -> str | None:
        """What whoever asks whether all is well should know besides."""
        return self._remark

    def _on_applied(self, event: PolicyApplied) -> None:
        rollouts = tuple(r for r in self._status.rollouts if r.state not in _OVER)
        self._put(Status(self._status.router, event.new, event.at, rollouts=rollouts))
        self._remark = None

    def _on_refused(self, event: PolicyRejected) -> None:
        files = ", ".join(event.source.changed) if event.source is not None else ""
        more = f" (and {len(event.problems) - 1} more)" if len(event.problems) > 1 else ""
        first = event.problems[0] if event.problems else "no reason was given"
        self._remark = f"edit{f' of {files}' if files else ''} refused: {first}{more}"
        self._put(
            msgspec.structs.replace(
                self._status,
                at=event.at,
                state="edit_refused",
                problems=event.problems[:PROBLEMS_MAX],
                refused_digest=event.digest,
            )
        )

    def _on_rollout(self, event: RolloutChanged) -> None:
        fresh = Rollout(event.request_class, event.state, event.ratio, event.version, event.reason, event.at)
        others = tuple(r for r in self._status.rollouts if r.request_class != event.request_class)
        self._put(msgspec.structs.replace(self._status, rollouts=(*others, fresh)))

    def _put(self, status: Status) -> None:
        self._status = status
        self._has_changed = True
