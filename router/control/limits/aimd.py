"""Additive increase, multiplicative decrease on the objectives for TPOT and TTFT.

Chiu and Jain (1989): who grows by a constant and shrinks by a factor ends up sharing what there is, fairly and fully.
It goes by whether tokens and first tokens come in time, never by how long a whole call took, which is the length of its
answer. As in TCP, far below the objective it grows by a factor instead (slow start).
"""

from __future__ import annotations

from router.control.limits.steered import Steered
from router.domain.deployment import LimitKind

_ADD = 0.5
_FAR = 0.85
"""Share of the objective below which it is far away."""
_FAST = 0.08
"""Part of itself that it grows by there."""
_MILDEST = 0.95


class AimdLimit(Steered):
    """A constant more, or as much less as the pace is too slow."""

    kind = LimitKind.AIMD

    def _kept(self, excess: float) -> float:
        return min(_MILDEST, 1.0 / excess)

    def _more(self, nearness: float) -> float:
        return max(_ADD, _FAST * self.value) if nearness < _FAR else _ADD
