"""How many calls, and how many tokens, may a deployment have in flight?

A limit is a number with the reason it last moved: a file of its own, behind `protocol.Limit`, with a line in `KINDS`.
For a server that batches continuously the limit is the batch size, and with it the time from token to token. Rules
that hold for all: nothing is fed how long a whole call took; a limit that is not used does not grow; what is steered by
observation waits until a change shows in what is in flight; a refusal cuts at once, and what was refused is tried again
with care.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from router.control.limits.aimd import AimdLimit
from router.control.limits.fixed import FixedLimit
from router.control.limits.gradient import GradientLimit
from router.control.limits.protocol import Limit, Sight
from router.control.limits.room.late import FirstToken, Room
from router.control.limits.room.taken import Taken
from router.control.limits.room.tokens import TokenLimit
from router.control.limits.stand import Stand
from router.control.limits.step_model import StepModelLimit
from router.domain.deployment import LimitKind

KINDS: Mapping[LimitKind, Callable[[Stand], Limit]] = {
    LimitKind.STEP_MODEL: StepModelLimit,
    LimitKind.AIMD: AimdLimit,
    LimitKind.GRADIENT: GradientLimit,
    LimitKind.FIXED: lambda stand: FixedLimit(stand.value),
}

COLD: Mapping[LimitKind, float] = {LimitKind.AIMD: 32.0, LimitKind.GRADIENT: 32.0}
"""Where a limit begins that knows nothing of the server, unless the policy says it; the others begin at their upper
bound. Small servers are overrun at first and large ones found within seconds, for far below the objective it grows by a
factor."""

__all__ = [
    "COLD",
    "KINDS",
    "AimdLimit",
    "FirstToken",
    "FixedLimit",
    "GradientLimit",
    "Limit",
    "Room",
    "Sight",
    "Stand",
    "StepModelLimit",
    "Taken",
    "TokenLimit",
]
