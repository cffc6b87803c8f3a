"""The pictures of a load test: latencies, throughput and price, each over concurrency."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from router.cli.profile.told import Told
from router.cli.report.charts import Axis, Chart, Frame, Line, Mark, Points, Rule, draw
from router.cli.report.markup import Html
from router.domain.deployment import Kind
from router.learning.profiling.figures import Figures, Spread

_AIR = 1.25
"""Room over the lines, for names."""
_MANY = 5e3
_THOUSANDS = {"Milliseconds": "Seconds", "Tokens a second": "Thousand tokens a second"}
"""Shorter ticks, from this figure on."""
_WIDE, _HALF = (920, 400), (460, 340)


_QUANTILES = "Median, and p90 where there are ten calls"


def latency(told: Told) -> Html:
    """Client latency: the median and the ninetieth percentile."""
    lines = _quantiles(told, lambda one: one.client_latency_ms)
    return _chart(told, "latency", "Client latency", "Milliseconds", lines, _QUANTILES, size=_WIDE)


def first_tokens(told: Told) -> Html | None:
    """Time to first token; `None` where no answer was streamed."""
    lines = _quantiles(told, lambda one: one.time_to_first_token_ms)
    if not any(line.points for line in lines):
        return None
    return _chart(told, "first", "Time to first token", "Milliseconds", lines, _QUANTILES)


def gaps(told: Told) -> Html | None:
    """Inter-token latency, as measured and as the step figures have it; `None` where no answer was streamed."""
    measured = _points(told.levels, lambda one: _mean(one.inter_token_latency_ms))
    if not measured:
        return None
    lines = [Line("measured", "router", measured, at=0.5)]
    if told.step is not None:
        fitted = [(float(one.concurrency), one.fitted_ms) for one in told.step.levels]
        lines.append(Line("by the step figures", "fixed", fitted, at=0.35, below=True))
    return _chart(told, "gaps", "Inter-token latency", "Milliseconds", lines, "Mean of calls")


def throughput(told: Told) -> tuple[Html, Html]:
    """Tokens a second of all users together, those given and those taken in."""
    outputs = Line("output", "router", _points(told.levels, lambda one: one.output_tokens_per_sec))
    inputs = Line("input", "router", _points(told.levels, lambda one: one.input_tokens_per_sec))
    return (
        _chart(told, "output", "Output tokens/sec", "Tokens a second", [outputs], "All users together"),
        _chart(told, "input", "Input tokens/sec", "Tokens a second", [inputs], "All users together"),
    )


def price(told: Told) -> Html | None:
    """Dollars per million tokens; `None` where nothing is paid."""
    outputs = _points(told.levels, lambda one: one.price_per_million_output_tokens)
    inputs = _points(told.levels, lambda one: one.price_per_million_input_tokens)
    if not any(usd > 0.0 for _, usd in (*outputs, *inputs)):
        return None
    lines = [Line("output tokens", "router", outputs, at=1.0), Line("input tokens", "random", inputs, at=0.2)]
    return _chart(told, "price", "Price per million tokens", "USD", lines, "What was paid, over tokens", size=_WIDE)


def _chart(
    told: Told,
    name: str,
    title: str,
    unit: str,
    lines: Sequence[Line],
    note: str,
    *,
    size: tuple[int, int] = _HALF,
) -> Html:
    lines = [line for line in lines if line.points]
    if max((y for line in lines for _, y in line.points), default=0.0) >= _MANY and unit in _THOUSANDS:
        unit, lines = _THOUSANDS[unit], [_in_thousands(line) for line in lines]
    high = max((y for line in lines for _, y in line.points), default=1.0) * _AIR or 1.0
    axis = Axis(unit, 0.0, high, ",.0f" if high >= 20 else ".1f" if high >= 2 else ".3g")
    return draw(
        Chart(
            name=name,
            title=title,
            told=f"{title} at concurrency {', '.join(str(one.concurrency) for one in told.levels)}; figures below.",
            frame=Frame(_users(told), axis, width=size[0], height=size[1]),
            lines=lines,
            marks=[
                Mark(line.kind, x, y, f"{line.name} at {x:g}: {y:,.4g}", written=False)
                for line in lines
                if line.name != "by the step figures"
                for x, y in line.points
            ],
            rules=() if told.knee is None or not told.knee.is_reached else (Rule("knee", x=told.knee.concurrency),),
            note=note,
        )
    )


def _in_thousands(line: Line) -> Line:
    return replace(line, points=[(x, y / 1e3) for x, y in line.points])


def _users(told: Told) -> Axis:
    levels = [float(one.concurrency) for one in told.levels]
    title = "Items in a batch" if told.deployment.kind is Kind.BATCH else "Concurrency (users at once)"
    return Axis(title, min(levels) * 0.85, max(levels) * 1.18, ".3g", log=True)


def _quantiles(told: Told, spread: Callable[[Figures], Spread | None]) -> list[Line]:
    median = _points(told.levels, lambda one: None if (found := spread(one)) is None else found.p50)
    most = _points(told.levels, lambda one: None if (found := spread(one)) is None else found.p90)
    return [Line("p90", "fixed", most, at=0.6), Line("p50", "router", median, at=0.6, below=True)]


def _points(levels: Sequence[Figures], read: Callable[[Figures], float | None]) -> Points:
    return [(float(one.concurrency), y) for one in levels if (y := read(one)) is not None]


def _mean(spread: Spread | None) -> float | None:
    return None if spread is None else spread.mean
