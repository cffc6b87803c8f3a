"""Do answers still turn out as was predicted, and if not, for whom?

Residuals in standard deviations are summed up in both directions (CUSUM: Page, Biometrika 1954). While a sum is up,
what each model and each class add to it is kept: a move that all share is no single model's.
"""

from __future__ import annotations

from msgspec import Struct

_SLACK = 0.25
"""Half of the move that is looked for, in standard deviations of an answer."""
_FARTHEST = 3.0
_SHARED, _OWN = 3.0, -1.0
"""Log likelihood ratios from which on a move is shared, and under which it is not."""
_HEARD, _LARGEST_MOVE = 12, 1.0
"""Fewer answers are not heard, and no move counts as larger: single answers scatter too far."""
_MAX_NAMES = 256


class Run(Struct):
    """The answers since a sum left zero: by name, how many and the sum of their residuals (down is positive in a run
    downward)."""

    level: float = 0.0
    count: int = 0
    predicted: float = 0.0
    told: float = 0.0
    models: dict[str, list[float]] = {}
    classes: dict[str, list[float]] = {}
    kinds: set[str] = set()

    def is_shared(self) -> bool | None:
        """Whether at least two models are heard, and all that are heard, models and classes, moved as the whole did
        rather than not at all: by the log likelihood ratio of their own answers. Heard is who has enough of them.
        `None` where that is still open."""
        move = min(sum(total for _, total in self.models.values()) / max(self.count, 1), _LARGEST_MOVE)
        heard = [_ratio(tally, move) for tally in self.models.values() if _can_tell(tally, move)]
        besides = [_ratio(tally, move) for tally in self.classes.values() if _can_tell(tally, move)]
        least = min(heard + besides, default=0.0)
        if least < _OWN:
            return False
        return True if len(heard) > 1 and least > _SHARED else None

    def only_class(self) -> str | None:
        """The one class that moved, where others are heard and did not."""
        heard = {name: total / count for name, (count, total) in self.classes.items() if count >= _HEARD}
        if len(heard) < 2:
            return None
        name = max(heard, key=lambda name: heard[name])
        move = min(heard.pop(name), _LARGEST_MOVE)
        is_alone = all(_ratio(self.classes[other], move) < _OWN for other in heard)
        return name if is_alone and _can_tell(self.classes[name], move) else None


def _can_tell(tally: list[float], move: float) -> bool:
    return tally[0] >= _HEARD and 0.5 * tally[0] * move * move > _SHARED


def _ratio(tally: list[float], move: float) -> float:
    return move * (tally[1] - 0.5 * tally[0] * move)


class Residual(Struct, frozen=True):
    """One answer: what was predicted and told, the error in standard deviations, and whose it is."""

    predicted: float
    told: float
    error: float
    model: str
    request_class: str
    kind: str


class Residuals:
    """The sums of one class, or of one source of feedback. `alarm` is the sum that tells of a move; the first
    `settling` answers tell of none, for what is predicted is only being set right."""

    __slots__ = ("_alarm", "_settling", "down", "up")

    def __init__(self, *, alarm: float, settling: int = 0) -> None:
        self._alarm, self._settling = alarm, settling
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.up, self.down = Run(), Run()

    def add(self, residual: Residual) -> Run | None:
        """One more answer; the run that tells of a move, if one does."""
        if self._settling:
            self._settling -= 1
            return None
        error = min(max(residual.error, -_FARTHEST), _FARTHEST)
        self.up = _further(self.up, error, residual)
        self.down = _further(self.down, -error, residual)
        if self.down.level >= self._alarm:
            return self.down
        return self.up if self.up.level >= self._alarm else None


def _further(run: Run, error: float, residual: Residual) -> Run:
    level = run.level + error - _SLACK
    if level <= 0.0:
        return run if run.count == 0 else Run()
    run.level = level
    run.count += 1
    run.predicted += residual.predicted
    run.told += residual.told
    for names, name in ((run.models, residual.model), (run.classes, residual.request_class)):
        if name in names or len(names) < _MAX_NAMES:
            tally = names.setdefault(name, [0.0, 0.0])
            tally[0] += 1.0
            tally[1] += error
    if len(run.kinds) < _MAX_NAMES:
        run.kinds.add(residual.kind)
    return run
