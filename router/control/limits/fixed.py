"""What the operator wrote; nothing that is observed moves it."""

from __future__ import annotations

from router.control.limits.protocol import Sight, StepModel
from router.domain.deployment import LimitKind
from router.domain.events import LimitUpdate


class FixedLimit:
    """A number."""

    kind = LimitKind.FIXED

    def __init__(self, value: float) -> None:
        self.value = value

    def rebound(self, low: float, high: float) -> None:
        """The operator wrote another."""
        self.value = high

    def put(self, value: float, reason: str) -> LimitUpdate | None:
        """Nothing has moved it."""
        return None

    def observe_gap(self, gap_s: float, *, now: float) -> None:
        """Says nothing here."""

    def observe_call(self, tpot_s: float, first_token: float, *, now: float) -> None:
        """Says nothing here."""

    def observe_first_token(self, started: float, *, inside: bool, now: float) -> None:
        """Says nothing here."""

    def on_refused(self, used: int, *, now: float) -> LimitUpdate | None:
        """The circuit keeps calls away for as long as the deployment asks; the number stays."""
        return None

    def update(self, model: StepModel, sight: Sight) -> LimitUpdate | None:
        """Never moves."""
        return None
