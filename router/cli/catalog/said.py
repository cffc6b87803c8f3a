"""An advice on variants, on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from router.learning.variants.effects import Factor
from router.learning.variants.predict import Prediction, Verdict, present

if TYPE_CHECKING:
    from router.cli.catalog.advise import Advice, Option

_STYLES = {Verdict.EXPECTED: "green", Verdict.AT_BEST: "yellow", Verdict.MISSED: "red", Verdict.UNKNOWN: "dim"}
_RANK = (Verdict.KEPT, Verdict.EXPECTED, Verdict.AT_BEST, Verdict.UNKNOWN, Verdict.MISSED)


def advice_view(advice: Advice) -> RenderableType:
    """What is missed, what each variant would do, what it would cost, and what is not known."""
    return Group(*_head(advice), _table(advice), *_closing(advice))


def _head(advice: Advice) -> Iterator[Text]:
    deployment = advice.deployment
    yield Text(f"{deployment.name} serves {deployment.model}, in the catalogue {advice.entry.id}")
    yield Text(f"Latencies: {advice.start.told}")


def _table(advice: Advice) -> Table:
    columns = ("class", "promise", "now", "best", "expected", "worst", "")
    table = Table(Column("variant", no_wrap=True), *columns, box=None, pad_edge=False)
    for option in advice.options:
        name = option.effect.name
        for promise, found in zip(advice.promises, option.predictions, strict=True):
            objective = promise.objective
            told = f"{objective.target:.1%} of {objective.indicator} within {_seconds(objective.threshold_s)}"
            table.add_row(name, promise.request_class, told, *_figures(found))
            name = ""
    return table


def _figures(found: Prediction | None) -> tuple[RenderableType, ...]:
    if found is None:
        return ("", "", "", "", Text("not measured", style="dim"))
    verdict = Text(found.verdict, style=_STYLES.get(found.verdict, ""))
    times = (found.now_s, found.best_s, found.expected_s, found.worst_s)
    return (*(_seconds(time) for time in times), verdict)


def _closing(advice: Advice) -> Iterator[Text]:
    kept = [
        seconds is not None and seconds <= p.objective.threshold_s
        for p in advice.promises
        for seconds in (present(p.objective, advice.start.calls),)
    ]
    if all(kept):
        yield Text("It keeps all of its promises: no variant is needed.", style="green")
    elif not advice.options:
        yield Text("The catalogue has no technique for it that it does not have already.")
    else:
        best = min(advice.options, key=_worth)
        yield Text(_conclusion(best), style=_STYLES.get(_weakest(best), ""))
    for option in advice.options:
        yield from _details(option)
    if not advice.start.is_measured:
        yield Text("! nothing was measured: give --log, or measure with `router profile`", style="yellow")


def _weakest(option: Option) -> Verdict:
    """Of all promises: one that is missed is missed."""
    return max(option.verdicts, key=_RANK.index, default=Verdict.UNKNOWN)


def _worth(option: Option) -> tuple[int, float]:
    """The surer first, then the cheaper."""
    return _RANK.index(_weakest(option)), 1.0 if option.effect.cost is None else option.effect.cost.expected


def _conclusion(option: Option) -> str:
    name = option.effect.name
    match _weakest(option):
        case Verdict.KEPT | Verdict.EXPECTED:
            return f"{name} is predicted to keep what is missed."
        case Verdict.AT_BEST:
            return f"{name} may keep what is missed, if it gains as much as is documented at best."
        case Verdict.UNKNOWN:
            return f"Nobody knows whether a variant helps; {name} is the one to measure."
        case _:
            return "No variant is predicted to keep all of it: a smaller model, or more instances, may."


def _details(option: Option) -> Iterator[Text]:
    effect = option.effect
    there = f"; the policy has it as {', '.join(option.there)}" if option.there else ""
    yield Text(f"{effect.name}: {option.how}{there}")
    yield Text(f"  cost of an output token on an instance in full use: {_cost(effect.cost)}")
    yield Text(f"  quality: {effect.quality}")
    yield Text(f"  not known: {'; '.join(effect.unknown)}")
    yield Text(f"  source: {effect.source}", style="dim")


def _cost(factor: Factor | None) -> str:
    if factor is None:
        return "not known"
    best, expected, worst = (f"{f - 1.0:+.0%}" for f in factor)
    return f"{expected} expected, {best} at best, {worst} at worst; USD an hour stay the same"


def _seconds(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value * 1e3:.0f} ms" if value < 1.0 else f"{value:.2f} s"
