"""The sections on why: which features the router goes by, and the prompts it was most wrong about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from router.cli.report.bars import Bar, bar_chart, swing
from router.cli.report.markup import Html, breakable, fold, join, shown, table, tag
from router.complexity.assessment.curves import worst_misses
from router.complexity.assessment.importance import SHUFFLES, Attribution
from router.complexity.assessment.rows import Rows
from router.complexity.assessment.weights import Weight

MOST_MISSES: Final = 10
_HEAD_CHARS: Final = 240
_TAIL_CHARS: Final = 100


def features(attribution: Attribution | None, weights: Sequence[Weight]) -> Html:
    """What each group of features is worth, and which way the strongest single ones push."""
    return tag("section", tag("h2", "What it goes by"), *_groups(attribution), *_weights(weights))


def _groups(attribution: Attribution | None) -> list[Html]:
    if attribution is None:
        return [tag("p", "Not measured: there are too few prompts, or there is no gap that could be lost.")]
    said = (
        f"Each group's values were shuffled between {attribution.rows} of the prompts, {SHUFFLES} times; the fall of "
        f"APGR from {shown(attribution.apgr)} is what the group is worth to the router on these prompts. Groups that "
        "tell the same stand in for each other, so a small fall does not say that a group carries nothing. Below zero "
        "the router did better without."
    )
    chart = bar_chart(
        "importance",
        "APGR lost when a group of features is shuffled",
        "One bar for each group of features, the one worth most on top. The table has the figures.",
        [Bar(one.group, one.fall, one.low, one.high) for one in attribution.groups],
        note="The thin lines run from the least to the most of the shuffles.",
    )
    rows = [
        [one.group, str(one.features), *(shown(f, "+.4f") for f in (one.fall, one.low, one.high))]
        for one in attribution.groups
    ]
    heads = ("group", "features", "APGR lost", "least", "most")
    return [tag("p", said), chart, fold("The figures", table("What each group is worth", heads, rows))]


def _weights(weights: Sequence[Weight]) -> list[Html]:
    if not weights:
        return []
    said = (
        "What one standard deviation more of a feature adds to the log odds of a good answer, through the linear part "
        "of the artefact (a quarter of its say; trees and n-grams come on top). Where large gains more than small, the "
        "prompt is pushed to large: bars to the right."
    )
    most = max(abs(one.towards_large) for one in weights)
    rows = [
        [
            one.feature,
            shown(one.small, "+.4f"),
            shown(one.large, "+.4f"),
            shown(one.towards_large, "+.4f"),
            swing(one.towards_large, most),
        ]
        for one in weights
    ]
    heads = ("feature", "small", "large", "towards large", "to small | to large")
    return [
        tag("h3", "The strongest single features"),
        tag("p", said),
        table("Top weights, from the strongest push to large to the strongest push to small", heads, rows),
    ]


def misses(rows: Rows, prompts: bool) -> Html:
    """The rows where the expected gain was furthest from the true one, both ways."""
    worst = worst_misses(rows, MOST_MISSES)
    said = "Gain is the quality of large minus that of small: what the router expected, and what it would have been."
    if not prompts:
        said += " Prompts were left out on request."
    return tag(
        "section",
        tag("h2", "Worst misses"),
        tag("p", said),
        tag("h3", "Large was better than expected: quality lost"),
        _missed("Gain most underestimated", rows, worst.too_low, prompts),
        tag("h3", "Large was no better, or worse, than expected: calls spent for nothing"),
        _missed("Gain most overestimated", rows, worst.too_high, prompts),
    )


def _missed(caption: str, rows: Rows, chosen: Sequence[int], prompts: bool) -> Html:
    if not chosen:
        return tag("p", "None.")
    body: list[list[str]] = []
    for row in chosen:
        example = rows.examples[row]
        expected, true = float(rows.score[row]), float(rows.gain[row])
        cells = [shown(expected, "+.2f"), shown(true, "+.2f")]
        for said, was in zip(rows.expected[row].tolist(), rows.quality[row].tolist(), strict=True):
            cells.append(tag("span", f"{said:.2f} → {was:.2f}", class_="nowrap"))
        name = join(breakable(example.id or f"row {row + 1}"), tag("span", breakable(example.source), class_="sub"))
        quoted = [tag("div", shorten(example.prompt), class_="prompt")] if prompts else []
        body.append([name, *cells, *quoted])
    heads = ["prompt's id, source", "expected gain", "true gain", "small: expected → true", "large: expected → true"]
    return table(caption, [*heads, "prompt"] if prompts else heads, body)


def shorten(text: str) -> str:
    """The beginning and the end of a prompt: the question often comes last."""
    if len(text) <= _HEAD_CHARS + _TAIL_CHARS:
        return text
    return f"{text[:_HEAD_CHARS]} […] {text[-_TAIL_CHARS:]}"
