"""The page of one frozen artefact on outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from router.cli.report.calibration import calibration
from router.cli.report.lineage import provenance
from router.cli.report.markup import Html, cards, join, kept, shown, tag, warning
from router.cli.report.quality import cost_and_quality, cost_at
from router.cli.report.reasons import features, misses
from router.cli.report.sources import by_source
from router.cli.report.style import STYLE
from router.complexity.artefact import File, Lineage
from router.complexity.assessment.curves import tradeoff
from router.complexity.assessment.importance import Attribution
from router.complexity.assessment.intervals import Interval, Uncertainty
from router.complexity.assessment.rows import Rows
from router.complexity.assessment.weights import Weight
from router.complexity.evaluate import LEAST_ROWS, Evaluation

_ALONE: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""A browser is told to fetch and run nothing."""


class Report(Struct, frozen=True):
    """What a page is made of. `attribution` and `sure` are `None` where there was no gap; `sources_sure` has the
    interval of APGR of each source that has one; `by_tier` names the models that the artefact does not know; `prompts`
    says whether readers may see prompts; `date` and `command` are printed as they are."""

    small: str
    large: str
    evaluation: Evaluation
    rows: Rows
    attribution: Attribution | None
    weights: tuple[Weight, ...]
    sure: Uncertainty | None
    sources_sure: Mapping[str, Interval]
    by_tier: tuple[str, ...]
    files: tuple[File, ...]
    lineage: Lineage
    digest: str
    command: str
    date: str
    prompts: bool = True


def document(title: str, *sections: Html) -> str:
    """A whole page that stands alone."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_ALONE),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(STYLE)),
    )
    body = tag("body", tag("main", *sections))
    return join(Html("<!DOCTYPE html>\n"), tag("html", head, body, lang="en"), "\n")


def page(report: Report) -> str:
    """The whole document. The time of predictions is left out: it would differ from run to run."""
    title = f"{report.small} or {report.large}?"
    told = [("Date", report.date), ("Command", tag("code", report.command))]
    return document(
        title,
        _head(report, title),
        cost_and_quality(report.rows, report.evaluation.overall, report.sure),
        calibration(report.rows, report.small, report.large),
        by_source(report.evaluation, report.sources_sure, report.sure.apgr if report.sure else None),
        features(report.attribution, report.weights),
        misses(report.rows, report.prompts),
        provenance(told, report.lineage, report.digest, report.files),
    )


def _head(report: Report, title: str) -> Html:
    offered = sum(file.rows for file in report.files)
    eyebrow = f"Routing artefact on {report.evaluation.overall.n} prompts that both models answered, of {offered}"
    return tag(
        "header",
        tag("p", eyebrow, class_="eyebrow"),
        tag("h1", title),
        tag("p", kept(_in_words(report)), class_="lede"),
        *_warnings(report),
        cards(_headline(report)),
    )


def _in_words(report: Report) -> str:
    scores, small, large = report.evaluation.overall, report.small, report.large
    if scores.apgr is None:
        return (
            f"There is no gap that a router could recover here: fewer than {LEAST_ROWS} prompts, or {large} is on "
            f"average not better than {small}."
        )
    told = (
        f"Sending every prompt to {large} lifts mean quality from {shown(scores.small_mean)} to "
        f"{shown(scores.large_mean)}. The router recovers 80 % of that gap with {shown(scores.cpt80, '.1f')} % of the "
        f"prompts sent to large, 95 % with {shown(scores.cpt95, '.1f')} %; mixing at random would need 80 and 95 %."
    )
    sure = report.sure
    if sure is not None and sure.apgr.low <= 0.5:
        told += " On these prompts it cannot be told from mixing at random."
    return told


def _warnings(report: Report) -> list[Html]:
    fitted = {file.sha256 for file in report.lineage.files}
    own = [file.name for file in report.files if file.sha256 in fitted]
    found = []
    if own:
        found.append(
            warning(
                tag("strong", "Training data. "),
                f"The artefact was fitted on {', '.join(own)}: it knows the answers, and the figures flatter it. "
                "Evaluate on outcomes it has not seen.",
            )
        )
    if report.by_tier:
        names = " and ".join(report.by_tier)
        found.append(
            warning(
                tag("strong", "Unknown to the artefact. "),
                f"{names}: scored as a typical model of its tier, not from its own outcomes. `router train` on this "
                "model's outcomes will do better.",
            )
        )
    return found


def _headline(report: Report) -> list[tuple[str, str, str]]:
    scores, sure = report.evaluation.overall, report.sure
    if scores.apgr is None:
        means = ((report.small, scores.small_mean), (report.large, scores.large_mean))
        return [(f"Mean quality, {name}", shown(mean), "") for name, mean in means]
    best = tradeoff(report.rows).oracle_apgr
    span = f"95 %: {sure.apgr.low:.3f} to {sure.apgr.high:.3f}. " if sure else ""
    told = [("APGR", shown(scores.apgr), f"{span}Random 0.5, oracle {shown(best, '.2f')}")]
    for at, (level, cut) in enumerate(((50, scores.cpt50), (80, scores.cpt80), (95, scores.cpt95))):
        span = f"95 %: {sure.cpt[at].low:.0f} to {sure.cpt[at].high:.0f}. " if sure else ""
        figure = join(shown(cut, ".1f"), tag("small", " %"))
        told.append((f"CPT{level}: to large for {level} % of the gap", figure, f"{span}Random {level}"))
    spent = cost_at(report.rows, scores.cpt80)
    if spent is not None:
        figure = join(f"{spent[1] * 100:.0f}", tag("small", " %"))
        told.append(("Saved at 80 % of the gap", figure, f"USD {spent[0]:.3g} per 1,000 prompts, against always large"))
    told.append(("AUC", shown(scores.auc), "Is “small is worse than large” foreseen? Random 0.5"))
    told += [("ECE", shown(value), f"How far P(adequate) of {model} is off") for model, value in scores.ece.items()]
    return told
