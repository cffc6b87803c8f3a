"""The section on whether P(adequate) can be believed: a reliability diagram for each model."""

from __future__ import annotations

from typing import Final

import numpy as np

from router.cli.report.charts import Area, Axis, Chart, Frame, Line, Mark, draw
from router.cli.report.markup import Html, fold, shown, table, tag
from router.complexity.assessment.curves import Bin, Reliability, reliability
from router.complexity.assessment.rows import Rows
from router.complexity.evaluate import Array

_UNIT: Final = Axis("predicted P(adequate)", 0.0, 1.0, ".1f")
_COLUMNS: Final = 20
_COLUMN_HEIGHT: Final = 0.2
"""Of the picture, for the fullest column."""


def calibration(rows: Rows, small: str, large: str) -> Html:
    """Per model a reliability diagram, its bins as a table, and the figures."""
    said = (
        "When the artefact says 70 %, are 70 % adequate? Each dot is one of ten bins of equal size, its bar the 95 % "
        "interval of the true share. On the dotted line the artefact is right; above it the model does better than was "
        "said, below it worse. The columns show how often each prediction was made."
    )
    models = [reliability(m, rows.p[:, i], rows.adequate[:, i]) for i, m in enumerate((small, large))]
    heads = ("model", "prompts", "adequate", "AUC", "Brier", "ECE")
    figures = [
        [
            m.model,
            str(len(rows.examples)),
            shown(m.adequate_ratio),
            shown(m.auc),
            shown(m.brier, ".4f"),
            shown(m.ece),
        ]
        for m in models
    ]
    diagrams = [_diagram(f"reliability-{n}", model, rows.p[:, n]) for n, model in enumerate(models)]
    return tag(
        "section",
        tag("h2", "Calibration"),
        tag("p", said),
        _meaning(rows, large),
        table("Calibration by model", heads, figures),
        tag("div", *diagrams, class_="pair"),
    )


def _meaning(rows: Rows, large: str) -> Html:
    """What adequate means on these prompts."""
    sources = {example.source for example in rows.examples}
    more: tuple[str, ...] = ()
    if not rows.graded:
        told = "Quality is right or wrong here: an answer is adequate when its quality is at least 0.5."
    else:
        told = (
            f"In {len(rows.graded)} of {len(sources)} sources quality is finer than right or wrong. There an answer is "
            f"adequate when it is at least as good as that of {large} on the same prompt. An artefact foresees that "
            "only where it was trained with "
        )
        more = (tag("code", f"--large {large}"), ".")
    return tag("p", told, *more, class_="note")


def _diagram(name: str, model: Reliability, p: Array) -> Html:
    marks = [
        Mark("router", b.said, b.true, f"{b.rows} prompts: said {b.said:.3f}, true {b.true:.3f}", False, b.low, b.high)
        for b in model.bins
    ]
    chart = Chart(
        name,
        f"{model.model}: ECE {shown(model.ece)}",
        f"Share of adequate answers of {model.model} against what was predicted, in {len(model.bins)} bins. The table "
        "has the bins.",
        Frame(_UNIT, Axis("share adequate", 0.0, 1.0, ".1f"), width=460, height=400),
        [Line("as said", "random", [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)], 0.5, below=True)],
        marks,
        _columns(p),
    )
    rows = [[f"{n}", str(b.rows), *(shown(f) for f in (b.said, b.true, b.low, b.high))] for n, b in _numbered(model)]
    bins = table(f"Bins of {model.model}", ("bin", "prompts", "said", "true", "95 % from", "to"), rows)
    return tag("div", draw(chart), fold(f"The {len(model.bins)} bins", bins))


def _numbered(model: Reliability) -> list[tuple[int, Bin]]:
    return list(enumerate(model.bins, start=1))


def _columns(p: Array) -> list[Area]:
    """How many prompts got which prediction, as columns on the floor."""
    counts, edges = np.histogram(p, _COLUMNS, (0.0, 1.0))
    most = max(int(counts.max()), 1)
    found = []
    for count, left, right in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        height = _COLUMN_HEIGHT * count / most
        said = f"{count} prompts with {left:.2f} to {right:.2f}"
        if count:
            found.append(
                Area(
                    "mass",
                    [(left + 0.004, height), (right - 0.004, height)],
                    [(left + 0.004, 0), (right - 0.004, 0)],
                    said,
                )
            )
    return found
