"""Both forms: a budget over several models, and a bounded number of feedbacks on two."""

from __future__ import annotations

import pkgutil
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.console import Console

from router.cli.online.options import Asked
from router.cli.online.page import Origin, feedback_page, stream_page
from router.cli.online.tables import compared_table, stream_tables
from router.cli.report.write import save, today
from router.cli.train import progress_bar, read_files
from router.complexity.artefact import Lineage
from router.complexity.costs import CostForecast, detach
from router.complexity.outcomes import Example, Source
from router.complexity.registry import PRIOR, load_artefact
from router.complexity.trained import TrainedEstimator
from router.domain.errors import RouterError
from router.sim.online.frozen import Compared, Pair, compare
from router.sim.online.happenings import parse_happening
from router.sim.online.stream import Streamed, cases_of, stream

_STREAM_KEYS = ("quality", "cost_usd", "budget_ratio", "shares", "shares_by_50")
_COMPARED_KEYS = ("before", "after", "full_feedback")


class Prior(Struct, frozen=True):
    """The estimator to begin with, what it knows of costs, and where it comes from."""

    estimator: TrainedEstimator
    forecast: CostForecast | None
    lineage: Lineage


def evaluate_online(outcomes: Sequence[Path], asked: Asked) -> None:
    """Which form it is follows from the options; `RouterError` where they are neither."""
    if asked.feedbacks is None and asked.models and asked.budget_usd is not None:
        _budget(outcomes, asked, tuple(asked.models.split(",")), asked.budget_usd)
    elif asked.feedbacks is not None and asked.small and asked.large:
        share = 0.5 if asked.large_share is None else asked.large_share
        _feedbacks(outcomes, asked, Pair(asked.small, asked.large, share, asked.feedbacks))
    else:
        raise RouterError(
            "--online wants either --models A,B,C --budget-usd X, or --small S --large L --feedbacks N",
        )


def _budget(outcomes: Sequence[Path], asked: Asked, models: tuple[str, ...], budget_usd: float) -> None:
    if not 0.0 < budget_usd < float("inf"):
        raise RouterError("--budget-usd must be more than 0")
    if len(set(models)) < max(len(models), 2) or "" in models:
        raise RouterError("--models wants two or more names, by comma, each once")
    happenings = [parse_happening(text) for text in asked.events]
    sources, prior = read_files(outcomes), _prior(asked.prior)
    examples = _examples(sources)
    with progress_bar() as bar:
        reading = bar.add_task("reading", total=len(examples))
        cases = cases_of(
            examples,
            models,
            prior.estimator,
            prior.forecast,
            progress=lambda done: bar.update(reading, completed=done),
        )
        passing = bar.add_task("streaming", total=asked.seeds)
        result = stream(
            cases,
            models,
            budget_usd=budget_usd,
            seeds=asked.seeds,
            happenings=happenings,
            progress=lambda done: bar.update(passing, completed=done),
        )
    _save_json(asked.json_, result, _STREAM_KEYS)
    if asked.report is not None:
        save(asked.report, stream_page(result, models, budget_usd, happenings, _origin(asked, sources, prior)))
    for table in stream_tables(result, budget_usd):
        Console().print(table)


def _feedbacks(outcomes: Sequence[Path], asked: Asked, pair: Pair) -> None:
    sources, prior = read_files(outcomes), _prior(asked.prior)
    with progress_bar() as bar:
        passing = bar.add_task("learning", total=asked.seeds)
        result = compare(
            _examples(sources),
            prior.estimator.serving(pair.tiers),
            pair,
            seeds=asked.seeds,
            clock_ns=time.perf_counter_ns,
            progress=lambda done: bar.update(passing, completed=done),
        )
    _save_json(asked.json_, result, _COMPARED_KEYS)
    if asked.report is not None:
        save(asked.report, feedback_page(result, pair, _origin(asked, sources, prior)))
    Console().print(compared_table(result))


def _examples(sources: Sequence[Source]) -> list[Example]:
    return [example for source in sources for example in source.examples]


def _origin(asked: Asked, sources: Sequence[Source], prior: Prior) -> Origin:
    return Origin(
        date=asked.date or today(),
        command=asked.command,
        files=tuple(source.file for source in sources),
        lineage=prior.lineage,
        digest=prior.estimator.model.digest,
    )


def _prior(path: Path | None) -> Prior:
    """The artefact to begin with; the shipped one where none is named."""
    try:
        data = pkgutil.get_data("router.complexity", PRIOR) if path is None else path.read_bytes()
    except OSError as error:
        raise RouterError(f"{path}: {error.strerror}") from None
    assert data is not None
    loaded = load_artefact(data)
    return Prior(TrainedEstimator(loaded.model), detach(data)[1], loaded.lineage)


def _save_json(out: Path | None, result: Streamed | Compared, keys: Sequence[str]) -> None:
    """The figures that are promised, and no others."""
    if out is None:
        return
    document = msgspec.json.encode({key: getattr(result, key) for key in keys})
    try:
        out.write_bytes(msgspec.json.format(document, indent=1) + b"\n")
    except OSError as error:
        raise RouterError(f"{out}: {error.strerror}") from None
