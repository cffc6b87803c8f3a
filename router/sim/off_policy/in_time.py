"""How likely is a logged candidate in time under promises that were not made then?"""

from __future__ import annotations

import math

from router.domain.decision import Candidate, Decision
from router.domain.slo import RequestClass
from router.stats.normal import below


class Unreplayable(Exception):
    """The log does not hold what it takes."""


def p_in_time(decision: Decision, candidate: Candidate, request_class: RequestClass) -> float:
    """P(SLO) of what was predicted then under other promises, as `core.views` has it for the predictions of now."""
    spread, terms, objectives = candidate.spread, candidate.terms, request_class.objectives
    if spread is None:
        raise Unreplayable("it was logged before the spread of predictions was kept")
    p = 1.0
    if objectives.ttft is not None:
        left = objectives.ttft.threshold_s - decision.waited_s
        p = _p_within(terms.ttft_s, left, spread.ttft_log_mean, spread.ttft_log_sigma)
    if objectives.tpot is not None and terms.tpot_s > 0.0:
        p *= _p_within(terms.tpot_s, objectives.tpot.threshold_s, spread.tpot_log_mean, spread.tpot_log_sigma)
    ends = [objectives.e2e.threshold_s] if objectives.e2e is not None else []
    ends += [s for s in (decision.deadline_s, request_class.deadline_s) if s is not None]
    if ends:
        p *= _p_within(terms.e2e_s, min(ends) - decision.waited_s, 0.0, spread.e2e_log_sigma)
    return p


def _p_within(predicted_s: float, left_s: float, mean: float, sigma: float) -> float:
    return below(0.0, math.log(predicted_s / left_s) + mean, sigma) if left_s > 0.0 else 0.0
