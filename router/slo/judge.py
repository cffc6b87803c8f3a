"""Did this request keep its class's promises?"""

from __future__ import annotations

from router.domain.slo import Indicator, Objectives


def judge(
    objectives: Objectives,
    *,
    ttft_s: float | None,
    tpot_s: float | None,
    e2e_s: float | None,
    answered: bool,
) -> tuple[tuple[str, bool], ...]:
    """One (indicator, met) for each objective. What was never reached was not met."""
    measured = {Indicator.TTFT: ttft_s, Indicator.TPOT: tpot_s, Indicator.E2E: e2e_s}
    verdicts = []
    for objective in objectives.each():
        if objective.indicator is Indicator.AVAILABILITY:
            verdicts.append((objective.indicator.value, answered))
            continue
        seconds = measured[objective.indicator]
        met = answered and seconds is not None and seconds <= objective.threshold_s
        verdicts.append((objective.indicator.value, met))
    return tuple(verdicts)
