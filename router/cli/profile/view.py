"""What a terminal shows of a load test."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from router.cli.profile.rows import NO_TOKENIZER, SECTIONS, written
from router.cli.profile.told import Spent, Told
from router.cli.profile.written import policy_lines
from router.domain.deployment import Kind


def profile_view(told: Told) -> Group:
    """The metrics level by level, what came of them, and what it cost."""
    parts: list[Table | Text] = []
    if told.levels:
        parts += [_table(told), Text(NO_TOKENIZER, style="dim")]
    parts += [Text(f"{code}: {problem}", style="red") for code, problem in told.problems.items()]
    parts += [Text(note, style="yellow") for note in told.notes]
    if (best := knee_said(told)) is not None:
        parts.append(Text(best))
    lines = policy_lines(told)
    if lines is not None:
        parts += [Text("For the policy, in place of what its deployment says:"), Text(lines, style="bold")]
    else:
        parts.append(Text("Too few answers to tell what a step costs."))
    parts.append(Text(spent_said(told.spent)))
    return Group(*parts)


def _table(told: Told) -> Table:
    named = "batch of" if told.deployment.kind is Kind.BATCH else "concurrency"
    table = Table(box=None, header_style="bold", title=f"{told.deployment.name} under load", title_justify="left")
    table.add_column(named)
    for one in told.levels:
        table.add_column(str(one.concurrency), justify="right")
    for section, metrics in SECTIONS:
        table.add_row(f"[bold]{section}[/bold]")
        for metric in metrics:
            table.add_row(f"  {metric.name}", *(written(metric, one) for one in told.levels))
    codes = {code for one in told.levels for code in one.errors}
    for code in sorted(codes):
        table.add_row(f"  error {code}", *(str(one.errors.get(code, "")) for one in told.levels))
    return table


def knee_said(told: Told) -> str | None:
    """Where more users begin to wait rather than to be served; `None` without answers or with one level."""
    if told.knee is None or len(told.levels) < 2:
        return None
    best = next(one for one in told.levels if one.concurrency == told.knee.concurrency)
    rate = f"{best.output_tokens_per_sec:,.0f} output tokens a second"
    if told.knee.is_reached:
        return (
            f"The knee is at concurrency {best.concurrency}, with {rate}: beyond it latency grows faster than output."
        )
    return f"No knee up to concurrency {best.concurrency}, with {rate}: more users would still be served."


def spent_said(spent: Spent) -> str:
    """Dollars, and how many there might have been."""
    most = "" if spent.most_usd is None else f" of at most {spent.most_usd:g}"
    cut = f"; calls that were cut off can have cost {spent.cut_off_usd:.4g} more" if spent.cut_off_usd else ""
    return f"Spent USD {spent.usd:.4g}{most}, warm-up calls included{cut}."
