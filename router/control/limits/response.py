"""Has the last change of a limit been answered?

A lower limit is answered when as many calls have ended as it asks for, a higher one when it is used; from then on what
is observed is observed under the new limit. Nothing moves twice before that.
"""

from __future__ import annotations

import math

EXERCISED = 0.8
"""Share of a limit from which on it counts as used."""
_LOOK_LOW_S, _LOOK_HIGH_S = 2.0, 1.0
"""How long is looked before lowering and before raising. A call more shows in the pace as soon as its prompt is taken
in; raised by a little each second, the limit lets in few prompts together, which slow down the tokens of all others."""
_PATIENCE_S = 30.0
"""A lower limit counts as answered after this, though calls go on for longer."""


class Response:
    """The answer to one change."""

    __slots__ = ("_changed", "_felt", "_lowered")

    def __init__(self) -> None:
        self._changed = -math.inf
        self._felt: float | None = None
        self._lowered = False

    def restart(self, now: float, *, lowered: bool) -> None:
        """The limit has just changed."""
        self._changed, self._felt, self._lowered = now, None, lowered

    def feel(self, used: int, value: float, *, now: float) -> bool:
        """Look at what is in flight; true at the moment in which it shows the change."""
        if self._felt is not None:
            return False
        shows = used >= EXERCISED * value
        if self._lowered:
            shows = used < value + 1.0 or now - self._changed > _PATIENCE_S
        if shows:
            self._felt = now
        return shows

    def may_lower(self, now: float) -> bool:
        """Whether what is observed now is no answer to a limit that was higher."""
        since = self._felt if self._lowered else self._changed
        return since is not None and now - since >= _LOOK_LOW_S

    def may_raise(self, now: float) -> bool:
        """Whether the limit has been used since its last change, and what came of it was seen."""
        return self._felt is not None and now - self._felt >= _LOOK_HIGH_S
