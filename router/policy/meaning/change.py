"""One thing that an edit changes."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Kind(StrEnum):
    """What a change is about.

    `routes`: which requests fall where and who may serve them. `promises`: objectives, floor, deadline. `parameters`:
    what is asked of the model. `money`: prices, budgets, what an answer is worth. `limits`: retries, exploration and
    the bounds of what the controller tunes. `rollout`: how edits come into force. `fleet`: what serves.
    """

    ROUTES = "routes"
    PROMISES = "promises"
    PARAMETERS = "parameters"
    MONEY = "money"
    LIMITS = "limits"
    ROLLOUT = "rollout"
    FLEET = "fleet"


class Direction(StrEnum):
    """Whether more is promised or less is allowed than before, or the other way round."""

    TIGHTENED = "tightened"
    LOOSENED = "loosened"

    @property
    def opposite(self) -> Direction:
        """The other one."""
        return Direction.LOOSENED if self is Direction.TIGHTENED else Direction.TIGHTENED


class How(StrEnum):
    """How a change comes into force.

    `live`: swapped at once for what is decided from then on. `canary`: by steps. `shadow`: only compared. `drain`: what
    is in flight ends on the old side, which gets nothing new. Nothing needs a restart.
    """

    LIVE = "live"
    CANARY = "canary"
    SHADOW = "shadow"
    DRAIN = "drain"


class Move(Struct, frozen=True):
    """One field that differs, old and new as people write them. `note` says what that means."""

    field: str
    old: str
    new: str
    kind: Kind
    direction: Direction | None = None
    note: str = ""


class Effect(Struct, frozen=True):
    """How it comes into force, as a word and as a sentence."""

    how: How
    text: str


class Change(Struct, frozen=True):
    """A move with what it is a move of, how it comes into force, and which classes of the new policy it touches."""

    subject: str
    move: Move
    effect: Effect
    classes: tuple[str, ...]


AT_ONCE = Effect(How.LIVE, "at once")
