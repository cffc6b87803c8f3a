"""Off-policy estimates, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.sim.off_policy.evaluate import Estimated, Evaluation, Figure
from router.sim.off_policy.intervals import Estimate

_NAMES = {"slo_met": "SLO met", "cost_per_1k_usd": "USD per 1k"}
_EARNED = ("", "logged", "new (DR)", "difference", "")
_BEHIND = ("", "IPS", "SNIPS", "effective size", "of moved", "max weight", "no support")
_CHANGES = 12


def evaluation_view(told: Evaluation, changes: Sequence[str], *, log: str, new: str) -> RenderableType:
    """Over all requests, then by class; then what stands behind it, and what it does not say."""
    shown = [f"  {line}" for line in changes[:_CHANGES]]
    if len(changes) > _CHANGES:
        shown.append(f"  and {len(changes) - _CHANGES} more: see `router policy diff`")
    changed = "\n".join(("changes:", *shown)) if changes else "The two mean the same."
    parts: list[RenderableType] = [
        Text(f"log: {log}\nnew: {new}\n\n{changed}\n"),
        Text(f"{told.requests} requests read, {told.evaluated} estimated\n"),
    ]
    if told.evaluated:
        parts += [_titled("all", told.overall), _earned(told.overall), Text(), _behind(told.overall), Text()]
        parts += _by_class(told, changes)
        goes = (f"{f.deployment} {f.then:.1%} -> {f.now:.1%}" for f in told.flows)
        parts.append(Text(f"goes to: {', '.join(goes)}\n"))
    if told.skipped:
        lines = (f"  {count}: {why}" for why, count in told.skipped.items())
        parts.append(Text("\n".join(("left out on both sides:", *lines, ""))))
    parts.append(Text("\n".join(("not in these figures:", *(f"  {sentence}" for sentence in told.caveats), ""))))
    parts.append(Text("\n".join(_conclusion(told)), style="bold" if told.is_refused else ""))
    return Group(*parts)


def _by_class(told: Evaluation, changes: Sequence[str]) -> Iterator[RenderableType]:
    """The classes that the edit touches, or that come out otherwise; the others by name."""
    alike = []
    for name, group in told.by_class.items() if len(told.by_class) > 1 else ():
        touched = any(line.startswith(f"class {name}:") for line in changes)
        if touched or any(figure.clear for figure in group.figures.values()):
            yield from (_titled(name, group), _earned(group), Text())
        else:
            alike.append(name)
    if alike:
        yield Text(f"not touched, and no clear difference: {', '.join(alike)}\n")


def _titled(name: str, group: Estimated) -> Text:
    return Text(f"{name}: {group.requests} requests", style="bold")


def _earned(group: Estimated) -> Table:
    """What both earn."""
    table = Table(*_EARNED, box=None, pad_edge=False)
    for name, figure in group.figures.items():
        concluded = "too little support" if figure.refused else figure.clear or "no clear difference"
        estimates = (_estimate(figure.logged), _estimate(figure.dr), _estimate(figure.difference, sign="+"))
        table.add_row(*map(Text, (_NAMES.get(name, name), *estimates, concluded)))
    return table


def _behind(group: Estimated) -> Table:
    """The other estimators, and how much the log can say."""
    table = Table(*_BEHIND, box=None, pad_edge=False)
    for name, figure in group.figures.items():
        table.add_row(*map(Text, (_NAMES.get(name, name), *_supported(figure))))
    return table


def _supported(figure: Figure) -> tuple[str, ...]:
    support = figure.support
    return (
        _estimate(figure.ips),
        _estimate(figure.snips),
        f"{support.effective:.0f}",
        f"{support.moved_effective:.0f} ({support.moved:.1%})",
        f"{support.heaviest_weight:.3g}",
        f"{support.unsupported:.1%}",
    )


def _estimate(one: Estimate | None, *, sign: str = "") -> str:
    if one is None:
        return "-"
    return f"{one.value:{sign}.3g} [{one.low:{sign}.3g}, {one.high:{sign}.3g}]"


def _conclusion(told: Evaluation) -> Iterator[str]:
    """What is refused and what would help; else how the intervals are made."""
    if told.refused:
        yield f"No conclusion: {told.refused}."
    for name, figure in told.overall.figures.items():
        if figure.refused and told.evaluated:
            yield f"No conclusion on {_NAMES.get(name, name)}: {figure.refused}."
    if told.is_refused:
        yield from _help(told)
    else:
        yield (
            f"Intervals of 95 %: the wider of {told.blocks.resamples} resamples of blocks of {told.blocks.block_s:.3g}"
            " s and of single requests."
        )


def _help(told: Evaluation) -> Iterator[str]:
    for enough in told.overall.needed:
        yield f"  at an exploration share of {enough.exploration_ratio:.0%} about {enough.requests} requests would do"
    if any(figure.support.unsupported > 0.0 for figure in told.overall.figures.values()):
        yield (
            "  what never has a probability needs `exploration` in its class; a deployment below the class's floor or"
            " too slow is never explored:\n  tell that by `router policy try`, or by a canary"
        )
    if told.overall.figures["quality"].support.told == 0:
        yield "  quality and useful need feedback: POST /v1/feedback, or the topic router/feedback"
