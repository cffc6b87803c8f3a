"""The page of a load test: curves, the metrics, what a step costs, and on what it rests."""

from __future__ import annotations

from router.cli.profile.charts import first_tokens, gaps, latency, price, throughput
from router.cli.profile.rows import LATENCY, NO_TOKENIZER, PRICE, THROUGHPUT, Metric, written
from router.cli.profile.told import Told
from router.cli.profile.view import knee_said, spent_said
from router.cli.profile.written import policy_lines
from router.cli.report.markup import Html, cards, facts, join, kept, shown, table, tag, warning
from router.cli.report.page import document
from router.domain.deployment import Kind, StepProfile
from router.learning.profiling.figures import Figures, Spread


def profile_page(told: Told) -> str:
    """The whole document."""
    title = f"{told.deployment.name} under load"
    sections = [_latency(told), _throughput(told), _price(told), _step(told)] if told.levels else []
    return document(title, _head(told, title), *sections, _errors(told), _origin(told))


def _head(told: Told, title: str) -> Html:
    calls = sum(one.client_invocations for one in told.levels)
    return tag(
        "header",
        tag("p", f"{calls:,} calls to {told.deployment.model} on {told.deployment.address.backend}", class_="eyebrow"),
        tag("h1", title),
        tag("p", kept(_in_words(told)), class_="lede"),
        *(warning(_percents(note)) for note in told.notes),
        *([cards(_headline(told))] if told.levels else []),
    )


def _percents(text: str) -> str:
    return kept(text.replace("%", " %").replace("  %", " %"))


def _in_words(told: Told) -> str:
    if not told.answers:
        return "No call went well: what went wrong stands below."
    return knee_said(told) or f"One level, of concurrency {told.levels[0].concurrency}, was measured."


def _headline(told: Told) -> list[tuple[str, str, str]]:
    alone = told.levels[0]
    best = next((one for one in told.levels if told.knee and one.concurrency == told.knee.concurrency), alone)
    beside = f"p50 at concurrency {alone.concurrency}"
    found = [
        ("Time to first token", _ms(_p50(alone.time_to_first_token_ms)), beside),
        ("Inter-token latency", _ms(_p50(alone.inter_token_latency_ms)), beside),
        ("Output tokens a second", shown(best.output_tokens_per_sec, ",.0f"), f"at concurrency {best.concurrency}"),
    ]
    usd = best.price_per_million_output_tokens
    found.append(("USD per million output tokens", shown(usd, ",.4g"), f"at concurrency {best.concurrency}"))
    return found


def _p50(spread: Spread | None) -> float | None:
    return None if spread is None else spread.p50


def _ms(figure: float | None) -> Html:
    return join("–") if figure is None else join(f"{figure:,.1f}", tag("small", " ms"))


def _metrics(told: Told, caption: str, metrics: tuple[Metric, ...]) -> Html:
    heads = ("", *(str(one.concurrency) for one in told.levels))
    rows = [[metric.name, *(written(metric, one) for one in told.levels)] for metric in metrics]
    return table(caption, heads, rows)


def _has_curves(told: Told) -> bool:
    """One level makes a point, not a curve."""
    return len(told.levels) > 1


def _pair(*curves: Html | None) -> Html:
    return tag("div", *(curve for curve in curves if curve is not None), class_="pair")


def _latency(told: Told) -> Html:
    said = (
        "Of calls that went well. A quantile stands here only where enough calls were made to see beyond it: p90 from "
        "ten on, p99 from a hundred. Inter-token latency is the mean gap of each call."
    )
    return tag(
        "section",
        tag("h2", "Latency"),
        tag("p", said),
        *([latency(told), _pair(first_tokens(told), gaps(told))] if _has_curves(told) else []),
        _metrics(told, f"Latency metrics by {_level(told)}", LATENCY),
        tag("p", NO_TOKENIZER, class_="note"),
    )


