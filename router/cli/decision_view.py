"""A logged decision for people: one row of a table, or the whole of it explained."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.domain.decision import Candidate, Decision
from router.storage.decision_records import Logged, OutcomeRecord


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
        _time(decision.at),
        decision.id,
        decision.request_class,
        decision.chosen,
        decision.binding,
        f"{decision.complexity:.2f}",
        f"{decision.propensity:.2f}",
        "" if outcome is None else f"{outcome.cost_usd:.6f}",
        "" if outcome is None else _seconds(outcome.ttft_s),
        "" if outcome is None else _seconds(outcome.e2e_s),
        _kept(outcome),
        ", ".join(f"{told.quality:g}" for told in logged.feedback),
    )


def explanation(logged: Logged) -> RenderableType:
    """All that is known of one decision: candidates and terms, who fell out and why, and what came of it."""
    decision = logged.decision
    parts: list[RenderableType] = [_heading(decision), _candidates(decision)]
    if decision.excluded:
        parts.append(_excluded(decision))
    parts += [_figures("prices", _prices(decision)), _figures("features", dict(decision.features))]
    parts.append(_outcome(logged))
    return Group(*parts)


def _heading(decision: Decision) -> Text:
    lines = (
        f"decision {decision.id}",
        f"  at {_time(decision.at, date=True)}, in {decision.decide_s * 1e6:.0f} us, under policy"
        f" {decision.policy} by the {decision.picker} picker",
        f"  request {decision.request_id} of class {decision.request_class}, tenant {decision.tenant},"
        f" {decision.input_tokens} input tokens, complexity {decision.complexity:.3f}",
        f"  chose {decision.chosen} (propensity {decision.propensity:.3f}), decided by: {decision.binding}",
    )
    return Text("\n".join(lines) + "\n")


def _candidates(decision: Decision) -> Table:
    columns = ("candidate", "score", "p", "P(SLO)", "P(adequate)", "ttft", "tpot", "e2e", "tokens", "$")
    table = Table(*columns, "useful", "floor", "-cost", "-capacity", box=None, pad_edge=False)
    for candidate in sorted(decision.candidates, key=lambda c: -c.score):
        table.add_row(*map(Text, _candidate(candidate, chosen=candidate.deployment == decision.chosen)))
    return table


def _candidate(candidate: Candidate, *, chosen: bool) -> tuple[str, ...]:
    terms = candidate.terms
    return (
        ("* " if chosen else "  ") + candidate.deployment,
        f"{candidate.score:.4f}",
        f"{candidate.propensity:.3f}",
        f"{terms.p_slo:.3f}",
        f"{terms.p_adequate:.3f}",
        _seconds(terms.ttft_s),
        _seconds(terms.tpot_s),
        _seconds(terms.e2e_s),
        f"{terms.output_tokens:.0f}",
        f"{terms.cost_usd:.6f}",
        f"{terms.useful:.4f}",
        f"{terms.floor:.4f}",
        f"{terms.cost:.4f}",
        f"{terms.capacity:.4f}",
    )


def _excluded(decision: Decision) -> Table:
    table = Table("fell out", "because", "", box=None, pad_edge=False)
    for exclusion in decision.excluded:
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
    if outcome is None:
        lines.append("  no outcome yet, or the process ended before it")
    else:
        code = f" ({outcome.code})" if outcome.code else ""
        promises = ", ".join(f"{name} {'kept' if met else 'missed'}" for name, met in outcome.met)
        lines += [
            f"  {outcome.status}{code} by {outcome.deployment} ({outcome.model}), {outcome.attempts} calls",
            f"  ttft {_seconds(outcome.ttft_s)}, tpot {_seconds(outcome.tpot_s)},"
            f" e2e {_seconds(outcome.e2e_s)}, queue {_seconds(outcome.queue_s)},"
            f" router {_seconds(outcome.overhead_s)}",
            f"  {outcome.input_tokens} in, {outcome.output_tokens} out, ${outcome.cost_usd:.6f}"
            f" (always large: ${outcome.baseline_cost_usd:.6f})",
            f"  promises: {promises or 'none'}",
        ]
    lines += [f"  feedback {told.quality:g} at {_time(told.at, date=True)}" for told in logged.feedback]
    return Text("\n".join(("\noutcome:", *lines)))


def _kept(outcome: OutcomeRecord | None) -> str:
    if outcome is None:
        return "running"
    if outcome.code:
        return outcome.code
    return "yes" if outcome.slo_met else "no: " + ", ".join(name for name, met in outcome.met if not met)


def _time(at: float, *, date: bool = False) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ" if date else "%H:%M:%S")


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"
