"""How well was a change followed? Small functions over series; a value of `None` is a window that tells nothing.

Series run in parallel to the ends of their windows, in seconds. Nothing here knows of routers or requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from router.stats.binomial import at_least

Series = Sequence[float | None]
SETTLED_RATIO = 0.05
"""Settled is within this part of the best."""
_CHANCE = 0.05
"""That a share is called below its floor which is not."""


def trailing(parts: Sequence[float], wholes: Sequence[float], windows: int) -> list[float | None]:
    """Sums of parts over sums of wholes in each window and those before it, `windows` in all; `None` of nothing."""
    ratios: list[float | None] = []
    for end in range(1, len(parts) + 1):
        begin = max(end - windows, 0)
        whole = sum(wholes[begin:end])
        ratios.append(sum(parts[begin:end]) / whole if whole else None)
    return ratios


def settling_s(
    ends_s: Sequence[float], actual: Series, best: Series, *, changed_s: float, within: float = SETTLED_RATIO
) -> float | None:
    """Seconds from a change to the end of the first window from which on every one is at least `1 - within` of the
    best; `None` where the last one is not. Better than the best counts as settled; windows that tell nothing are
    passed over."""
    settled: float | None = None
    for end_s, value, bound in zip(ends_s, actual, best, strict=True):
        if value is None or bound is None:
            continue
        if value < (1.0 - within) * bound:
            settled = None
        elif settled is None:
            settled = end_s - changed_s
    return settled


def overshoot_ratio(values: Series, objectives: Sequence[float]) -> float:
    """How far the worst window was over its objective, as a part of the objective; 0 where none was."""
    over = [value / limit - 1.0 for value, limit in zip(values, objectives, strict=True) if value is not None]
    return max(0.0, *over) if over else 0.0


def violation_s(values: Series, objectives: Sequence[float], window_s: float) -> float:
    """Seconds of the windows whose value was over the objective."""
    pairs = zip(values, objectives, strict=True)
    return window_s * sum(value is not None and value > limit for value, limit in pairs)


def limit_overshoot_ratio(values: Series) -> float:
    """How far a limit went past where it came to rest, on the way there, as a part of where it came to rest: its median
    over the last third. 0 for a limit that only approaches; what begins where it rests may go to either side."""
    told = [value for value in values if value is not None]
    if len(told) < 3:
        return 0.0
    rest = median(told[-max(len(told) // 3, 1) :])
    if rest <= 0.0:
        return 0.0
    below, above = rest - min(told), max(told) - rest
    past = below if told[0] > rest else above if told[0] < rest else max(below, above)
    return max(past, 0.0) / rest


def flips(values: Series, dead_band: float) -> int:
    """How often a series turned round: went the other way by more than `dead_band` of the level it turned at."""
    turns, direction = 0, 0
    extreme: float | None = None
    for value in values:
        if value is None:
            continue
        if extreme is None:
            extreme = value
            continue
        moved = value - extreme
        if moved * direction > 0.0:
            extreme = value
        elif abs(moved) > dead_band * max(abs(extreme), 1e-9):
            turns += direction != 0
            direction, extreme = (1 if moved > 0.0 else -1), value
    return turns


def per_minute(count: float, seconds: float) -> float:
    """A rate."""
    return count * 60.0 / seconds if seconds > 0.0 else 0.0


def is_below(adequate: int, served: int, floor: float) -> bool:
    """Whether a share is surely under the floor: as few would be adequate by chance less than once in twenty, if the
    floor were just kept (exact binomial test)."""
    return served > 0 and 1.0 - at_least(adequate + 1, served, floor) < _CHANCE


def breaches(below: Sequence[bool]) -> int:
    """Separate stretches of windows that are below."""
    return sum(now and not before for before, now in zip((False, *below), below, strict=False))


def regret(actual: Sequence[float], best: Sequence[float]) -> float:
    """What was lost against the best over all windows; less than 0 where more was gained than lost."""
    return sum(best) - sum(actual)
