"""The predictions of one deployment, scored on every call as it goes."""

from __future__ import annotations

from router.core.ledger import Permit
from router.domain.control.stability import CoverageChanged, PredictionsScored
from router.domain.events import Event
from router.learning.coverage import LEAST, MOST, Z90, Coverage, log_ratio

TTFT, TPOT = "ttft", "tpot"
_HOLDS, _NARROW, _WIDE = "holds", "narrow", "wide"


class Scores:
    """Coverage of the 90 % intervals of TTFT and TPOT. What does not stream tells neither."""

    __slots__ = ("_told", "deployment", "kinds", "tpot", "ttft")

    def __init__(self, deployment: str) -> None:
        self.deployment = deployment
        self.ttft, self.tpot = Coverage(), Coverage()
        self.kinds = ((TTFT, self.ttft), (TPOT, self.tpot))
        self._told = {TTFT: _HOLDS, TPOT: _HOLDS}

    def on_first_token(self, permit: Permit, observed_s: float) -> None:
        """A first token came so long after sending."""
        off = log_ratio(observed_s, permit.predicted_ttft_s)
        if off is not None:
            self.ttft.observe(off, permit.spread.ttft_log_mean, permit.spread.ttft_log_sigma)

    def on_tpot(self, permit: Permit, observed_s: float) -> None:
        """A call ended with this mean gap."""
        off = log_ratio(observed_s, permit.predicted_tpot_s)
        if off is not None:
            self.tpot.observe(off, permit.spread.tpot_log_mean, permit.spread.tpot_log_sigma)

    def on_silent_end(self, permit: Permit, waited_s: float) -> None:
        """A call ended before its first token. Past the interval it counts as over; before, nobody knows."""
        off, spread = log_ratio(waited_s, permit.predicted_ttft_s), permit.spread
        if off is not None and off > spread.ttft_log_mean + Z90 * spread.ttft_log_sigma:
            self.ttft.observe(off, spread.ttft_log_mean, spread.ttft_log_sigma)

    def tick(self, *, now: float) -> list[Event]:
        """What was scored since the last time, and whether coverage went out of bounds for long, or came back."""
        events: list[Event] = []
        for what, coverage in self.kinds:
            counts = coverage.take()
            if any(counts):
                events.append(PredictionsScored(self.deployment, what, *counts, coverage.ratio))
            if coverage.look(now=now):
                events.append(self._changed(what, coverage))
        return events

    def _changed(self, what: str, coverage: Coverage) -> CoverageChanged:
        old, ratio = self._told[what], coverage.ratio
        new, reason = _HOLDS, "the intervals hold what they say again"
        if coverage.is_off:
            new = _NARROW if ratio < LEAST else _WIDE
            bound = f"under {LEAST}" if new == _NARROW else f"over {MOST}"
            reason = f"{ratio:.3f} of the last predictions held, {bound}, for a minute"
        self._told[what] = new
        return CoverageChanged(self.deployment, what, old, new, ratio, reason)
