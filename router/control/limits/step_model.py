"""The batch that the latency model says just keeps the time per output token.

B* = [trim * tau (1 - u) - k a] / [k (b + c * mean context)], with u the share of time in prefill, for a decode step of
k (a + b B + c context). `trim` stays near 1 where each decision weighs by itself that calls differ: a limit under it
only refuses what would have been in time (a tenth less cost three points of useful answers on the conversation trace at
twice its load). Where nothing but the limit keeps calls in time, it falls with each call that is outside while the
limit binds, and rises with each that is inside, so that nine in ten are. What the model says depends on the load and
not on the limit, so there is no answer to wait for; the limit moves at most a quarter of itself at once. Where
predictions are far off what is observed, observation alone steers (`aimd`) until they hold again.
"""

from __future__ import annotations

import math

from router.control.limits.aimd import AimdLimit
from router.control.limits.protocol import Sight, StepModel
from router.control.limits.response import EXERCISED
from router.control.limits.stand import Stand
from router.control.limits.steered import HEADROOM, TOKENS_LATE
from router.domain.deployment import LimitKind
from router.domain.events import LimitUpdate

_SLEW = 0.25
_LEAST_USED = 0.5
_WORTH_TELLING = 0.05
_BUSIEST_PREFILL = 0.9
_INSIDE = 0.9
_TRIM_LEAST, _TRIM_STEP = 0.6, 0.01
_OFF, _ON = 1.1, 0.7
"""Predictions this far off (as a log) are not steered by; they are again when they are as near as the second."""


class StepModelLimit:
    """See `Limit`."""

    kind = LimitKind.STEP_MODEL

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self._observing = AimdLimit(stand)
        self._trim = 1.0
        self._tpot_s: float | None = None
        self._promised = -math.inf
        """When the objective was last another."""
        self._binds = self._is_off = False

    @property
    def value(self) -> float:
        """Calls that may be in flight."""
        return self.stand.value

    def rebound(self, low: float, high: float) -> None:
        """See `Limit.rebound`."""
        self.stand.rebound(low, high)

    def put(self, value: float, reason: str) -> LimitUpdate | None:
        """See `Limit.put`."""
        return self.stand.move(value, reason)

    def observe_gap(self, gap_s: float, *, now: float) -> None:
        """See `Limit.observe_gap`."""
        self._observing.observe_gap(gap_s, now=now)

    def observe_call(self, tpot_s: float, first_token: float, *, now: float) -> None:
        """See `Limit.observe_call`; moves the trim, but for calls that were let in under another objective."""
        self._observing.observe_call(tpot_s, first_token, now=now)
        if first_token < self._promised:
            return
        is_inside = self._tpot_s is None or tpot_s <= self._tpot_s
        if is_inside or self._binds:
            step = _TRIM_STEP * (1.0 - _INSIDE if is_inside else -_INSIDE)
            self._trim = min(max(self._trim * math.exp(step), _TRIM_LEAST), 1.0)

    def observe_first_token(self, started: float, *, inside: bool, now: float) -> None:
        """See `Limit.observe_first_token`."""
        self._observing.observe_first_token(started, inside=inside, now=now)

    def on_refused(self, used: int, *, now: float) -> LimitUpdate | None:
        """See `Limit.on_refused`."""
        return self._observing.on_refused(used, now=now)

    def update(self, model: StepModel, sight: Sight) -> LimitUpdate | None:
        """See `Limit.update`; without a TPOT objective the limit rests at its upper bound."""
        if sight.tpot_s != self._tpot_s:
            self._tpot_s, self._promised = sight.tpot_s, sight.now
        self._binds = sight.used >= EXERCISED * self.value
        was_off = self._is_off
        self._is_off = sight.tpot_s is not None and sight.tpot_off > (_ON if was_off else _OFF)
        if self._is_off is not was_off:
            return self.stand.say("predictions are off" if self._is_off else "predictions hold again")
        if self._is_off:
            return self._observing.update(model, sight)
        self.stand.ceiling.beat(sight.used, now=sight.now)
        wanted = self._wanted(model, sight)
        if wanted > self.value and sight.used < _LEAST_USED * self.value:
            return None
        slew = _SLEW * max(self.value, 4.0)
        reason = TOKENS_LATE if wanted < self.value else HEADROOM
        moved = min(max(wanted, self.value - slew), self.value + slew)
        return self.stand.move(moved, reason, worth_telling=_WORTH_TELLING)

    def _wanted(self, model: StepModel, sight: Sight) -> float:
        if sight.tpot_s is None:
            return self.stand.high
        fixed = model.step_s(0.0, 0.0)
        each = model.step_s(1.0, sight.context_per_sequence) - fixed
        decoding = self._trim * sight.tpot_s * (1.0 - min(sight.prefill_share, _BUSIEST_PREFILL))
        return (decoding - fixed) / max(each, 1e-9)
