"""One edit of one class on its way into force."""

from __future__ import annotations

from msgspec import Struct

from router.core.rollouts.evidence import Evidence
from router.core.rollouts.gate import Verdict
from router.core.rollouts.table import version_of
from router.core.rollouts.verdict import Sides, may_go_on, must_go_back
from router.domain.events import RolloutChanged
from router.domain.rollout import RolloutMode
from router.domain.slo import RequestClass
from router.stats.confidence import Scale

CANARY, STABLE = "canary", "stable"
_RISK = 0.05
_NOT_ASKED = "the decision log is being asked"


class SavedTrial(Struct, frozen=True):
    """What is kept of a trial over a restart: the share it had, and for how long it had had it."""

    request_class: str
    version: str
    mode: RolloutMode
    ratio: float
    on_step_s: float
    taken_back: str = ""
    """Why the edit was taken back; empty while it is on its way."""
    gated: bool = False
    """Whether it waits for a word on the decision log; with `taken_back`, that this was against it."""


class Trial:
    """An edit beside the class in force (`old` is `None` for a class that is new)."""

    def __init__(self, old: RequestClass | None, new: RequestClass, *, now: float) -> None:
        self.old, self.new = old, new
        self.version = version_of(new)
        self.step = 0
        self.taken_back = ""
        self._begin(now)

    def _begin(self, now: float) -> None:
        self.is_gated = self.mode is RolloutMode.CANARY and self.new.rollout.require is not None
        self.waits = _NOT_ASKED if self.is_gated else ""
        """What the log was found to lack, while the edit waits for a word on it."""
        self._start(now)

    def _start(self, now: float) -> None:
        scale = Scale()
        self.evidence = Evidence(CANARY, risk=_RISK, scale=scale)
        self.stable = Evidence(STABLE, risk=_RISK, scale=scale)
        self.sides = Sides(self.evidence, self.stable, now)
        self._step_began(now)

    def _step_began(self, now: float) -> None:
        self._since, self._requests_before = now, self.evidence.requests

    @property
    def name(self) -> str:
        """The class."""
        return self.new.name

    @property
    def mode(self) -> RolloutMode:
        """Shadow or canary."""
        return self.new.rollout.mode

    @property
    def is_canary(self) -> bool:
        """Whether it serves a share of the requests."""
        return self.mode is RolloutMode.CANARY and not self.taken_back and not self.is_gated

    @property
    def is_shadow(self) -> bool:
        """Whether it is only compared."""
        return self.mode is RolloutMode.SHADOW and not self.taken_back

    @property
    def state(self) -> str:
        """shadow or canary, or what keeps it from being that."""
        if self.is_gated:
            return "refused" if self.taken_back else "waiting"
        return "rolled_back" if self.taken_back else self.mode.value

    @property
    def ratio(self) -> float:
        """Share of the class's requests that get the edit."""
        steps = self.new.rollout.steps
        return steps[min(self.step, len(steps) - 1)] if self.is_canary else 0.0

    @property
    def requests_on_step(self) -> int:
        """Requests of the new side since the step began."""
        return self.evidence.requests - self._requests_before

    def on_step_s(self, now: float) -> float:
        """Seconds since the step began."""
        return now - self._since

    def adopt(self, new: RequestClass, *, now: float, at: float) -> RolloutChanged | None:
        """Other terms for the same edit. A share is never made smaller; another mode begins anew."""
        mode, before, asked, self.new = self.mode, self.ratio, self.new.rollout.require, new
        if self.is_gated and asked != new.rollout.require:
            self.taken_back, self.step = "", 0
            self._begin(now)
            return self.told(self.state, "what the log must show was edited", at=at)
        if self.taken_back:
            return None
        if new.rollout.mode is not mode:
            self.step = 0
            self._begin(now)
            return self.told(self.state, f"its mode was {mode} until now", at=at)
        self._find_step(before)
        if self.ratio == before:
            return None
        self._step_began(now)
        return self.told(self.mode.value, "its steps were edited", at=at)

    def _find_step(self, ratio: float) -> None:
        steps = self.new.rollout.steps
        self.step = next((i for i, s in enumerate(steps) if s >= ratio), len(steps) - 1)

    def resume(self, saved: SavedTrial, *, now: float) -> None:
        """Go on where an earlier life of the process was, with fresh evidence."""
        if saved.mode is self.mode or saved.taken_back:
            self._find_step(saved.ratio)
            self._since = now - max(saved.on_step_s, 0.0)
            self.taken_back, self.is_gated = saved.taken_back, saved.gated
            self.waits = _NOT_ASKED if saved.gated and not saved.taken_back else ""

    def saved(self, *, now: float) -> SavedTrial:
        """What is kept over a restart."""
        on_step_s = self.on_step_s(now)
        return SavedTrial(self.name, self.version, self.mode, self.ratio, on_step_s, self.taken_back, self.is_gated)

    def hear(self, verdict: Verdict, *, now: float, at: float) -> RolloutChanged | None:
        """What the decision log says of an edit that waits for it. That it says too little is told once."""
        if not self.is_gated or self.taken_back:
            return None
        if verdict.passed is None:
            was, self.waits = self.waits, verdict.reason
            return self.told("waiting", verdict.reason, at=at) if was == _NOT_ASKED else None
        self.waits = ""
        if not verdict.passed:
            self.taken_back = verdict.reason
            return self.told("refused", verdict.reason, at=at)
        self.is_gated = False
        self._start(now)
        return self.told("canary", verdict.reason, at=at)

    def look(self, *, now: float, at: float) -> RolloutChanged | None:
        """At a heartbeat: on, back, or nothing."""
        if not self.is_canary:
            return None
        terms = self.new.rollout
        why = must_go_back(self.sides, terms, self.new.floor, now=now)
        if why is not None:
            self.taken_back = why
            return self.told("rolled_back", why, at=at)
        on_step_s, on_step = self.on_step_s(now), self.requests_on_step
        if may_go_on(self.sides, terms, on_step_s=on_step_s, on_step=on_step) is not None:
            return None
        reason = f"no objective burned over {on_step} requests in {on_step_s:.0f} s at {self.ratio:.0%}"
        self.step += 1
        self._step_began(now)
        if self.step >= len(terms.steps):
            return RolloutChanged(self.name, "promoted", 1.0, self.version, reason, at)
        return self.told("canary", reason, at=at)

    def told(self, state: str, reason: str, *, at: float) -> RolloutChanged:
        """The event of a transition."""
        return RolloutChanged(self.name, state, self.ratio, self.version, reason, at)
