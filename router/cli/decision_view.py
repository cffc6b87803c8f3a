"""A logged decision for people: one row of a table, or the whole of it explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from os import environ
from types import MappingProxyType

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.domain.decision import Candidate, Decision, Exclusion
from router.domain.reasons import Quantiles, because, latencies
from router.storage.decision_records import CheckRecord, JudgedRecord, Logged, OutcomeRecord

_PIPED = 200
_NOTHING: Mapping[str, float] = MappingProxyType({})


def wide_console() -> Console:
    """As wide as the terminal, or as COLUMNS says; in a pipe or a file wide enough that no name and no id is cut."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in environ else Console(width=_PIPED)


def summary_columns() -> tuple[str, ...]:
    """Headings of the table."""
    return (
        "time",
        "id",
        "class",
        "deployment",
        "because",
        "hard",
        "p",
        "$",
        "ttft",
        "e2e",
        "kept",
        "quality",
    )


def summary_row(logged: Logged) -> tuple[str, ...]:
    """One decision as cells under `summary_columns`."""
    decision, outcome = logged.decision, logged.outcome
    return (
        utc(decision.at, date=False),
        decision.id,
        decision.request_class,
        decision.chosen,
        decision.binding,
        f"{decision.complexity:.2f}",
        f"{decision.propensity:.2f}",
        "" if outcome is None else f"{outcome.cost_usd:.6f}",
        "" if outcome is None else seconds(outcome.ttft_s),
        "" if outcome is None else seconds(outcome.e2e_s),
        _kept(outcome),
        ", ".join(f"{told.quality:g}" for told in logged.feedback),
    )


def explanation(logged: Logged, *, ended: bool = True) -> RenderableType:
    """All that is known of one decision: candidates and terms, who fell out and why, and what came of it; without
    `ended` only where that stands."""
    outcome = _outcome(logged) if ended else Text(f"\noutcome: in the log, router decisions {logged.decision.id}")
    return Group(_heading(logged.decision), evidence_tables(logged.decision), outcome)


def evidence_tables(decision: Decision, lows: Mapping[str, float] = _NOTHING, *, shed: bool = False) -> RenderableType:
    """Candidates, predictions, who fell out, prices and features. `lows` are lower bounds of P(adequate) by
    deployment, where they are known; of a request that is `shed` no candidate is the chosen one."""
    chosen = "" if shed else decision.chosen
    ranked = sorted(decision.candidates, key=lambda c: -c.score)
    parts: list[RenderableType] = [_scores(ranked, chosen, lows), Text(), _predictions(ranked, chosen)]
    if decision.excluded:
        parts += [Text(), excluded_table(decision.excluded)]
    parts += [_figures("prices", _prices(decision)), _figures("features", dict(decision.features))]
    return Group(*parts)


def _heading(decision: Decision) -> Text:
    model = f", asked for {decision.model}" if decision.model else ""
    topic = f", topic {decision.topic}" if decision.topic else ""
    use_case = f" ({decision.use_case})" if decision.use_case else ""
    arm = f", side {decision.arm}" if decision.arm else ""
    part = f", part of {decision.parent}" if decision.parent else ""
    lines = (
        f"decision {decision.id}",
        f"  at {utc(decision.at)}, in {decision.decide_s * 1e6:.0f} us, under policy"
        f" {decision.policy} by the {decision.picker} picker{arm}",
        f"  request {decision.request_id} of class {decision.request_class}{use_case}, tenant {decision.tenant}{topic}"
        f"{model}{part}, {decision.input_tokens} input tokens, complexity {decision.complexity:.3f}",
        f"  chose {decision.chosen} (propensity {decision.propensity:.3f}), decided by: {decision.binding}",
        f"  because {because(decision)}",
    )
    return Text("\n".join(lines) + "\n")