def _level(told: Told) -> str:
    return "size of batch" if told.deployment.kind is Kind.BATCH else "concurrency"


def _throughput(told: Told) -> Html:
    said = (
        "Past the knee, throughput over latency falls: what more users gain in tokens they lose twice in waiting. "
        "Tokens are the means of a request."
    )
    return tag(
        "section",
        tag("h2", "Throughput"),
        tag("p", said),
        *([_pair(*throughput(told))] if _has_curves(told) else []),
        _metrics(told, f"Throughput metrics by {_level(told)}", THROUGHPUT),
    )


def _price(told: Told) -> Html:
    hourly = told.deployment.price.hourly_usd
    said = "What was paid for these calls over the tokens of each kind; errors that were paid make it dearer."
    if hourly:
        said += (
            f" The deployment costs USD {hourly:g} an hour whether it is used or not: that money, for as long as the "
            "level took, is laid on the tokens of either kind in full."
        )
    curve = price(told) if _has_curves(told) else None
    return tag(
        "section",
        tag("h2", "Price"),
        tag("p", said),
        *([curve] if curve is not None else []),
        _metrics(told, f"Price metrics by {_level(told)}, USD", PRICE),
    )


def _step(told: Told) -> Html:
    lines = policy_lines(told)
    if lines is None:
        return tag("section", tag("h2", "For the policy"), tag("p", "Too few answers to tell what a step costs."))
    said = (
        "Put these lines into the deployment of the policy, and the router knows from the first request on how long it "
        "takes; from there it learns on by itself."
    )
    parts = [tag("h2", "For the policy"), tag("p", said), tag("p", tag("code", lines))]
    if told.batch is None and told.step is not None:
        parts.append(_fit(told, told.step.step))
    return tag("section", *parts)


def _fit(told: Told, now: StepProfile) -> Html:
    """What was measured beside what the router would have gone by without it."""
    before = told.deployment.step
    names = (
        ("a step with nothing in it", "base_s"),
        ("each sequence in it", "per_sequence_s"),
        ("each token of context", "per_context_token_s"),
        ("each prompt token taken in", "per_prefill_token_s"),
        ("before each first token, in no step", "first_s"),
    )
    rows = [
        [said, shown(getattr(now, name) * 1e3, ".4g"), "–" if before is None else f"{getattr(before, name) * 1e3:.4g}"]
        for said, name in names
    ]
    source = "" if before is None else f"The policy goes by: {before.source}."
    caption = "What a step of the server costs, in milliseconds"
    return join(table(caption, ("", "measured", "in the policy now"), rows), tag("p", source, class_="note"))


def _errors(told: Told) -> Html:
    if not told.problems:
        return join()
    rows = [[code, *(_count(one, code) for one in told.levels), problem] for code, problem in told.problems.items()]
    heads = ("code", *(f"at {one.concurrency}" for one in told.levels), "the last said")
    return tag("section", tag("h2", "Errors"), table("Errors of counted calls, by code", heads, rows))


def _count(one: Figures, code: str) -> str:
    return str(one.errors.get(code, 0))


def _origin(told: Told) -> Html:
    deployment, price = told.deployment, told.deployment.price
    found = [
        ("Date", told.asking.date),
        ("Command", tag("code", told.asking.command)),
        ("Deployment", f"{deployment.name}: {deployment.model} ({deployment.kind}, lane {deployment.lane})"),
        ("Prompts", told.asking.prompts),
        ("Prices", f"USD {price.input_usd_per_mtok:g} and {price.output_usd_per_mtok:g} per million in and out"),
        ("Prices from", price.source),
        ("Money", spent_said(told.spent)),
    ]
    said = (
        "Names are those of SageMaker's evaluation of optimised models. A user asks again when the last answer has "
        "ended, so the load follows the deployment: it says what so many users see, not what a fixed rate would do."
    )
    return tag("section", tag("h2", "What this rests on"), tag("p", said), facts(found))
