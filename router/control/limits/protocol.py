"""What every limit is asked, and what it is shown. A limit is a number with the reason it last moved."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from router.domain.deployment import LimitKind
from router.domain.events import LimitUpdate


class StepModel(Protocol):
    """What a limit asks of the latency model."""

    def step_s(self, sequences: float, context_tokens: float) -> float:
        """Seconds of a step that only decodes."""
        ...


class Sight(Struct, frozen=True, gc=False):
    """What a heartbeat shows a limit: the calls in flight (`used`), the tightest objective in force (`tpot_s`), and
    what the step model needs besides: tokens of context a sequence, and the share of time that goes into prompts."""

    now: float
    used: int
    tpot_s: float | None
    context_per_sequence: float = 0.0
    prefill_share: float = 0.0
    tpot_off: float = 0.0
    """How far predicted times per token are off: root mean square of the log of observed over predicted."""


class Limit(Protocol):
    """How many calls a deployment may have in flight. Nothing here is told how long a whole call took: that is the
    length of its answer."""

    kind: LimitKind

    @property
    def value(self) -> float:
        """Calls that may be in flight."""
        ...

    def rebound(self, low: float, high: float) -> None:
        """Take the operator's new bounds and stay where it is, as far as they allow."""
        ...

    def put(self, value: float, reason: str) -> LimitUpdate | None:
        """Go there now, as far as the bounds allow: an automatic change is taken back."""
        ...

    def observe_gap(self, gap_s: float, *, now: float) -> None:
        """Some tokens of one call came, `gap_s` apart in the mean."""
        ...

    def observe_call(self, tpot_s: float, first_token: float, *, now: float) -> None:
        """A call that has ended well had this mean gap; its first token came at `first_token`."""
        ...

    def observe_first_token(self, started: float, *, inside: bool, now: float) -> None:
        """A first token came, inside its objective or not, of a call sent at `started`."""
        ...

    def on_refused(self, used: int, *, now: float) -> LimitUpdate | None:
        """The deployment said that it is too much (429 or 503) while `used` calls were in flight."""
        ...

    def update(self, model: StepModel, sight: Sight) -> LimitUpdate | None:
        """The heartbeat: move where there is a reason to; says so when it moved enough to matter."""
        ...
