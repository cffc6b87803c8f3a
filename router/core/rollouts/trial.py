"""One edit of one class on its way into force."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from router.core.rollouts.evidence import Evidence
from router.core.rollouts.table import version_of
from router.core.rollouts.verdict import Sides, may_go_on, must_go_back
from router.domain.events import RolloutChanged
from router.domain.rollout import RolloutMode
from router.domain.slo import RequestClass

_RISK = 0.05
CANARY, STABLE = "canary", "stable"


class SavedTrial(Struct, frozen=True):
    """What a checkpoint keeps of a trial. `since_at` is the wall time at which the step began."""

    request_class: str
    version: str
    step: int
    since_at: float
    taken_back: str = ""
    """Why the edit was taken back; empty while it is on its way."""


class Trial:
    """An edit beside the class in force (`old` is `None` for a class that is new)."""

    def __init__(self, old: RequestClass | None, new: RequestClass, *, now: float, at: float) -> None:
        self.old, self.new = old, new
        self.version = version_of(new)
        self.step, self.since_at = 0, at
        self.taken_back = ""
        self._requests_before = 0
        self._fresh(now)

    def _fresh(self, now: float) -> None:
        self.evidence = Evidence(CANARY, self.new, risk=_RISK)
        self.stable = Evidence(STABLE, self.old or self.new, risk=_RISK)
        self.sides = Sides(self.evidence, self.stable, now)

    @property
    def name(self) -> str:
        """The class."""
        return self.new.name

    @property
    def is_shadow(self) -> bool:
        """Whether it is only compared."""
        return self.new.rollout.mode is RolloutMode.SHADOW

    @property
    def ratio(self) -> float:
        """Share of the class's requests that get the edit."""
        if self.is_shadow or self.taken_back:
            return 0.0
        steps = self.new.rollout.steps
        return steps[min(self.step, len(steps) - 1)]

    @property
    def requests_on_step(self) -> int:
        """Requests of the new side since the step began."""
        return self.evidence.requests - self._requests_before

    def adopt(self, new: RequestClass) -> None:
        """Other terms for the same edit: it stays on the first step that is no smaller than its share."""
        ratio, self.new = self.ratio, new
        steps = new.rollout.steps
        self.step = next((i for i, s in enumerate(steps) if s >= ratio), len(steps) - 1)

    def resume(self, saved: SavedTrial) -> None:
        """Go on where an earlier life of the process was, with fresh evidence."""
        self.step = min(max(saved.step, 0), len(self.new.rollout.steps) - 1)
        self.since_at, self.taken_back = saved.since_at, saved.taken_back

    def saved(self) -> SavedTrial:
        """What a checkpoint keeps."""
        return SavedTrial(self.name, self.version, self.step, self.since_at, self.taken_back)

    def look(self, *, now: float, at: float) -> RolloutChanged | None:
        """At a heartbeat: on, back, or nothing."""
        if self.is_shadow or self.taken_back:
            return None
        terms = self.new.rollout
        why = must_go_back(self.sides, terms, self.new.floor, now=now)
        if why is not None:
            self.taken_back = why
            return self.told("rolled_back", why, at=at)
        on_step = self.requests_on_step
        if may_go_on(self.sides, terms, on_step_s=at - self.since_at, on_step=on_step) is not None:
            return None
        reason = f"no objective burned over {on_step} requests in {at - self.since_at:.0f} s at {self.ratio:.0%}"
        self.step, self.since_at, self._requests_before = self.step + 1, at, self.evidence.requests
        if self.step >= len(terms.steps):
            return replace(self.told("promoted", reason, at=at), ratio=1.0)
        return self.told("canary", reason, at=at)

    def told(self, state: str, reason: str, *, at: float) -> RolloutChanged:
        """The event of a transition."""
        return RolloutChanged(self.name, state, self.ratio, self.version, reason, at)
