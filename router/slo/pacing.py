"""What does keeping a promise cost, right now?

Dual prices. The floor price of a class is what a unit of adequacy above the floor is worth: every answer served below
the floor raises it, every one above lowers it, so that the running share settles at the floor when the floor binds and
the price at zero when it does not. The capacity price of a deployment is what a typical request's use of it is worth
to those who come next: it rises while predictions press against their objectives and falls when there is room.
"""

from __future__ import annotations

from router.domain.slo import QualityFloor
from router.stats.ewma import Ewma

_FLOOR_GAIN = 0.05
_FLOOR_MARGIN = 0.006
"""Steered this far above the floor, about the sampling error of the share over an hour's requests."""
_FLOOR_START = 0.5
_PRESSURE_HALF_LIFE_S = 1.0
_PRESSURE_TARGET = 0.88
_PRESSURE_MAX = 2.0
_FRESH_S = 1.0
_CAPACITY_INTEGRAL_PER_S = 0.10
_CAPACITY_PROPORTIONAL = 2.0


class FloorPrice:
    """The dual variable of one class's quality floor."""

    def __init__(self, floor: QualityFloor, *, high: float) -> None:
        self.floor = floor
        self.target = min(floor.ratio + _FLOOR_MARGIN, 1.0)
        self.under_overload = floor.under_overload
        self.high = high
        self.value = min(_FLOOR_START, high)

    def on_served(self, p_adequate: float, best: float = 1.0) -> bool:
        """An answer is going to be served that is adequate with this probability, where `best` was to be had. A price
        cannot buy what is not there: while the best is below the target it is not counted, and this is false."""
        counts = p_adequate >= self.target or best >= self.target
        if counts:
            self._move(self.target - p_adequate)
        return counts

    def on_changed(self, expected: float, served: float | None) -> None:
        """What was counted as `expected` was in the end served as `served`, or not at all."""
        self._move(expected - served if served is not None else expected - self.target)

    def _move(self, deficit: float) -> None:
        self.value = min(max(self.value + _FLOOR_GAIN * deficit, 0.0), self.high)


class CapacityPrice:
    """The dual variable of one deployment's capacity, per typical request."""

    def __init__(self, *, high: float) -> None:
        self.high = high
        self.integral = 0.0
        self._pressure = Ewma(_PRESSURE_HALF_LIFE_S, mean=0.0)
        self._sum = 0.0
        self._count = 0
        self._updated: float | None = None

    def value(self, pressure: float) -> float:
        """Price at this pressure (1 is at the objective): what the past has taught plus what is pressing now."""
        excess = pressure - _PRESSURE_TARGET
        price = self.integral + _CAPACITY_PROPORTIONAL * excess if excess > 0.0 else self.integral
        return price if price < self.high else self.high

    def observe(self, pressure: float) -> None:
        """A decision that could go there saw this pressure."""
        self._sum += pressure if pressure < _PRESSURE_MAX else _PRESSURE_MAX
        self._count += 1

    def tick(self, *, now: float) -> None:
        """Integrate since the last tick; what was seen counts for less the longer ago it was."""
        if self._count:
            self._pressure.update(self._sum / self._count, now=now)
            self._sum, self._count = 0.0, 0
        if self._updated is not None:
            seen = now if self._pressure.last is None else self._pressure.last
            fresh = 0.5 ** (max(now - seen - _FRESH_S, 0.0) / _FRESH_S)
            error = fresh * self._pressure.mean - _PRESSURE_TARGET
            step = _CAPACITY_INTEGRAL_PER_S * (now - self._updated) * max(error, -1.0)
            self.integral = min(max(self.integral + step, 0.0), self.high)
        self._updated = now
