"""`router train`: outcomes in, one artefact out."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from router.complexity import artefact
from router.complexity.artefact import File
from router.complexity.costs import attach, fit_costs
from router.complexity.outcomes import Source, read_outcomes
from router.complexity.train import train as fit
from router.complexity.trained import TrainedEstimator
from router.domain.errors import RouterError

_MUCH_OFF = 0.03
"""Expected calibration error that is pointed out."""


def train(
    outcomes: Annotated[list[Path], typer.Argument(help="Outcomes: JSON lines, plain or gzipped.")],
    out: Annotated[Path, typer.Option(help="Write the artefact here.")],
    small: Annotated[list[str] | None, typer.Option(help="A model that stands for the small tier; repeatable.")] = None,
    large: Annotated[list[str] | None, typer.Option(help="A model that stands for the large tier; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed and files give the same artefact.")] = 0,
    compact: Annotated[bool, typer.Option("--compact", help="n-gram weights in 16 bits: half the size.")] = False,
) -> None:
    """Fit P(adequate) of every model in the files, and of each tier for models nobody has measured.

    Examples:

        router train outcomes.jsonl --out model.artefact

        router train mmlu.jsonl.gz mine.jsonl --small llama-3.1-8b --large llama-3.1-70b --out model.artefact

        ROUTER_ARTEFACT=model.artefact router serve

    A line of outcomes: `{"prompt": "...", "source": "faq", "outcomes": {"llama-3.1-8b": {"quality": 1.0}, ...}}`.
    Quality is in [0, 1]; adequate is 0.5 and more, or, where truth is finer than 0 and 1 and one `--large` is named, at
    least the quality of that model. Without names each file's tiers are split at the middle of its models' means.
    The artefact holds weights and digests, no prompt; reading one runs no code. How good it is on outcomes that it has
    not seen, `router evaluate` tells.
    """
    sources = read_files(outcomes)
    with progress_bar() as bar:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what)
            bar.update(tasks[what], completed=done, total=total)

        fitted = fit(sources, small=small or (), large=large or (), seed=seed, progress=show)
    examples = [example for source in sources for example in source.examples]
    costs = fit_costs(examples, TrainedEstimator(fitted.model))
    data = attach(artefact.dump(fitted.model, fitted.lineage, half=compact), costs)
    try:
        out.write_bytes(data)
    except OSError as error:
        raise RouterError(f"{out}: {error.strerror}") from None
    _report(sources, fitted, data, out)


def read_files(paths: Sequence[Path]) -> list[Source]:
    """Outcome files, parsed; `RouterError` says which cannot be read and why."""
    sources = []
    for path in paths:
        try:
            raw = path.read_bytes()
            text = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
        except OSError as error:
            raise RouterError(f"{path}: {error.strerror or error}", code="invalid_outcomes") from None
        except (EOFError, zlib.error) as error:
            raise RouterError(f"{path}: cut short or damaged: {error}", code="invalid_outcomes") from None
        examples = read_outcomes(text.splitlines(), str(path))
        sources.append(Source(File(path.name, hashlib.sha256(raw).hexdigest(), len(examples)), examples))
    return sources


def progress_bar() -> Progress:
    """A bar on standard error where somebody looks."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _report(sources: Sequence[Source], fitted: artefact.Artefact, data: bytes, out: Path) -> None:
    """What it was fitted on, how it does on prompts that it did not see, and what names it."""
    console = Console()
    console.print(_fitted_on(sources))
    console.print(_out_of_fold(fitted))
    console.print(f"{out}: {len(data)} bytes\n{artefact.digest(data)}", highlight=False, soft_wrap=True)


def _fitted_on(sources: Sequence[Source]) -> Table:
    table = Table("file", title="fitted on", title_justify="left")
    for name in ("prompts", "sources", "models"):
        table.add_column(name, justify="right")
    table.add_column("sha256", no_wrap=True)
    for source in sources:
        models = {model for example in source.examples for model in example.outcomes}
        named = {example.source for example in source.examples}
        sizes = (str(source.file.rows), str(len(named)), str(len(models)))
        table.add_row(source.file.name, *sizes, source.file.sha256[:16])
    return table


def _out_of_fold(fitted: artefact.Artefact) -> Table:
    table = Table(title=f"out of fold, {fitted.lineage.folds} folds", title_justify="left")
    table.add_column("model", overflow="fold")
    for name in ("rows", "adequate", "AUC", "Brier", "ECE"):
        table.add_column(name, justify="right", no_wrap=True)
    off = 0
    for row in fitted.lineage.calibration:
        shown = "-" if row.auc is None else f"{row.auc:.3f}"
        star = "*" if row.ece > _MUCH_OFF else " "
        off += row.ece > _MUCH_OFF
        table.add_row(
            row.subject, str(row.rows), f"{row.adequate_ratio:.3f}", shown, f"{row.brier:.4f}", f"{row.ece:.4f}{star}"
        )
    if off:
        table.caption = f"* P(adequate) is off by more than {_MUCH_OFF}: more outcomes of that model would help"
    return table
