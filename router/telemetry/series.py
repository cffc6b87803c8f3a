"""Metric families whose series are plain numbers; `prometheus_client` writes them out.

Its own counters and histograms take a lock and walk the edges for every value. All of this is written by one
thread, in batches, so a dict and a bisection do, at a fraction of the cost (`bench/telemetry.py` has both). A
family is a custom collector, the library's seam for exactly this; it may be read from another thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isnan
from typing import ClassVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]


class Counter(Collector):
    """A total that only grows, for each tuple of label values; `name` is without `_total`."""

    family: ClassVar[type[CounterMetricFamily] | type[GaugeMetricFamily]] = CounterMetricFamily

    def __init__(self, registry: CollectorRegistry, name: str, text: str, labels: Labels = ()) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._values: dict[Labels, float] = {}
        registry.register(self)

    def create(self, series: Iterable[Labels]) -> None:
        """Have these series from now on, at 0, so that the first increase is seen."""
        for labels in series:
            self._values.setdefault(labels, 0.0)

    def add(self, labels: Labels, amount: float = 1.0) -> None:
        """Count; a series not seen before starts here."""
        try:
            self._values[labels] += amount
        except KeyError:
            self._values[labels] = amount

    def value(self, labels: Labels) -> float:
        """The total now; 0 for a series that does not exist."""
        return self._values.get(labels, 0.0)

    def describe(self) -> Iterator[Metric]:
        """The family without series."""
        yield self.family(self._name, self._text, labels=self._labels)

    def collect(self) -> Iterator[Metric]:
        """The family with every series."""
        family = self.family(self._name, self._text, labels=self._labels)
        for labels, value in tuple(self._values.items()):
            family.add_metric(labels, value)
        yield family


class Gauge(Counter):
    """A figure that goes up and down."""

    family = GaugeMetricFamily

    def put(self, labels: Labels, value: float) -> None:
        """Set one series."""
        self._values[labels] = value

    def series(self) -> tuple[Labels, ...]:
        """The label values that exist."""
        return tuple(self._values)

    def clear(self) -> None:
        """Forget every series."""
        self._values.clear()

    def begin(self, labels: Labels, value: float) -> None:
        """Have this series from now on, at this value unless it exists."""
        self._values.setdefault(labels, value)

    def forget(self, which: Callable[[Labels], bool]) -> None:
        """Forget some series, by their label values."""
        for labels in [labels for labels in self._values if which(labels)]:
            del self._values[labels]


class Histogram(Collector):
    """Counts of values at or under each edge, with their sum. The edges may change while it counts (`refit`)."""

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        text: str,
        labels: Labels = (),
        *,
        edges: Iterable[float],
    ) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._set(edges, {})
        registry.register(self)

    def _set(self, edges: Iterable[float], rows: dict[Labels, list[float]]) -> None:
        """`_shown` is put in place last and at once: a reader in another thread sees edges and rows that fit."""
        self.edges = tuple(sorted(set(edges)))
        self._rows = rows
        self._shown = ((*map(floatToGoString, self.edges), "+Inf"), rows)

    def refit(self, edges: Iterable[float]) -> None:
        """Count by these edges from now on; nothing counted is lost.

        A bucket that is joined to its upper neighbour keeps its count exactly. Of a bucket that is split it is not
        known what was under the new edge: what it holds is counted above it, so the new series may start too low and
        is right in everything that is added to it. No total falls, so `rate` and `increase` see no reset.
        """
        wanted = tuple(sorted(set(edges)))
        if wanted == self.edges:
            return
        places = [bisect_left(wanted, edge) for edge in self.edges]
        rows: dict[Labels, list[float]] = {}
        for labels, row in self._rows.items():
            new = rows[labels] = [0.0] * (len(wanted) + 2)
            for place, count in zip((*places, len(wanted)), row, strict=False):
                new[place] += count
            new[-1] = row[-1]
        self._set(wanted, rows)

    def create(self, series: Iterable[Labels]) -> None:
        """Have these series from now on, empty."""
        for labels in series:
            self._rows.setdefault(labels, [0.0] * (len(self.edges) + 2))

    def observe(self, labels: Labels, value: float) -> None:
        """Take one value; a NaN would spoil the sum for good and is left out."""
        if isnan(value):
            return
        try:
            row = self._rows[labels]
        except KeyError:
            row = self._rows[labels] = [0.0] * (len(self.edges) + 2)
        row[bisect_left(self.edges, value)] += 1.0
        row[-1] += value

    def describe(self) -> Iterator[Metric]:
        """The family without series."""
        yield HistogramMetricFamily(self._name, self._text, labels=self._labels)

    def collect(self) -> Iterator[Metric]:
        """The family with every series; buckets are cumulative."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        bounds, rows = self._shown
        for labels, row in tuple(rows.items()):
            total, buckets = 0.0, []
            for bound, count in zip(bounds, row, strict=False):
                total += count
                buckets.append((bound, total))
            family.add_metric(labels, buckets, row[-1])
        yield family


class Watched(Collector):
    """Figures that something else keeps: read when somebody scrapes."""

    def __init__(
        self,
        registry: CollectorRegistry,
        family: Callable[[], CounterMetricFamily | GaugeMetricFamily],
        read: Callable[[], Mapping[Labels, float]],
    ) -> None:
        self._family, self._read = family, read
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """The family without series."""
        yield self._family()

    def collect(self) -> Iterator[Metric]:
        """The family with what is read now."""
        family = self._family()
        for labels, value in self._read().items():
            family.add_metric(labels, value)
        yield family
