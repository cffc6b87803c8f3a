"""Promises that no deployment can keep, and times of a class that contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from router.domain.deployment import Deployment
from router.domain.slo import Indicator, Objective, PastDeadline, RequestClass, WhenSpent
from router.policy.checks.places import Places
from router.policy.checks.problem import Problem
from router.policy.policy import Policy
from router.policy.schema.values import duration_text
from router.routing.filters import serves

_DAY_S = 86400.0


def check_floors(policy: Policy, places: Places) -> Iterator[Problem | None]:
    """Objectives and deadlines below what the fastest deployment takes with nothing else to do."""
    for request_class in policy.classes:
        name = request_class.name
        able = [d for d in policy.deployments if serves(request_class, d)]
        for objective in request_class.objectives.each():
            floor = _FLOORS.get(objective.indicator)
            least = _least(able, floor) if floor is not None else None
            if least is not None and least[0] > objective.threshold_s:
                told = f"no deployment can meet {_short(objective)}: {least[1]}, the fastest that may serve"
                message = f"{told} `{name}`, takes {duration_text(least[0])} with nothing else to do"
                yield places.warn("objective_unreachable", name, places.objective(name, objective.indicator), message)
        least = _least(able, first_token_s)
        if least is not None and request_class.deadline_s is not None and least[0] > request_class.deadline_s:
            message = f"every request of `{name}` is late: {least[1]}, the fastest, takes {duration_text(least[0])}"
            yield places.warn("deadline_unreachable", name, ("deadline",), message)


def first_token_s(deployment: Deployment) -> float:
    """Least seconds to a first token: one step that takes in one token and what comes before it, or a batch of one. 0
    where it was never measured: the figures of an unknown model are a guess at its tier."""
    if deployment.batch is not None:
        return deployment.batch.base_s + deployment.batch.per_item_s
    step = deployment.step
    return 0.0 if step is None or _guessed(deployment) else step.first_s + step.base_s + step.per_prefill_token_s


def one_gap_s(deployment: Deployment) -> float:
    """Least seconds between two tokens: one step with one sequence. 0 where it was never measured, and for batches,
    which come at once."""
    step = deployment.step
    unknown = step is None or deployment.batch is not None or _guessed(deployment)
    return 0.0 if step is None or unknown else step.base_s + step.per_sequence_s


_FLOORS: dict[Indicator, Callable[[Deployment], float]] = {
    Indicator.TTFT: first_token_s,
    Indicator.TPOT: one_gap_s,
    Indicator.E2E: first_token_s,
}


def _guessed(deployment: Deployment) -> bool:
    return deployment.step is not None and deployment.step.source.startswith("prior")


def _least(able: list[Deployment], floor: Callable[[Deployment], float]) -> tuple[float, str] | None:
    return min(((floor(d), f"`{d.name}`") for d in able), default=None)


def _short(objective: Objective) -> str:
    return f"{objective.indicator} {duration_text(objective.threshold_s)}"


def check_times(policy: Policy, places: Places) -> Iterator[Problem | None]:
    """Objectives, deadline, hedge and waits of a class, each against the others."""
    for request_class in policy.classes:
        for code, path, message in _contradictions(request_class, places):
            yield places.warn(code, request_class.name, path, message)
    deadlines = [c.deadline_s for c in policy.classes]
    longest = max((d for d in deadlines if d is not None), default=0.0)
    wait = policy.bounds.queue_wait_s
    if None not in deadlines and wait > longest:
        message = f"no request waits for {duration_text(wait)}: the longest deadline is {duration_text(longest)}"
        yield places.warn_bound("queue_wait_past_deadlines", "queue_wait", message)


def _contradictions(c: RequestClass, places: Places) -> Iterator[tuple[str, tuple[str | int, ...], str]]:
    """Code, path and message of each."""
    ttft, e2e, deadline = c.objectives.ttft, c.objectives.e2e, c.deadline_s
    if ttft is not None and e2e is not None and e2e.threshold_s < ttft.threshold_s:
        message = f"the last token is promised before the first, which has {duration_text(ttft.threshold_s)}"
        yield "e2e_before_ttft", (*places.objective(c.name, Indicator.E2E),), message
    if ttft is not None and deadline is not None and deadline < ttft.threshold_s:
        message = f"a request of `{c.name}` ends at {duration_text(deadline)}, before {_short(ttft)} is missed"
        yield "deadline_before_ttft", ("deadline",), message
    if deadline is not None and c.hedge_after_s is not None and c.hedge_after_s >= deadline:
        message = f"no second call ever starts: a request of `{c.name}` ends at {duration_text(deadline)}"
        yield "hedge_past_deadline", ("hedge_after",), message
    if ttft is not None and c.batch_wait_s is not None and c.batch_wait_s >= ttft.threshold_s:
        yield "batch_wait_past_ttft", ("batch_wait",), f"waiting for a batch alone may miss {_short(ttft)}"
    elif e2e is not None and c.batch_wait_s is not None and c.batch_wait_s >= e2e.threshold_s:
        yield "batch_wait_past_e2e", ("batch_wait",), f"waiting for a batch alone may miss {_short(e2e)}"
    waits = c.budget.when_spent is WhenSpent.QUEUE and c.past_deadline is PastDeadline.FAIL
    if waits and deadline is not None and deadline < _DAY_S:
        message = f"what waits for the next day ends at its deadline of {duration_text(deadline)} instead"
        yield "queue_past_deadline", ("budget", "when_spent"), message
