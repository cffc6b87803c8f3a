"""What a terminal shows of both forms."""

from __future__ import annotations

from rich.table import Table

from router.sim.online.frozen import Compared
from router.sim.online.gains import gains
from router.sim.online.references import Interval
from router.sim.online.stream import Streamed

_PER = 1000.0
"""Requests that a cost is told for."""


def stream_tables(result: Streamed, budget_usd: float) -> tuple[Table, Table]:
    """The router beside what it is held against, then which models it chose."""
    against = result.against
    told = Table(title="95 % intervals over orders and prompts", title_justify="left")
    told.add_column("", overflow="fold")
    for name in ("quality", "95 %", "USD / 1,000", "95 %"):
        told.add_column(name, justify="right", no_wrap=True)
    told.add_row("learning router", *_both(result.quality, result.cost_usd), style="bold")
    told.add_row("mixture at that cost", f"{against.mixture.mean:.4f}", span(against.mixture, ".4f"), "", "")
    told.add_row("router - mixture", f"{against.lead.mean:+.4f}", span(against.lead, "+.4f"), "", "")
    told.add_section()
    for one in against.alone:
        told.add_row(f"always {one.model.rsplit('/', 1)[-1]}", *_both(one.quality, one.cost_usd))
    held = "kept" if result.budget_ratio <= 1.01 else "BROKEN"
    told.caption = f"cost / budget {result.budget_ratio:.3f} of USD {budget_usd:g} a request: {held}"
    shares = Table("chosen", "share", caption=f"{result.rows} prompts in {result.seeds} orders")
    for model, share in result.shares.items():
        shares.add_row(model, f"{share:.1%}")
    return told, shares


def _both(quality: Interval, cost: Interval) -> tuple[str, str, str, str]:
    return f"{quality.mean:.4f}", span(quality, ".4f"), f"{cost.mean * _PER:.3g}", span(cost, ".3g", _PER)


def span(interval: Interval, form: str, per: float = 1.0) -> str:
    """Both ends of an interval."""
    return f"{interval.low * per:{form}} .. {interval.high * per:{form}}"


def compared_table(result: Compared) -> Table:
    """Before, after, and with full feedback."""
    told = gains(result.apgr_by_seed)
    table = Table("", "APGR", "95 %", "AUC", "CPT50", "CPT80")
    spans = (None, None, None) if told is None else (told.before, told.after, told.full)
    for name, interval in zip(("before", "after", "full_feedback"), spans, strict=True):
        scores = getattr(result, name).overall
        shown = [(scores.auc, ".3f"), (scores.cpt50, ".1f"), (scores.cpt80, ".1f")]
        table.add_row(
            name.replace("_", " "),
            "-" if scores.apgr is None else f"{scores.apgr:.3f}",
            "-" if interval is None else span(interval, ".3f"),
            *("-" if value is None else f"{value:{form}}" for value, form in shown),
        )
    table.caption = "no gap between the two models"
    if told is not None:
        ratio = "" if told.ratio is None else f", {told.ratio.mean:.0%} of it ({span(told.ratio, '.0%')})"
        table.caption = (
            f"full feedback gained {told.full_gained.mean:+.3f} ({span(told.full_gained, '+.3f')}); feedback of the "
            f"chosen model gained {told.gained.mean:+.3f} ({span(told.gained, '+.3f')}){ratio}; {told.seeds} orders"
        )
    return table
