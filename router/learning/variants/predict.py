"""Would a variant keep an objective that its base misses?

Times of calls as they were measured (or, where none were, as the latency profile has them) are multiplied by a
technique's documented factors, call by call, and the quantile that the objective promises is taken of what comes out.
Queueing is taken as it was, though a faster server has less of it: the prediction errs on the side of too slow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from msgspec import Struct

from router.domain.slo import Indicator, Objective
from router.learning.variants.effects import Effect, Factor


class Times(Struct, frozen=True):
    """One call: to its first token, between tokens, to its end; `None` where that was not measured."""

    ttft_s: float | None
    tpot_s: float | None
    e2e_s: float


class Verdict(StrEnum):
    """Whether an objective is kept: even with no gain to speak of, as expected, only at best, or not at all."""

    KEPT = "kept already"
    EXPECTED = "expected to meet it"
    AT_BEST = "meets it at best"
    MISSED = "does not meet it"
    UNKNOWN = "nobody knows"


class Prediction(Struct, frozen=True):
    """The promised quantile in seconds: now, and under the best, the expected and the worst factor."""

    objective: Objective
    now_s: float
    best_s: float | None
    expected_s: float | None
    worst_s: float | None
    verdict: Verdict


def present(objective: Objective, calls: Sequence[Times]) -> float | None:
    """The quantile that an objective promises, of what was measured; `None` without a figure."""
    return _quantile(_values(objective.indicator, calls, 1.0, 1.0), objective.target)


def predict(objective: Objective, calls: Sequence[Times], effect: Effect) -> Prediction | None:
    """What a technique would make of it; `None` where nothing was measured."""
    now_s = present(objective, calls)
    if now_s is None:
        return None
    best_s, expected_s, worst_s = _under(objective, calls, effect)
    verdict = _verdict(objective.threshold_s, now_s, best_s, expected_s)
    return Prediction(objective, now_s, best_s, expected_s, worst_s, verdict)


def _under(
    objective: Objective, calls: Sequence[Times], effect: Effect
) -> tuple[float | None, float | None, float | None]:
    first, each = effect.ttft, effect.tpot
    if not _says(objective.indicator, first, each):
        return None, None, None
    firsts, eaches = first or (1.0, 1.0, 1.0), each or (1.0, 1.0, 1.0)
    best, expected, worst = (
        _quantile(_values(objective.indicator, calls, f, e), objective.target)
        for f, e in zip(firsts, eaches, strict=True)
    )
    return best, expected, worst


def _says(indicator: Indicator, first: Factor | None, each: Factor | None) -> bool:
    """Whether all that the indicator is made of has a factor."""
    match indicator:
        case Indicator.TTFT:
            return first is not None
        case Indicator.TPOT:
            return each is not None
        case Indicator.E2E:
            return first is not None and each is not None
        case Indicator.AVAILABILITY:
            return False


def _values(indicator: Indicator, calls: Iterable[Times], first: float, each: float) -> list[float]:
    match indicator:
        case Indicator.TTFT:
            return [first * call.ttft_s for call in calls if call.ttft_s is not None]
        case Indicator.TPOT:
            return [each * call.tpot_s for call in calls if call.tpot_s is not None]
        case Indicator.E2E:
            return [_whole(call, first, each) for call in calls]
        case Indicator.AVAILABILITY:
            return []


def _whole(call: Times, first: float, each: float) -> float:
    if call.ttft_s is None:
        return call.e2e_s * each
    return first * call.ttft_s + each * (call.e2e_s - call.ttft_s)


def _quantile(values: list[float], share: float) -> float | None:
    """The least value that at least this share of them does not exceed."""
    if not values:
        return None
    values.sort()
    return values[min(max(-int(-share * len(values) // 1), 1), len(values)) - 1]


def _verdict(threshold_s: float, now_s: float, best_s: float | None, expected_s: float | None) -> Verdict:
    if now_s <= threshold_s:
        return Verdict.KEPT
    if best_s is None or expected_s is None:
        return Verdict.UNKNOWN
    if expected_s <= threshold_s:
        return Verdict.EXPECTED
    return Verdict.AT_BEST if best_s <= threshold_s else Verdict.MISSED
