"""What is done to a model's outcomes on the way, unannounced."""

from __future__ import annotations

import math

from msgspec import Struct

from router.domain.errors import RouterError


class Happening(Struct, frozen=True):
    """What is done to a model's outcomes between two fractions of the stream."""

    begin: float
    end: float
    model: str
    cost_factor: float = 1.0
    quality: float | None = None

    def covers(self, place: float) -> bool:
        """Whether it is on at a fraction of the stream."""
        return self.begin <= place < self.end

    def told(self) -> str:
        """What is done, for people."""
        if self.quality is not None:
            return f"{self.model}: quality {self.quality:g}"
        return f"{self.model}: cost x {self.cost_factor:g}"


def parse_happening(text: str) -> Happening:
    """From `A-B:MODEL:cost*=X` or `A-B:MODEL:quality=X`; `RouterError` where it is neither."""
    span, _, rest = text.partition(":")
    model, _, change = rest.rpartition(":")
    begin, _, end = span.partition("-")
    try:
        if change.startswith("cost*="):
            found = Happening(float(begin), float(end), model, cost_factor=float(change.removeprefix("cost*=")))
        elif change.startswith("quality="):
            found = Happening(float(begin), float(end), model, quality=float(change.removeprefix("quality=")))
        else:
            raise ValueError
    except ValueError:
        found = None
    quality = 0.0 if found is None or found.quality is None else found.quality
    if (
        found is None
        or not (0.0 <= found.begin < found.end <= 1.0 and found.model and 0.0 <= quality <= 1.0)
        or not 0.0 < found.cost_factor < math.inf
    ):
        message = f"--event {text!r}: write A-B:MODEL:cost*=X or A-B:MODEL:quality=X, with 0 <= A < B <= 1"
        raise RouterError(message)
    return found
