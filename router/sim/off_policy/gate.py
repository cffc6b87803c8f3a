"""Does the log show of an edit what its rollout requires?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from router.core.rollouts.gate import Verdict
from router.domain.rollout import Require
from router.policy.policy import Policy
from router.sim.off_policy.evaluate import Estimated, Evaluation, Figure, evaluate
from router.sim.off_policy.intervals import Estimate
from router.storage.decision_records import Logged

_PER = 1000.0


def judge(logged: Iterable[Logged], old: Policy, new: Policy, request_class: str, require: Require) -> Verdict:
    """What is required of one class of `new`, on what was logged while `old` was in force. It has passed where the end
    of every interval is on the right side, and nothing is said where the log is too thin for one of them."""
    told = evaluate(logged, old, new, only=request_class)
    if not told.evaluated:
        return Verdict(None, f"the log says nothing of class {request_class}: {told.refused or _left_out(told)}")
    if told.refused:
        return Verdict(None, f"the log says too little: {told.refused}")
    thin: list[str] = []
    failed: list[str] = []
    shown: list[str] = []
    for name, figure, estimate, is_met, bound in _asked(told.overall, require):
        if figure.refused or estimate is None:
            thin.append(f"{name}: {figure.refused or 'nothing is told'}")
            continue
        text = f"{name} {estimate.value:.4g} [{estimate.low:.4g}, {estimate.high:.4g}]"
        (shown if is_met else failed).append(f"{text}, required {bound}")
    by = f"by {told.evaluated} logged requests"
    if thin:
        return Verdict(None, f"the log says too little {by}: {'; '.join((*thin, *_help(told.overall)))}")
    if failed:
        return Verdict(False, f"{by}: {'; '.join(failed)}")
    return Verdict(True, f"{by}: {'; '.join(shown)}")


def _asked(told: Estimated, require: Require) -> Iterator[tuple[str, Figure, Estimate | None, bool, str]]:
    """Each quantity that is required: its name, figure and doubly robust estimate, whether it is met, and the bound."""
    for name, key, low in (
        ("quality", "quality", require.quality_low),
        ("share within objectives", "slo_met", require.slo_low),
    ):
        if low is not None:
            figure = told.figures[key]
            yield name, figure, figure.dr, figure.dr is not None and figure.dr.low >= low, f"at least {low:g} for sure"
    most = require.usd_per_request
    if most is not None:
        figure = told.figures["cost_per_1k_usd"]
        dr = figure.dr
        cost = None if dr is None else Estimate(dr.value / _PER, dr.low / _PER, dr.high / _PER)
        yield "USD a request", figure, cost, cost is not None and cost.high <= most, f"at most {most:g} for sure"


def _help(told: Estimated) -> Iterator[str]:
    """What would be enough."""
    if told.figures["quality"].support.told == 0:
        yield "quality needs feedback: POST /v1/feedback, or the topic router/feedback"
    ways = [f"{one.requests} requests at an `exploration` of {one.exploration_ratio:.0%}" for one in told.needed]
    if ways:
        yield f"about {' or '.join(ways)} would do"


def _left_out(told: Evaluation) -> str:
    return next((f"{count} were left out: {why}" for why, count in told.skipped.items()), "none would fall in it")
