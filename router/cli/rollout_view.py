"""How the edit of a class came into force in a simulation, step by step, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_MINUTE_S = 60.0
_GOOD = {"promoted": "green", "concluded": "green", "rolled_back": "red"}

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
    """By whole minutes: a minute belongs to the step in force at its end."""
    table = Table("from", "to", "side", "requests", "SLO met", "P(adequate)", "USD per 1k", box=None, padding=(0, 1))
    ends = [change["at_s"] for change in changes[1:]] + [float("inf")]
    for change, end in zip(changes, ends, strict=True):
        for key, minutes in told["sides"].items():
            side = key.removeprefix(f"{name}/")
            inside = [m for m in minutes if change["at_s"] <= (m["minute"] + 1) * _MINUTE_S - 1e-9 < end]
            if key.startswith(f"{name}/") and inside:
                until = "the end" if end == float("inf") else _clock(end)
                table.add_row(_clock(change["at_s"]), until, side, *_sums(inside))
    return table


def _sums(minutes: Sequence[Told]) -> tuple[str, str, str, str]:
    count = sum(m["requests"] for m in minutes)
    slo, adequate = (sum(m[f] * m["requests"] for m in minutes) / count for f in ("slo_met", "p_adequate"))
    cost = 1e3 * sum(m["cost_usd"] for m in minutes) / count
    return str(count), f"{slo:.3f}", f"{adequate:.3f}", f"{cost:.4f}"


def _spent(name: str, spent: Mapping[str, float]) -> Iterator[Text]:
    """Of a whole window's error budget, counted over all traffic of the class."""
    mine = {key.removeprefix(f"{name}/"): share for key, share in spent.items() if key.startswith(f"{name}/")}
    if mine:
        shown = ", ".join(f"{key.replace('/', ' ')} {share:.3%}" for key, share in mine.items())
        yield Text(f"  error budget of the whole window spent in this time: {shown}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:3d}:{rest:02d}"
