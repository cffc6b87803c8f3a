"""From an evaluation to a file: the command line is spelled out, features are shuffled, the page is written."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import typer
from msgspec import Struct

from router.cli.report.page import Report, page
from router.cli.train import progress_bar
from router.complexity.artefact import Lineage
from router.complexity.assessment.importance import importance
from router.complexity.assessment.intervals import by_source, uncertainty
from router.complexity.assessment.rows import rows_of
from router.complexity.assessment.weights import top_weights
from router.complexity.estimator import Scored
from router.complexity.evaluate import Evaluation
from router.complexity.outcomes import Source
from router.complexity.trained import TrainedEstimator
from router.domain.errors import RouterError

_SEED = 0
"""Of the sample and the shuffles: the same artefact and outcomes give the same page."""
_MOST_WEIGHTS = 16


class Evaluated(Struct, frozen=True):
    """An evaluation and what it came from; `said` is what the estimator said, in the order it was asked."""

    sources: Sequence[Source]
    lineage: Lineage
    estimator: TrainedEstimator
    said: Sequence[Scored]
    evaluation: Evaluation
    small: str
    large: str


def write_report(out: Path, done: Evaluated, *, context: typer.Context, date: str | None, prompts: bool) -> None:
    """Write the page, dated today unless it is said otherwise; `RouterError` where it cannot be written."""
    small, large = done.small, done.large
    examples = [example for source in done.sources for example in source.examples]
    rows = rows_of(examples, done.said, small=small, large=large)
    rng = np.random.default_rng(_SEED)
    with progress_bar() as bar:
        task = bar.add_task("features")
        attribution = importance(
            rows,
            done.estimator,
            small=small,
            large=large,
            rng=rng,
            progress=lambda at, total: bar.update(task, completed=at, total=total),
        )
    report = Report(
        small=small,
        large=large,
        evaluation=done.evaluation,
        rows=rows,
        attribution=attribution,
        weights=top_weights(done.estimator, small=small, large=large, most=_MOST_WEIGHTS),
        sure=uncertainty(rows.score, rows.gain, rng),
        sources_sure=by_source(rows, rng),
        by_tier=tuple(model for model in (small, large) if model not in done.said[0].estimates),
        files=tuple(source.file for source in done.sources),
        lineage=done.lineage,
        digest=done.estimator.model.digest,
        command=spelled(context),
        date=date or today(),
        prompts=prompts,
    )
    save(out, page(report))


def save(out: Path, text: str) -> None:
    """Write a page; `RouterError` where it cannot be written."""
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RouterError(f"{out}: {error.strerror}") from None


def today() -> str:
    """The date in UTC."""
    return datetime.now(UTC).date().isoformat()


def spelled(context: typer.Context) -> str:
    """The command line that gives this run: what differs from the defaults, quoted for a shell."""
    words = ["router", str(context.info_name)]
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if value is None or value is False or value == parameter.default:
            continue
        each = value if isinstance(value, list | tuple) else [value]
        if parameter.param_type_name == "argument":
            words += [str(one) for one in each]
        elif value is True:
            words.append(parameter.opts[0])
        else:
            words += [word for one in each for word in (parameter.opts[0], str(one))]
    return shlex.join(words)
