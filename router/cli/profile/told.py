"""One load test with all that came of it, as the view, the page and the files tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from router.domain.deployment import Deployment
from router.learning.profiling.batch_fit import BatchFit, fit_batch
from router.learning.profiling.calls import Level
from router.learning.profiling.figures import Figures, figures
from router.learning.profiling.knee import Knee, knee
from router.learning.profiling.step_fit import StepFit, fit_step

_BUSY = 0.8
"""Of a processor, from which on the sender itself may be what is slow."""
_SEEN_QUANTILE = 100


class Spent(Struct, frozen=True):
    """Dollars: paid for calls that ended, warm-ups included; at most for calls that were cut off; and the bound."""

    usd: float
    cut_off_usd: float
    most_usd: float | None


class Asking(Struct, frozen=True):
    """How it was asked for; `date` and `command` are printed as they are. `is_cut`: somebody pressed Ctrl-C."""

    prompts: str
    are_alike: bool
    date: str
    command: str
    is_cut: bool = False


class Told(Struct, frozen=True):
    """Everything. `step` is `None` where too few answers were streamed, `batch` but for batches of several sizes.
    `problems` has the first words of one error of each code."""

    deployment: Deployment
    levels: tuple[Figures, ...]
    step: StepFit | None
    batch: BatchFit | None
    knee: Knee | None
    problems: Mapping[str, str]
    spent: Spent
    asking: Asking
    notes: tuple[str, ...]

    @property
    def answers(self) -> int:
        """Counted calls that went well."""
        return sum(one.client_invocations - one.client_invocation_errors for one in self.levels)


def told_of(deployment: Deployment, levels: Sequence[Level], spent: Spent, asking: Asking) -> Told:
    """Figures, fits and what must be known before believing them."""
    known = tuple(figures(level, hourly_usd=deployment.price.hourly_usd) for level in levels if level.samples)
    source = f"router profile {deployment.name}, {asking.date}"
    budget = 2048 if deployment.step is None else deployment.step.step_token_budget
    problems = {s.code: s.problem for level in levels for s in (*level.warm_ups, *level.samples) if s.code}
    step = fit_step(levels, step_token_budget=budget, source=source) if levels else None
    return Told(
        deployment=deployment,
        levels=known,
        step=step,
        batch=fit_batch(levels),
        knee=knee(known),
        problems=problems,
        spent=spent,
        asking=asking,
        notes=tuple(_notes(deployment, levels, known, asking, step)),
    )


def _notes(
    deployment: Deployment, levels: Sequence[Level], known: Sequence[Figures], asking: Asking, step: StepFit | None
) -> list[str]:
    found = []
    if deployment.address.backend == "simulated":
        found.append("The deployment is simulated: nothing was called, and the money is what it would have been.")
    if asking.is_cut:
        found.append("The test was cut off: the figures are of the calls that had ended.")
    found += [f"Concurrency {level.concurrency} ended early: {level.stopped}." for level in levels if level.stopped]
    busy = [str(one.concurrency) for one in known if one.busy_ratio is not None and one.busy_ratio > _BUSY]
    if busy:
        found.append(
            f"At concurrency {', '.join(busy)} the sender itself took more than {_BUSY:.0%} of a processor: what is "
            "slow there may be this machine."
        )
    few = [str(one.concurrency) for one in known if one.client_invocations < _SEEN_QUANTILE]
    if few:
        found.append(f"At concurrency {', '.join(few)} there are too few calls for a p99 (100), and none is shown.")
    if any(one.estimated for one in known):
        found.append("Some answers came without usage: their tokens are estimated, from bytes and pieces.")
    if step is not None and asking.are_alike:
        found.append("All prompts were alike: what context and prompt tokens cost cannot be told from such calls.")
    if step is not None and len(step.levels) < 2:
        found.append("Only one level was measured: what a sequence more costs cannot be told from it.")
    return found
