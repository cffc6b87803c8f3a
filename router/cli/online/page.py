"""The pages of both forms: what an operator looks at before letting a router learn."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from router.cli.online.course import course, held_against, over_time
from router.cli.report.bars import whisker
from router.cli.report.lineage import provenance
from router.cli.report.markup import Html, breakable, cards, fold, join, kept, shown, table, tag, warning
from router.cli.report.page import document
from router.complexity.artefact import File, Lineage
from router.complexity.evaluate import Scores
from router.sim.online.frozen import Compared, Pair
from router.sim.online.gains import Gains, gains
from router.sim.online.happenings import Happening
from router.sim.online.references import Interval
from router.sim.online.stream import Streamed

_MOST_OVER = 1.01
"""Mean cost over budget that still keeps it."""
_NAMES = (("before", "before"), ("after", "after"), ("full_feedback", "full feedback"))
_DRAWN = (0.0, 1.0)
_RANDOM = 0.5


class Origin(Struct, frozen=True):
    """Where a page comes from: when, how, on which files, and from which artefact."""

    date: str
    command: str
    files: tuple[File, ...]
    lineage: Lineage
    digest: str


def stream_page(
    result: Streamed, models: Sequence[str], budget_usd: float, happenings: Sequence[Happening], origin: Origin
) -> str:
    """The learning router under a budget."""
    title = f"Learning on a budget of USD {budget_usd:g} a request"
    lead = result.against.lead
    verdict = (
        "more than" if lead.low > 0.0 else "less than" if lead.high < 0.0 else "no more, as far as can be told, than"
    )
    lede = (
        f"At {shown(result.budget_ratio, '.1%')} of the budget the router earned a mean quality of "
        f"{shown(result.quality.mean, '.4f')}: {verdict} the {shown(result.against.mixture.mean, '.4f')} of models "
        "mixed at random for the same money."
    )
    over = [
        warning(
            tag("strong", "Budget broken. "),
            f"Mean cost is {shown(result.budget_ratio, '.1%')} of the budget; up to 101 % keeps it.",
        )
    ]
    header = tag(
        "header",
        tag("p", f"Learning router on {result.rows} prompts in {result.seeds} orders", class_="eyebrow"),
        tag("h1", title),
        tag("p", kept(lede), class_="lede"),
        *_seen(origin),
        *(over if result.budget_ratio > _MOST_OVER else []),
        cards(_headline(result, budget_usd)),
    )
    return document(
        title,
        header,
        held_against(result, budget_usd),
        course(result, models, happenings),
        over_time(result, budget_usd, happenings),
        _came_from(origin),
    )


def _headline(result: Streamed, budget_usd: float) -> list[tuple[str, str, str]]:
    quality, cost, lead = result.quality, result.cost_usd, result.against.lead
    return [
        ("Mean quality", shown(quality.mean, ".4f"), _span(quality, ".4f")),
        ("USD a request", shown(cost.mean, ".3g"), _span(cost, ".3g")),
        ("Cost over budget", shown(result.budget_ratio, ".3f"), f"Budget USD {budget_usd:g}; 1.01 keeps it"),
        ("Above the mixture at its cost", shown(lead.mean, "+.4f"), _span(lead, "+.4f")),
    ]


def _span(interval: Interval, form: str) -> str:
    return f"95 %: {shown(interval.low, form)} to {shown(interval.high, form)}"


def feedback_page(result: Compared, pair: Pair, origin: Origin) -> str:
    """A bounded number of feedbacks on two models."""
    told = gains(result.apgr_by_seed)
    title = f"What {pair.feedbacks} feedbacks are worth"
    between = tag("p", breakable(pair.small), " or ", breakable(pair.large), class_="eyebrow")
    header = tag("header", between, tag("h1", title), tag("p", kept(_worth(pair, told)), class_="lede"))
    figures = [] if told is None else [cards(_gained(told))]
    return document(
        title,
        tag("div", header, *_seen(origin), *figures),
        _by_feedback(result, told),
        _sources(result),
        _came_from(origin),
    )


def _worth(pair: Pair, told: Gains | None) -> str:
    if told is None:
        return f"There is no gap that a router could recover here: {pair.large} is on average not better."
    text = (
        f"The first {pair.feedbacks} prompts of each order went to large with a chance of "
        f"{shown(pair.large_share, '.0%')}, and only the chosen model's quality was seen. On the prompts after them "
        f"APGR went from {shown(told.before.mean)} to {shown(told.after.mean)}; with both outcomes of the same prompts "
        f"it would be {shown(told.full.mean)}."
    )
    return text if told.full_gained.low > 0.0 else f"{text} Full feedback itself gains nothing that can be told from 0."


def _gained(told: Gains) -> list[tuple[str, str, str]]:
    found = [
        ("APGR before", shown(told.before.mean), _span(told.before, ".3f")),
        ("Gained by feedback", shown(told.gained.mean, "+.3f"), _span(told.gained, "+.3f")),
        ("Gained by full feedback", shown(told.full_gained.mean, "+.3f"), _span(told.full_gained, "+.3f")),
    ]
    if told.ratio is not None:
        span = f"95 %: {told.ratio.low * 100:.0f} to {told.ratio.high * 100:.0f} %"
        figure = join(f"{told.ratio.mean * 100:.0f}", tag("small", " %"))
        found.append(("Of the gain of full feedback", figure, span))
    return found


def _by_feedback(result: Compared, told: Gains | None) -> Html:
    heads = ("", "prompts", "APGR", "95 %", "worse | better than random", "CPT50", "CPT80", "CPT95", "AUC", "ECE")
    spans = (None, None, None) if told is None else (told.before, told.after, told.full)
    rows = []
    for (name, said), span in zip(_NAMES, spans, strict=True):
        scores: Scores = getattr(result, name).overall
        drawn = "" if span is None else whisker(span.mean, span.low, span.high, _DRAWN, _RANDOM)
        ends = "–" if span is None else f"{span.low:.3f} to {span.high:.3f}"
        cuts = [shown(cut, ".1f") for cut in (scores.cpt50, scores.cpt80, scores.cpt95)]
        worst = max((value for value in scores.ece.values() if value is not None), default=None)
        rows.append([said, str(scores.n), shown(scores.apgr), ends, drawn, *cuts, shown(scores.auc), shown(worst)])
    return tag(
        "section",
        tag("h2", "Before and after"),
        tag("p", "Means over the orders; intervals by bootstrap over them. ECE is that of the worse model."),
        table("Scored on the prompts that were not learned from", heads, rows),
    )


def _sources(result: Compared) -> Html:
    rows = []
    for source, scores in sorted(result.before.by_source.items(), key=lambda item: (-item[1].n, item[0])):
        found = [getattr(result, name).by_source.get(source) for name, _ in _NAMES]
        apgr = [None if one is None else one.apgr for one in found]
        if None not in apgr:
            rows.append([breakable(source), str(scores.n), *(shown(one) for one in apgr)])
    heads = ("source", "prompts", *(said for _, said in _NAMES))
    inside = table("APGR by source", heads, rows) if rows else tag("p", "No source has enough prompts of its own.")
    return tag("section", tag("h2", "By source"), fold(f"APGR of {len(rows)} sources", inside))


def _seen(origin: Origin) -> list[Html]:
    fitted = {file.sha256 for file in origin.lineage.files}
    own = [file.name for file in origin.files if file.sha256 in fitted]
    if not own:
        return []
    said = f"The prior was fitted on {', '.join(own)}: it begins by knowing the answers, and the figures flatter it."
    return [warning(tag("strong", "Training data. "), said)]


def _came_from(origin: Origin) -> Html:
    told = [("Date", origin.date), ("Command", tag("code", origin.command))]
    return provenance(told, origin.lineage, origin.digest, origin.files)
