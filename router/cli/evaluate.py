"""`router evaluate`: an artefact as a two-model router, scored on outcomes it has not seen."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from router.cli.train import progress_bar, read_files
from router.complexity.evaluate import Evaluation, Scores
from router.complexity.evaluate import evaluate as score
from router.complexity.registry import load_estimator
from router.domain.deployment import Tier
from router.domain.errors import RouterError


def evaluate(
    outcomes: Annotated[list[Path], typer.Argument(help="Outcomes: JSON lines, plain or gzipped.")],
    model: Annotated[Path, typer.Option(help="Artefact that `router train` wrote.")],
    small: Annotated[str, typer.Option(help="The cheaper model, as the outcomes name it.")],
    large: Annotated[str, typer.Option(help="The better model, as the outcomes name it.")],
    json_: Annotated[Path | None, typer.Option("--json", help="Write every figure here.")] = None,
) -> None:
    """Say how well an artefact tells which prompts need the large model.

    Example:

        router evaluate held_out.jsonl.gz --model model.artefact --small llama-3.1-8b --large gpt-4 --json report.json

    APGR is the share of the quality gap recovered, averaged over all shares of calls to large (random is 0.5);
    CPT(x) the least percentage of calls to large that recovers x % of it; AUC tells how well "small is worse than
    large" is foreseen; ECE how far P(adequate) is off, the worse of the two in the table. A model that the artefact
    does not know is scored as its tier.
    """
    examples = [example for source in read_files(outcomes) for example in source.examples]
    try:
        estimator = load_estimator(model.read_bytes())
    except OSError as error:
        raise RouterError(f"{model}: {error.strerror}") from None
    narrowed = estimator.serving(((small, Tier.SMALL), (large, Tier.LARGE)))
    with progress_bar() as bar:
        task = bar.add_task("scoring", total=len(examples))
        result = score(
            examples,
            narrowed,
            small=small,
            large=large,
            clock_ns=time.perf_counter_ns,
            progress=lambda done: bar.update(task, completed=done),
        )
    if json_ is not None:
        document = msgspec.json.format(msgspec.json.encode(result), indent=1)
        try:
            json_.write_bytes(document + b"\n")
        except OSError as error:
            raise RouterError(f"{json_}: {error.strerror}") from None
    Console().print(_table(result))


def _table(result: Evaluation) -> Table:
    """Sources with enough rows to have figures, then all rows; the rest is in the JSON."""
    told = {name: scores for name, scores in sorted(result.by_source.items()) if scores.apgr is not None}
    table = Table(caption=f"{len(result.by_source) - len(told)} sources too small or without a gap are not shown")
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
