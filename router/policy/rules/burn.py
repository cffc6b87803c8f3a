"""At which burn rates, over which windows, does an objective alert?

The multiwindow, multi-burn-rate scheme of the SRE workbook, chapter 5 (table 5-8). An alert fires when a share of the
error budget is gone within a long window, and a short window, a twelfth of it, says that it still goes on. The burn
rate that spends a share of the budget of `window_s` within `long_s` is `share * window_s / long_s`: 14.4, 6, 3 and 1
for thirty days. Longer and shorter objectives keep the windows and the shares and get other rates.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from router.domain.slo import Objective

PAGE, TICKET = "page", "ticket"
_LEAST_RATE = 1.0
"""A slower burn keeps the promise: nothing to tell, however short the objective's own window makes the rate."""

_NEARLY_ALL = 0.9
_LONGEST_S = 3650 * 86400.0
_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


class Pair(Struct, frozen=True):
    """Two windows (seconds) and the share of the budget that is gone when they alert."""

    severity: str
    long_s: int
    short_s: int
    budget_ratio: float


PAIRS = (
    Pair(PAGE, 3600, 300, 0.02),
    Pair(PAGE, 6 * 3600, 1800, 0.05),
    Pair(TICKET, 86400, 2 * 3600, 0.10),
    Pair(TICKET, 3 * 86400, 6 * 3600, 0.10),
)
WINDOWS_S = tuple(sorted({s for pair in PAIRS for s in (pair.short_s, pair.long_s)}))


class Step(Struct, frozen=True):
    """One pair of windows as it alerts for one objective: both burn faster than `rate`."""

    pair: Pair
    rate: float


def steps(objective: Objective, severity: str) -> tuple[Step, ...]:
    """The pairs of this severity. One whose long window is longer than the objective's own is left out, but for the
    shortest of a severity: every objective pages, and every objective has a ticket."""
    pairs = [p for p in PAIRS if p.severity == severity]
    kept = [p for p in pairs if p.long_s <= objective.window_s] or pairs[:1]
    return tuple(Step(pair, rate(objective, pair)) for pair in kept)


def rate(objective: Objective, pair: Pair) -> float:
    """The burn rate of a pair, never below 1 and never out of reach: a loose target is missed by all requests before it
    burns fast, and alerts when nine tenths of those that may not be bad are."""
    allowed = 1.0 - objective.target
    spends = pair.budget_ratio * objective.window_s / pair.long_s
    return round(max(min(spends, (allowed + _NEARLY_ALL * objective.target) / allowed), _LEAST_RATE), 6)


def every_window(objectives: Iterator[Objective]) -> tuple[float, ...]:
    """The windows that promises are kept over, thirty days always among them (the dashboard shows those), and none
    longer than any server keeps its series."""
    windows = {30 * 86400.0, *(o.window_s for o in objectives)}
    return tuple(sorted(w for w in windows if w <= _LONGEST_S))


def window_text(seconds: float) -> str:
    """A duration as PromQL takes it: a whole number of its largest possible unit."""
    milliseconds = max(round(seconds * 1e3), 1)
    unit = next(u for u, size in _UNITS_MS.items() if milliseconds % size == 0)
    return f"{milliseconds // _UNITS_MS[unit]}{unit}"
