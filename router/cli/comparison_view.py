"""Two policies side by side, for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.sim.beside.compare import Comparison, Difference, Interval
from router.sim.beside.compare import Group as Figures
from router.sim.replay import ClassReplay, Means, Replay

_ROUTES = 8
_CHANGES = 12
_MS = frozenset({"ttft_p95_s", "tpot_p95_s"})
_NAMES = {
    "slo_met": "SLO met",
    "adequate_of_served": "adequate of served",
    "cost_per_1k_usd": "USD per 1k",
    "ttft_p95_s": "TTFT p95 ms",
    "tpot_p95_s": "TPOT p95 ms",
}


def comparison_table(compared: Comparison, changes: Sequence[str], *, old: str, new: str) -> RenderableType:
    """What the new policy changes, and what that did: over all requests, then for each class that it touched or that
    came out otherwise."""
    groups, alike = [("all", compared.overall)], []
    for name, group in compared.by_class.items() if len(compared.by_class) > 1 else ():
        touched = any(line.startswith(f"class {name}:") for line in changes)
        if touched or any(figure.clear for figure in group.figures.values()):
            groups.append((name, group))
        else:
            alike.append(name)
    seeded = any(_is_wide(figure) for _, group in groups for figure in group.figures.values())
    parts: list[RenderableType] = [Text(f"old: {old}\nnew: {new}\n"), _changes(changes)]
    for name, group in groups:
        before, after = group.offered
        offered = f"{before}" if before == after else f"{before} -> {after}"
        parts += [Text(f"{name}: {offered} requests", style="bold"), _figures(group, seeded), Text()]
    if alike:
        parts.append(Text(f"no clear difference in any figure of: {', '.join(alike)}\n"))
    return Group(*parts, Text(_note(compared, seeded)))


def _is_wide(figure: Difference) -> bool:
    return figure.over_seeds is not None and figure.over_seeds[0] < figure.over_seeds[1]


def _note(compared: Comparison, seeded: bool) -> str:
    blocks = compared.blocks
    seeds = "one seed was run, --seeds 3 would show what chance does"
    if seeded:
        seeds = f"over seeds: paired t of {compared.seeds}"
    elif compared.seeds > 1:
        seeds = f"the {compared.seeds} seeds came out alike, as nothing was left to chance"
    return (
        f"Intervals of 95 % of the difference; over time: {blocks.resamples} resamples of moving blocks of"
        f" {blocks.block_s:.3g} s;\n{seeds}. SLO met and useful are each by its own policy's promises."
    )


def _figures(group: Figures, seeded: bool) -> Table:
    columns = ("", "old", "new", "difference", "over time", *(("over seeds",) if seeded else ()), "")
    table = Table(*columns, box=None, pad_edge=False)
    for metric, figure in group.figures.items():
        if figure.old is not None or figure.new is not None:
            table.add_row(*map(Text, _row(metric, figure, seeded)))
    return table


def _changes(changes: Sequence[str]) -> Text:
    if not changes:
        return Text("The two mean the same.\n")
    shown = [f"  {line}" for line in changes[:_CHANGES]]
    if len(changes) > _CHANGES:
        shown.append(f"  and {len(changes) - _CHANGES} more: see `router policy diff`")
    return Text("\n".join(("changes:", *shown, "")))


def _row(metric: str, figure: Difference, seeded: bool) -> tuple[str, ...]:
    scale = 1e3 if metric in _MS else 1.0
    return (
        _NAMES.get(metric, metric),
        _number(figure.old, scale),
        _number(figure.new, scale),
        "-" if figure.difference is None else _signed(figure.difference * scale, digits=4),
        _interval(figure.over_time, scale),
        *((_interval(figure.over_seeds, scale),) if seeded else ()),
        "" if figure.difference is None else figure.clear or "no clear difference",
    )


def _number(value: float | None, scale: float) -> str:
    return "-" if value is None else f"{value * scale:.4g}"


def _interval(interval: Interval | None, scale: float) -> str:
    if interval is None:
        return "-"
    low, high = (_signed(x * scale, digits=3) for x in interval)
    return "none" if low == high else f"{low} to {high}"


def _signed(value: float, *, digits: int) -> str:
    return f"{value:+.{digits}g}" if value else "0"


def replay_view(told: Replay, changes: Sequence[str], *, log: str, new: str) -> RenderableType:
    """Which decisions go elsewhere, by class, and what that changes of what was predicted."""
    parts: list[RenderableType] = [
        Text(f"log: {log}\nnew: {new}\n"),
        _changes(changes),
        Text(f"{told.decisions} decisions read, {told.replayed} taken again, {_share(told.moved, told.replayed)}\n"),
    ]
    table = Table("class", "decisions", "elsewhere", "P(SLO)", "P(adequate)", "USD per 1k", box=None, pad_edge=False)
    for name, one in (("all", told.overall), *told.by_class.items()):
        table.add_row(Text(name), str(one.decisions), f"{_ratio(one.moved, one.decisions):.1%}", *_then_now(one))
    parts.append(table)
    parts += [Text(f"\n{name}: {_routes(one)}") for name, one in told.by_class.items() if one.moved]
    if told.reclassed:
        moves = ", ".join(f"{m.origin} -> {m.target} {m.decisions}" for m in told.reclassed[:_ROUTES])
        parts.append(Text(f"\nin another class: {moves}"))
    if told.skipped:
        lines = [f"  {count}: {why}" for why, count in told.skipped.items()]
        parts.append(Text("\n".join((f"\ncould not be taken again: {sum(told.skipped.values())}", *lines))))
    parts.append(
        Text(
            "\nDecisions only: P(SLO), P(adequate) and cost are what was predicted then, under the dual prices of then"
            " and without\nexploration. How the answers would have come out under the new policy is not estimated here:"
            "\n`router policy evaluate` does, where the log is of a policy that explores."
        )
    )
    return Group(*parts)


def _share(moved: int, replayed: int) -> str:
    return f"{moved} ({_ratio(moved, replayed):.1%}) would go elsewhere"


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _then_now(one: ClassReplay) -> tuple[str, ...]:
    if one.then is None or one.now is None:
        return ("-", "-", "-")
    return tuple(f"{a:.4g} -> {b:.4g}" for a, b in zip(_means(one.then), _means(one.now), strict=True))


def _means(means: Means) -> tuple[float, float, float]:
    return means.p_slo, means.p_adequate, means.cost_per_1k_usd


def _routes(one: ClassReplay) -> str:
    moved = [r for r in one.routes if r.origin != r.target]
    shown = ", ".join(f"{r.origin} -> {r.target} {r.decisions}" for r in moved[:_ROUTES])
    return shown + (f" and {len(moved) - _ROUTES} more ways" if len(moved) > _ROUTES else "")
