"""`router evaluate`: an artefact as a two-model router, scored on outcomes it has not seen."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from router.cli.floor.command import Asked as FloorAsked
from router.cli.floor.command import Floor, floor_table, promised, refuse_online
from router.cli.floor.options import FloorLoss, Recalibrate, Resplits, SplitSeed
from router.cli.online.command import evaluate_online
from router.cli.online.options import (
    Asked,
    BudgetUsd,
    Events,
    Feedbacks,
    LargeShare,
    Models,
    OnlineFlag,
    PriorPath,
    Seeds,
)
from router.cli.report.options import NoExamples, ReportDate, ReportPath
from router.cli.report.write import Evaluated, spelled, write_report
from router.cli.train import progress_bar, read_files
from router.complexity.assessment.rows import Remembering
from router.complexity.evaluate import Evaluation, Scores
from router.complexity.evaluate import evaluate as score
from router.complexity.registry import load_artefact
from router.complexity.trained import TrainedEstimator
from router.domain.deployment import Tier
from router.domain.errors import RouterError


def evaluate(
    context: typer.Context,
    outcomes: Annotated[list[Path], typer.Argument(help="Outcomes: JSON lines, plain or gzipped.")],
    model: Annotated[Path | None, typer.Option(help="Artefact that `router train` wrote.")] = None,
    small: Annotated[str | None, typer.Option(help="The cheaper model, as the outcomes name it.")] = None,
    large: Annotated[str | None, typer.Option(help="The better model, as the outcomes name it.")] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write every figure here.")] = None,
    report: ReportPath = None,
    no_examples: NoExamples = False,
    date: ReportDate = None,
    online: OnlineFlag = False,
    models: Models = None,
    budget_usd: BudgetUsd = None,
    seeds: Seeds = 20,
    prior: PriorPath = None,
    event: Events = None,
    large_share: LargeShare = None,
    feedbacks: Feedbacks = None,
    floor_loss: FloorLoss = None,
    recalibrate: Recalibrate = 2000,
    resplits: Resplits = 200,
    seed: SplitSeed = 0,
) -> None:
    """Say how well an artefact tells which prompts need the large model.

    Examples:

        router evaluate held_out.jsonl.gz --model model.artefact --small llama-3.1-8b --large gpt-4 --report page.html

        router evaluate held_out.jsonl.gz --model model.artefact --small llama-3.1-8b --large gpt-4 --floor-loss 0.05

        router evaluate held_out.jsonl.gz --online --models small,middle,large --budget-usd 5e-4 --report page.html

        router evaluate held_out.jsonl.gz --online --models a-8b,b-70b --budget-usd 5e-4 --event .3-.6:b-70b:quality=.5

        router evaluate held_out.jsonl.gz --online --small llama-3.1-8b --large gpt-4 --feedbacks 1000

    APGR is the share of the quality gap recovered, averaged over all shares of calls to large (random is 0.5); CPT(x)
    the least percentage of calls to large that recovers x % of it; AUC how well "small is worse" is foreseen; ECE how
    far P(adequate) is off, the worse of the two. A model that the artefact does not know is scored as its tier.

    With `--online` the rows are a stream, and the router learns from what the model it chose did, before the next row.
    With `--floor-loss` it says how much must go to large for a promise of quality, and how often that promise held.
    """
    if online:
        said = (prior or model, tuple(event or ()), small, large, large_share, feedbacks, json_)
        refuse_online(floor_loss)
        evaluate_online(outcomes, Asked(models, budget_usd, seeds, *said, report, date, spelled(context)))
        return
    done = _frozen(outcomes, model, small, large)
    floor = None if floor_loss is None else promised(done, FloorAsked(floor_loss, recalibrate, resplits, seed))
    _save(json_, done.evaluation, floor)
    if report is not None:
        write_report(report, done, context=context, date=date, prompts=not no_examples)
    Console().print(_table(done.evaluation), *(() if floor is None else (floor_table(floor),)))


def _frozen(outcomes: list[Path], model: Path | None, small: str | None, large: str | None) -> Evaluated:
    """Score the artefact as it is."""
    if model is None or small is None or large is None:
        raise RouterError("name --model, --small and --large (or --online)")
    sources = read_files(outcomes)
    examples = [example for source in sources for example in source.examples]
    try:
        loaded = load_artefact(model.read_bytes())
    except OSError as error:
        raise RouterError(f"{model}: {error.strerror}") from None
    narrowed = TrainedEstimator(loaded.model).serving(((small, Tier.SMALL), (large, Tier.LARGE)))
    asked = Remembering(narrowed)
    with progress_bar() as bar:
        task = bar.add_task("scoring", total=len(examples))
        result = score(
            examples,
            asked,
            small=small,
            large=large,
            clock_ns=time.perf_counter_ns,
            progress=lambda done: bar.update(task, completed=done),
        )
    return Evaluated(sources, loaded.lineage, narrowed, asked.said, result, small, large)


def _save(out: Path | None, result: Evaluation, floor: Floor | None) -> None:
    if out is None:
        return
    document = msgspec.to_builtins(result) | ({} if floor is None else {"floor": msgspec.to_builtins(floor)})
    try:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    except OSError as error:
        raise RouterError(f"{out}: {error.strerror}") from None


def _table(result: Evaluation) -> Table:
    """Sources with enough rows to have figures, then all rows; the rest is in the JSON."""
    told = {name: scores for name, scores in sorted(result.by_source.items()) if scores.apgr is not None}
    left_out = len(result.by_source) - len(told)
    table = Table(caption=f"{left_out} sources too small or without a gap are not shown" if left_out else None)
    table.add_column("source", overflow="fold")
    for name in ("n", "small", "large", "APGR", "CPT50", "AUC", "ECE", "us p50"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, scores in told.items():
        table.add_row(name, *_cells(scores))
    table.add_section()
    table.add_row("overall", *_cells(result.overall))
    return table


def _cells(scores: Scores) -> list[str]:
    worst = max((figure for figure in scores.ece.values() if figure is not None), default=None)
    figures = [scores.apgr, scores.cpt50, scores.auc, worst]
    formats = (".3f", ".1f", ".3f", ".3f")
    shown = ["-" if figure is None else f"{figure:{f}}" for figure, f in zip(figures, formats, strict=True)]
    return [
        str(scores.n),
        f"{scores.small_mean:.3f}",
        f"{scores.large_mean:.3f}",
        *shown,
        f"{scores.predict_us_p50:.0f}",
    ]
