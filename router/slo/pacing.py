"""What does keeping a promise cost, right now?

Dual prices. The floor price of a class is what a unit of adequacy above the floor is worth: it is `slo.floor`. The
capacity price of a deployment is what a typical request's use of it is worth to those who come next: it rises while
predictions press against their objectives and falls when there is room.
"""

from __future__ import annotations

from router.stats.ewma import Ewma

_PRESSURE_HALF_LIFE_S = 1.0
_USUAL_HALF_LIFE_S = 60.0
_PRESSURE_TARGET = 0.88
_PRESSURE_MAX = 2.0
_FRESH_S = 1.0
_CAPACITY_INTEGRAL_PER_S = 0.10
_CAPACITY_PROPORTIONAL = 2.0


class CapacityPrice:
    """The dual variable of one deployment's capacity, per typical request."""

    def __init__(self, *, high: float) -> None:
        self.high = high
        self.integral = 0.0
        self.is_held = False
        """Tuning is frozen: the integral stays."""
        self.is_advice = False
        """It is only said what it would be: decisions see 0."""
        self._usual = Ewma(_USUAL_HALF_LIFE_S, mean=0.0)
        self._pressure = Ewma(_PRESSURE_HALF_LIFE_S, mean=0.0)
        self._sum = 0.0
        self._count = 0
        self._updated: float | None = None

    def value(self, pressure: float | None) -> float:
        """Price at this pressure (1 is at the objective; `None`: it says nothing of the load): what the past has
        taught plus what is pressing now."""
        if self.is_advice:
            return 0.0
        excess = 0.0 if pressure is None else pressure - _PRESSURE_TARGET
        price = self.integral + _CAPACITY_PROPORTIONAL * excess if excess > 0.0 else self.integral
        return price if price < self.high else self.high

    @property
    def in_force(self) -> float:
        """What the past has taught, where that is put in force."""
        return 0.0 if self.is_advice else self.integral

    def put_in_force(self, *, is_advice: bool) -> None:
        """From here on it counts, from 0 where it was only said before; or is only said."""
        self.integral = self.in_force
        self.is_advice = is_advice

    def observe(self, pressure: float) -> None:
        """A decision that could go there saw this pressure."""
        self._sum += pressure if pressure < _PRESSURE_MAX else _PRESSURE_MAX
        self._count += 1

    def tick(self, *, now: float, caution: float = 1.0) -> None:
        """Integrate since the last tick; what was seen counts for less the longer ago it was, and `caution` times."""
        if self._count:
            self._pressure.update(self._sum / self._count, now=now)
            self._sum, self._count = 0.0, 0
        if self._updated is not None and not self.is_held:
            seen = now if self._pressure.last is None else self._pressure.last
            fresh = 0.5 ** (max(now - seen - _FRESH_S, 0.0) / _FRESH_S)
            error = fresh * caution * self._pressure.mean - _PRESSURE_TARGET
            step = _CAPACITY_INTEGRAL_PER_S * (now - self._updated) * max(error, -1.0)
            self.integral = min(max(self.integral + step, 0.0), self.high)
        self._usual.update(self.integral, now=now)
        self._updated = now

    @property
    def above_usual(self) -> float:
        """How far the price is above what it was over the last minutes; nothing where it is only said."""
        return 0.0 if self.is_advice else max(self.integral - self._usual.mean, 0.0)
