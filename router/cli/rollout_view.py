"""How the edit of a class came into force in a simulation, step by step, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_GOOD = {"promoted": "green", "concluded": "green", "refused": "red", "rolled_back": "red"}

Told = Mapping[str, Any]


def rollout_view(told: Told) -> RenderableType:
    """Transitions, and between each two of them both sides beside each other; `told` is `rollouts` of a report."""
    names = sorted({change["request_class"] for change in told["transitions"]})
    if not names:
        return Text("No class changes by a rollout: what changed was in force at once.")
    parts: list[RenderableType] = []
    for name in names:
        changes = [change for change in told["transitions"] if change["request_class"] == name]
        parts += [Text(f"rollout of class {name}", style="bold"), *_transitions(changes), _steps(name, changes, told)]
        parts += [*_spent(name, told["error_budget_spent"]), Text()]
    return Group(*parts)


def _transitions(changes: Sequence[Told]) -> Iterator[Text]:
    for change in changes:
        share = f" {change['ratio']:.0%}" if change["state"] == "canary" else ""
        line = Text(f"  {_clock(change['at_s'])}  ")
        line.append(f"{change['state']}{share}", style=_GOOD.get(change["state"], ""))
        yield line.append(f": {change['reason']}")


def _steps(name: str, changes: Sequence[Told], told: Told) -> Table:
    """Both sides beside each other, from each transition to the next."""
    table = Table("from", "to", "side", "requests", "SLO met", "P(adequate)", "USD per 1k", box=None, padding=(0, 1))
    ends = [_clock(change["at_s"]) for change in changes[1:]] + ["the end"]
    for step, (change, end) in enumerate(zip(changes, ends, strict=True)):
        for key, steps in told["steps"].items():
            for sums in steps if key.startswith(f"{name}/") else ():
                if sums["step"] == step:
                    table.add_row(_clock(change["at_s"]), end, key.removeprefix(f"{name}/"), *_cells(sums))
    return table


def _cells(sums: Told) -> tuple[str, str, str, str]:
    cost = 1e3 * sums["cost_usd"] / sums["requests"]
    return str(sums["requests"]), f"{sums['slo_met']:.3f}", f"{sums['p_adequate']:.3f}", f"{cost:.4f}"


def _spent(name: str, spent: Mapping[str, float]) -> Iterator[Text]:
    """Of a whole window's error budget, counted over all traffic of the class."""
    mine = {key.removeprefix(f"{name}/"): share for key, share in spent.items() if key.startswith(f"{name}/")}
    if mine:
        shown = ", ".join(f"{key.replace('/', ' ')} {share:.3%}" for key, share in mine.items())
        yield Text(f"  error budget of the whole window spent in this time: {shown}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:3d}:{rest:02d}"