def _scores(ranked: Sequence[Candidate], chosen: str, lows: Mapping[str, float]) -> Table:
    checks = any(one.terms.cascade for one in ranked)
    terms_of = ("useful", "floor", "-cost", "-capacity", *(("check",) if checks else ()))
    columns = ("candidate", "score", *terms_of, "p", "P(SLO)", "P(adequate)")
    table = Table(*columns, *(("at least",) if lows else ()), box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for one in ranked:
        terms = one.terms
        figures: tuple[float, ...] = (one.score, terms.useful, terms.floor, terms.cost, terms.capacity)
        figures += (terms.cascade,) if checks else ()
        shares = (one.propensity, terms.p_slo, terms.p_adequate)
        low = (f"{lows[one.deployment]:.3f}",) if lows else ()
        table.add_row(_name(one, chosen), *(f"{x:.4f}" for x in figures), *(f"{x:.3f}" for x in shares), *low)
    return table


def _predictions(ranked: Sequence[Candidate], chosen: str) -> Table:
    """Quantiles from sending, or what was expected where the log has no spread."""
    caches = any(one.terms.cached_tokens for one in ranked)
    columns = ("p50/p90/p99", "ttft", "tpot", "e2e", "tokens", "$", *(("cached",) if caches else ()))
    table = Table(*columns, box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for one in ranked:
        terms, known = one.terms, latencies(one)
        if known is None:
            cells = [seconds(x) for x in (terms.ttft_s, terms.tpot_s, terms.e2e_s)]
        else:
            cells = [_quantiles(x) for x in (known.ttft_s, known.tpot_s, known.e2e_s)]
        cells += [f"{terms.output_tokens:.0f}", f"{terms.cost_usd:.6f}"]
        table.add_row(_name(one, chosen), *cells, *((f"{terms.cached_tokens:.0f}",) if caches else ()))
    return table


def _name(candidate: Candidate, chosen: str) -> Text:
    return Text(("* " if candidate.deployment == chosen else "  ") + candidate.deployment)


def _quantiles(value: Quantiles) -> str:
    """Three figures in the unit that suits the last."""
    scale, unit = (1e3, "ms") if value.p99 < 1.0 else (1.0, "s")
    return "/".join(f"{x * scale:.3g}" for x in (value.p50, value.p90, value.p99)) + f" {unit}"


def excluded_table(excluded: Sequence[Exclusion]) -> Table:
    """Who fell out, and why."""
    table = Table("fell out", "because", "", box=None, pad_edge=False)
    for exclusion in excluded:
        table.add_row(*map(Text, ("  " + exclusion.deployment, exclusion.code, exclusion.detail)))
    return table


def _prices(decision: Decision) -> dict[str, float]:
    prices = decision.prices
    capacity = {f"capacity of {name}": price for name, price in prices.capacity.items()}
    return {"floor": prices.floor, "usd": prices.usd, **capacity}


def _figures(title: str, figures: dict[str, float]) -> Text:
    return Text(f"\n{title}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))


def _outcome(logged: Logged) -> Text:
    lines = [
        f"  call {a.number} to {a.deployment} {a.ending}" + (f" ({a.code})" if a.code else "") for a in logged.attempts
    ]
    outcome = logged.outcome
    if logged.check is not None:
        lines.append(_said_of(logged.check))
    if outcome is None and (logged.check is None or not logged.check.escalated):
        lines.append("  no outcome yet, or the process ended before it")
    elif outcome is not None:
        code = f" ({outcome.code})" if outcome.code else ""
        promises = ", ".join(f"{name} {'kept' if met else 'missed'}" for name, met in outcome.met)
        priced = f", priced by {outcome.cost_source}" if outcome.cost_source else ""
        lines += [
            f"  {outcome.status}{code} by {outcome.deployment} ({outcome.model}), {outcome.attempts} calls",
            f"  ttft {seconds(outcome.ttft_s)}, tpot {seconds(outcome.tpot_s)},"
            f" e2e {seconds(outcome.e2e_s)}, queue {seconds(outcome.queue_s)},"
            f" router {seconds(outcome.overhead_s)}",
            f"  {outcome.input_tokens} in, {outcome.output_tokens} out, ${outcome.cost_usd:.6f}"
            f" (always large: ${outcome.baseline_cost_usd:.6f}){priced}",
            f"  promises: {promises or 'none'}",
        ]
    lines += [f"  feedback {told.quality:g} by the {told.source} at {utc(told.at)}" for told in logged.feedback]
    if logged.judged is not None:
        lines.append(_judged(logged.judged))
    return Text("\n".join(("\noutcome:", *lines)))


def _judged(judged: JudgedRecord) -> str:
    """What became of being drawn to be judged."""
    quality = "" if judged.quality is None else f" ({judged.quality:g})"
    drawn = f"drawn with probability {judged.propensity:g}, ${judged.cost_usd:.6f}"
    return f"  judged by {judged.judge}: {judged.verdict}{quality}, {drawn}"


def _said_of(check: CheckRecord) -> str:
    """What the checks said of the answer, and what was done."""
    grades = ", ".join(f"{name} {grade}" for name, grade in check.grades)
    done = "made again by the next decision for the request" if check.escalated else "sent"
    return (
        f"  answer of {check.deployment} checked: {grades}; P(adequate) {check.p_adequate_before:.3f} ->"
        f" {check.p_adequate_after:.3f}; {done}"
    )


def _kept(outcome: OutcomeRecord | None) -> str:
    if outcome is None:
        return "running"
    if outcome.code:
        return outcome.code
    return "yes" if outcome.slo_met else "no: " + ", ".join(name for name, met in outcome.met if not met)


def utc(at: float, *, date: bool = True) -> str:
    """Wall time, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ" if date else "%H:%M:%S")


def seconds(value: float | None) -> str:
    """A time in the unit that suits it."""
    if value is None:
        return "-"
    return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"
