"""What does the promise of quality cost, right now, and is it kept?

The floor price v of a class is a dual variable. Every answer that is counted with adequacy q moves it by

    v <- clip(v + GAIN * (target - q + s), 0, V)

up where less was served than was promised, down where more was, so that the running mean settles at the target when
the floor binds, and the price at 0 when it does not. q is an estimate. A verdict a on an answer that was counted with q
is owed (q - a) / rho, where rho is the probability that this answer is judged: what is owed is paid out by and by, s at
a time, so that one verdict cannot throw the price. Where rho is right this is doubly robust: what the price has
integrated is an unbiased estimate of the true shortfall, and has little variance where q is good.

How far can the promise be missed? As long as the price does not reach V, clipping only ever raises it, so over T
counted answers GAIN * sum(target - q + s) <= v_T - v_0 <= V, and therefore

    sum(target - q) + sum over verdicts of (q - a) / rho  <=  V / GAIN + OWED_MOST

for any sequence of requests, estimates and verdicts, adversarial ones included: per answer the bound falls as 1 / T
(the argument of adaptive conformal inference, Gibbs and Candes 2021, and of gradient equilibrium, Angelopoulos, Jordan
and Tibshirani 2025). The left side is the true shortfall sum(target - a) up to the noise of the verdicts, a martingale
whose standard deviation is at most 0.5 * sqrt(T / rho) where q is right on average, and up to verdicts still to come.

What it assumes, and where it ends:

* Which answers are judged may depend on the class and the model, not on how good the answer is. A sender who tells
  failures only makes the router buy more than was promised; one who tells successes only, less.
* rho is the judged share of a model's answers over the last thousand, at least a fiftieth. Verdicts that take longer
  than some hundred answers make the price swing about the target; the bound stays.
* What is owed is cut off at OWED_MOST: a thousand wrong answers that are told at once weigh no more than fifty.
* At V nothing is left to buy. While the best that is to be had is below the target, answers do not move the price.
  Where requests may be refused for the floor, they move what that is worth (`slo.refusal`), which is added to it.
"""

from __future__ import annotations

from router.domain.slo import FloorUnderOverload, QualityFloor
from router.slo.refusal import RefusalPrice
from router.slo.risk import FloorRisk

GAIN = 0.05
_MARGIN = 0.006
"""Steered this far above the floor, about the sampling error of the share over an hour's requests."""
_START = 0.5
OWED_MOST = 50.0
_PAID_SHARE, _PAID_MOST = 0.05, 0.5
"""Of what is owed, paid with each answer; and at most so much."""
_RATE_MEMORY = 1000.0
_RATE_PRIOR = 5.0
"""Answers, all judged, that a new model begins with: its first verdicts weigh little."""
_LEAST_RATE = 0.02
_AT_BOUND = 0.999


class FloorPrice:
    """The dual variable of one class's quality floor."""

    def __init__(self, floor: QualityFloor, *, name: str = "", high: float) -> None:
        self.floor, self.name = floor, name
        self.target = min(floor.ratio + _MARGIN, 1.0)
        self.under_overload: FloorUnderOverload = floor.under_overload
        self.high = high
        self.value = self._said = min(_START, high)
        self.is_held = False
        """Tuning is frozen: the price stays."""
        self.static: float | None = None
        """What decisions see where the price is only said."""
        self.owed = 0.0
        """Adequacy that verdicts found missing and that the price has not moved for yet."""
        self.risk = FloorRisk()
        self.refusal = RefusalPrice()
        self._rates: dict[str, list[float]] = {}
        """By model: answers judged and answers given, decayed."""

    @property
    def in_force(self) -> float:
        """What decisions see."""
        return self.value if self.static is None else self.static

    @property
    def tuned(self) -> float:
        """Where the price is by now, with what it is worth to refuse."""
        return self.value + self.refusal.value

    @property
    def with_refusal(self) -> float:
        """What decisions see, with what it is worth to refuse."""
        return self.tuned if self.static is None else self.static

    def advise(self) -> None:
        """Only say what the price would be from here on: where it starts is in force."""
        self.static, self.value = min(_START, self.high), min(self._said, self.high)

    def go_on_from(self, old: FloorPrice) -> None:
        """Another policy: the price stays as it is, and where the promise does too, what is known of it."""
        self.value, self._said = min(old.in_force, self.high), old.value
        self._rates = old._rates
        if old.floor.ratio == self.floor.ratio:
            self.owed, self.risk, self.refusal = old.owed, old.risk, old.refusal

    def on_served(self, counted: float, best: float = 1.0, *, may_refuse: bool = False) -> bool:
        """An answer is going to be served that is counted with this adequacy, where `best` was to be had. A price
        cannot buy what is not there: while the best is below the target it is not counted, and this is false; but
        where it might have been refused (`may_refuse`) it moves what refusing is worth."""
        is_there = counted >= self.target or best >= self.target
        counts = is_there or may_refuse
        if counts and not self.is_held:
            paid = min(max(_PAID_SHARE * self.owed, -_PAID_MOST), _PAID_MOST) if self.owed else 0.0
            self.owed -= paid
            deficit = self.target - counted + paid
            self.refusal.move(deficit, out_of_reach=not is_there)
            if is_there:
                self._move(deficit)
        return counts

    def on_changed(self, counted: float, served: float | None) -> None:
        """What was counted as `counted` was in the end served as `served`, or not at all."""
        self._move(counted - served if served is not None else counted - self.target)

    def on_answered(self, model: str) -> None:
        """A counted answer was given: a verdict on it may come."""
        rate = self._rates.setdefault(model, [_RATE_PRIOR, _RATE_PRIOR])
        for i in range(2):
            rate[i] *= 1.0 - 1.0 / _RATE_MEMORY
        rate[1] += 1.0

    def on_verdict(self, model: str, counted: float, adequate: float) -> None:
        """An answer of a model that was counted turned out `adequate` (0..1)."""
        rate = self._rates.setdefault(model, [_RATE_PRIOR, _RATE_PRIOR])
        rate[0] += 1.0
        judged = min(max(rate[0] / rate[1], _LEAST_RATE), 1.0)
        owed = self.owed + (counted - adequate) / judged
        self.owed = min(max(owed, -OWED_MOST), OWED_MOST)
        self.risk.on_verdict(counted - adequate)

    @property
    def is_at_bound(self) -> bool:
        """Whether the price can rise no further."""
        return self.value >= _AT_BOUND * self.high

    def _move(self, deficit: float) -> None:
        if self.is_held:
            return
        self.value = min(max(self.value + GAIN * deficit, 0.0), self.high)
