"""The section on where the router does well: the figures of each source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from router.cli.report.bars import whisker
from router.cli.report.markup import Html, breakable, fold, shown, table, tag
from router.complexity.assessment.intervals import Interval
from router.complexity.evaluate import LEAST_ROWS, Evaluation, Scores

_RANDOM: Final = 0.5
_ENDS: Final = (-0.5, 1.5)
"""APGR that is drawn; intervals of small sources are cut off there."""


def by_source(evaluation: Evaluation, sure: Mapping[str, Interval], pooled: Interval | None) -> Html:
    """The sources that have figures, the largest first, under what all prompts give; the others folded away."""
    ordered = sorted(evaluation.by_source.items(), key=lambda item: (-item[1].n, item[0]))
    told = [(name, scores) for name, scores in ordered if scores.apgr is not None]
    silent = [(name, scores) for name, scores in ordered if scores.apgr is None]
    heads = ["source", "prompts", "small", "large", "APGR", "95 %", "worse | better than random"]
    heads += ["CPT50", "CPT80", "AUC", "ECE small", "ECE large"]
    rows = [_row(name, scores, sure.get(name)) for name, scores in told]
    rows.append(_row("all prompts", evaluation.overall, pooled))
    said = (
        "The line is random mixing, 0.5: a dot right of it means that the router helps, an interval across it that "
        "these prompts cannot tell; intervals are cut off at -0.5 and 1.5. “All prompts” pools the rows, "
        "where sources are also told apart from each other."
    )
    parts = [tag("p", said), table("Figures by source, the largest first", heads, rows, last=True)]
    if silent:
        few = [
            [breakable(name), str(scores.n), shown(scores.small_mean), shown(scores.large_mean)]
            for name, scores in silent
        ]
        why = (
            f"{len(silent)} more {'source has' if len(silent) == 1 else 'sources have'} no figures: fewer than "
            f"{LEAST_ROWS} prompts, or large is not better on average"
        )
        parts.append(fold(why, table("Sources without figures", ("source", "prompts", "small", "large"), few)))
    return tag("section", tag("h2", "By source"), *parts)


def _row(name: str, scores: Scores, sure: Interval | None) -> list[str]:
    drawn: str = ""
    if scores.apgr is not None and sure is not None:
        drawn = whisker(scores.apgr, sure.low, sure.high, _ENDS, _RANDOM)
    ece = [shown(figure) for figure in scores.ece.values()]
    return [
        breakable(name),
        str(scores.n),
        shown(scores.small_mean),
        shown(scores.large_mean),
        shown(scores.apgr),
        "–" if sure is None else tag("span", f"{sure.low:.2f} to {sure.high:.2f}", class_="nowrap"),
        drawn,
        shown(scores.cpt50, ".1f"),
        shown(scores.cpt80, ".1f"),
        shown(scores.auc),
        *ece,
    ]
