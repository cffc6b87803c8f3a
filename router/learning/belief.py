"""How far is one model's estimate off, and is it still off as it was?

A belief is a Gaussian over `(b0, b1, b2)`: the estimate's log odds `z` are corrected by

    b0 + b1 * (z - CENTRE) + b2 * (common - CENTRE) + kind

where `common` is how easy all models together find the request, and `kind` an offset of its own for each use case.
Feedback moves it by one step of an extended Kalman filter for logistic regression; between the kinds and the rest the
covariance is dropped. Truth that is finer than right or wrong scatters less than a coin would: how much less is learned
as well (the dispersion of quasi-likelihood: Wedderburn, Biometrika 1974).

A fall is told by a cumulative sum of log likelihood ratios (Page, Biometrika 1954). A model that fell is
relearned at the speed of a new one, and what was known of it is kept aside: if it rises again it is what it was.
"""

from __future__ import annotations

import math

from router.stats.normal import sigmoid

CENTRE = 1.0
_FARTHEST = 4.0
"""Log odds from the centre beyond which a slope is not followed."""
_VARIANCES = (0.5, 0.1, 0.1)
_KIND_VARIANCE = 0.1
"""Prior variances of the three coefficients and of a kind's offset. Chosen with task groups left out of training."""
_DRIFT = (1e-4, 1e-5, 1e-5)
_KIND_DRIFT = 2.5e-5
"""What one observation adds to the variances: a memory of some hundred answers."""
_LEAST_CURVATURE = 0.02
_LEAST_DISPERSION = 0.08
_LARGEST_SCATTER = 20.0
_DISPERSION_MEMORY = 100.0
_DISPERSION_WEIGHT = 10.0
_CHANGE = 1.0
"""The fall that is looked for, in log odds."""
_ALARM = 9.0
"""Log likelihood ratio from which on it is taken for one: less often than once in e**9 answers where nothing changes
(Lorden, Annals of Mathematical Statistics 1971)."""
_HEAD_START = 0.5 * _ALARM
"""Where the sum begins for a model that has just risen: one that has not is told twice as soon (Lucas and Crosier,
Technometrics 1982)."""
_RISE_ALARM, _LARGEST_RATIO = 5.5, 2.5
"""Log likelihood ratio from which on a model that fell is again what it was, and the most one answer adds to it."""
_LONGEST_RUN = 64
_SETTLED = 50
"""Answers of a new model in which nothing counts as a fall: its estimates are only being set right."""
_LEAST_LOSS = 0.02
_FALLEN_MEMORY = 200
"""Answers after which a fall is no fall any more, but how the model is."""
_FARTHEST_MEAN = 12.0
_LEAST_VARIANCE = 1e-4
_MAX_KINDS = 256
_MOST_SEEN = 1e9
_OLD_ROW = 2
_SLOP = 1.0 + 1e-9


class Belief:
    """What feedback says of one model."""

    __slots__ = (
        "_before",
        "_c",
        "_down",
        "_held",
        "_kinds",
        "_lost",
        "_m",
        "_risen",
        "_run",
        "_up",
        "dispersion",
        "fallen",
        "seen",
    )

    def __init__(self) -> None:
        self._m = [0.0, 0.0, 0.0]
        self._c = _open()
        """Covariance: 00 01 02 11 12 22."""
        self._kinds: dict[str, list[float]] = {}
        self.dispersion = 1.0
        self.seen = 0
        self.fallen = 0
        """Answers since the model fell and did not rise again; 0 where it stands."""
        self._down = 0.0
        self._run: list[tuple[float, float, str, float]] = []
        """Answers since errors began to go down."""
        self._before = (self._m.copy(), self._c.copy())
        """The belief when they began to; while the model is fallen, the one before the fall."""
        self._held: dict[str, tuple[float, float]] = {}
        """The kinds that were learned since, as they were."""
        self._lost, self._up, self._risen = [1.0, 0.0], [0.0, 0.0], 0.0
        """Answers since the fall and the quality lost in them, the same of those that speak for a rise, and how
        strongly they do."""

    def shift(self, z: float, common: float, kind: str) -> tuple[float, float]:
        """Mean and variance of the correction of log odds `z`."""
        x1, x2 = _bounded(z - CENTRE), _bounded(common - CENTRE)
        m, c = self._m, self._c
        mean, variance = self._kinds.get(kind) or _NEW_KIND
        mean += m[0] + m[1] * x1 + m[2] * x2
        variance += c[0] + x1 * (2.0 * c[1] + c[3] * x1) + x2 * (2.0 * (c[2] + c[4] * x1) + c[5] * x2)
        return mean, variance

    def learn(self, z: float, common: float, kind: str, quality: float) -> str:
        """One answer's quality in [0,1]. Says `fell` or `rose` where that is what it showed, else nothing."""
        x1, x2 = _bounded(z - CENTRE), _bounded(common - CENTRE)
        self._drift()
        known = self._kinds.get(kind)
        if known is None:
            known = [*_NEW_KIND]
            if len(self._kinds) < _MAX_KINDS:
                self._kinds[kind] = known
        if not (self._down or self.fallen):
            self._held.clear()
        if kind in self._kinds:
            self._held.setdefault(kind, (known[0], known[1]))
        shift, variance = self.shift(z, common, kind)
        predicted = sigmoid(z + shift)
        error, slope = quality - predicted, max(predicted * (1.0 - predicted), _LEAST_CURVATURE)
        spread = slope * (self.dispersion + slope * variance)
        c = self._c
        g0, g1, g2 = c[0] + c[1] * x1 + c[2] * x2, c[1] + c[3] * x1 + c[4] * x2, c[2] + c[4] * x1 + c[5] * x2
        step, shrink = slope * error / spread, slope * slope / spread
        for i, gain in enumerate((g0, g1, g2)):
            self._m[i] = _within_reach(self._m[i] + gain * step)
        for i, product in enumerate((g0 * g0, g0 * g1, g0 * g2, g1 * g1, g1 * g2, g2 * g2)):
            c[i] -= product * shrink
        known[0] = _within_reach(known[0] + known[1] * step)
        known[1] = max(known[1] - known[1] * known[1] * shrink, _LEAST_VARIANCE)
        self.seen += 1
        if self.fallen:
            return self._await_rise(z, common, kind, quality)
        share = 1.0 / min(self.seen + _DISPERSION_WEIGHT, _DISPERSION_MEMORY)
        self.dispersion += share * (min(error * error / slope, _LARGEST_SCATTER) - self.dispersion)
        self.dispersion = min(max(self.dispersion, _LEAST_DISPERSION), 1.0)
        return self._watch((z, common, kind, quality), self.dispersion + slope * variance)

    def undo(self) -> None:
        """What was learned since errors began to go down was not the model's: forget it, and the fall with it."""
        self._restore()
        self._stand()

    def pardon(self) -> None:
        """A fallen model that nothing has been told of for long may be as it was; how sure that is, is open again."""
        self._restore()
        self._c = _open()
        self._stand()
        self._down = _HEAD_START

    def reopen(self, kind: str | None = None) -> None:
        """Keep what is believed, but as little sure as at first: of one kind, or of all, where besides no fall is
        looked for until the new level is known."""
        for name, known in self._kinds.items():
            if kind is None or name == kind:
                known[1] = _KIND_VARIANCE
        if kind is None:
            self._c, self.seen = _open(), 0
            self._stand()

    def carry_over(self, kept: float) -> None:
        """Other estimates are corrected from here on, whose errors correlate with those of the old ones by `kept`: a
        Gaussian's conditional mean and variance, coefficient by coefficient. No fall is looked for until the new level
        is known."""
        opened = 1.0 - kept * kept
        self._m = [kept * mean for mean in self._m]
        self._c = [kept * kept * old + opened * new for old, new in zip(self._c, _open(), strict=True)]
        for known in self._kinds.values():
            known[0], known[1] = kept * known[0], kept * kept * known[1] + opened * _KIND_VARIANCE
        self.seen = 0
        self._stand()

    def child(self, doubt: float) -> Belief:
        """What is believed at first of a model made from this one, whose quality is off by a Gaussian of variance
        `doubt`; never less sure than of a model that nobody knows."""
        made = Belief()
        made._m, made._c, made.dispersion = self._m.copy(), self._c.copy(), self.dispersion
        made._c[0] = min(made._c[0] + doubt, _VARIANCES[0])
        made._kinds = {kind: [*row] for kind, row in self._kinds.items()}
        made._before = (made._m.copy(), made._c.copy())
        return made

    def _restore(self) -> None:
        self._m, self._c = self._before[0].copy(), self._before[1].copy()
        for kind, row in self._held.items():
            self._kinds[kind] = [*row]
        self._held.clear()

    def _stand(self) -> None:
        self._held.clear()
        self.fallen, self._down = 0, 0.0
        self._run.clear()
        self._before = (self._m.copy(), self._c.copy())

    def state(self) -> tuple[list[float], dict[str, list[float]]]:
        """Coefficients, covariance, dispersion and answers seen; and each kind's offset and variance."""
        whole = [*self._m, *self._c, self.dispersion, float(self.seen)]
        return whole, {kind: row.copy() for kind, row in self._kinds.items()}

    @classmethod
    def of(cls, whole: list[float] | None, kinds: dict[str, list[float]]) -> Belief:
        """Back from a checkpoint, standing; raises `ValueError` where it is not one. A row of two is an offset and its
        variance, as they were kept before there were slopes."""
        self = cls()
        if not all(math.isfinite(value) for row in (whole or (), *kinds.values()) for value in row):
            raise ValueError("a belief is not finite")
        if whole is not None and len(whole) == _OLD_ROW:
            self._m[0], self._c[0] = _within_reach(whole[0]), min(max(whole[1], _LEAST_VARIANCE), _VARIANCES[0])
        elif whole is not None:
            m0, m1, m2, c0, c1, c2, c3, c4, c5, dispersion, seen = whole
            self._m, self._c = [_within_reach(m) for m in (m0, m1, m2)], _covariance([c0, c1, c2, c3, c4, c5])
            self.dispersion = min(max(dispersion, _LEAST_DISPERSION), 1.0)
            self.seen = int(min(max(seen, 0.0), _MOST_SEEN))
        for kind, (mean, variance) in list(kinds.items())[:_MAX_KINDS]:
            self._kinds[kind] = [_within_reach(mean), min(max(variance, _LEAST_VARIANCE), _KIND_VARIANCE)]
        self._before = (self._m.copy(), self._c.copy())
        return self

    def _drift(self) -> None:
        c = self._c
        for at, added, most in zip((0, 3, 5), _DRIFT, _VARIANCES, strict=True):
            c[at] = min(c[at] + added, most)
        for known in self._kinds.values():
            known[1] = min(known[1] + _KIND_DRIFT, _KIND_VARIANCE)

    def _watch(self, answer: tuple[float, float, str, float], scatter: float) -> str:
        """Whether the evidence that the model has fallen from what it was, log likelihood ratios of its answers, has
        summed up. What it was is kept from before the evidence began, or learning would hide the fall."""
        odds = self._odds_before(*answer[:3])
        ratio = (_softplus(odds) - _softplus(odds - _CHANGE) - _CHANGE * answer[3]) / scatter
        self._down = max(self._down + min(ratio, _LARGEST_RATIO), 0.0)
        if self.seen < _SETTLED or not self._down:
            self._down = 0.0
            self._run.clear()
            self._before = (self._m.copy(), self._c.copy())
        elif len(self._run) < _LONGEST_RUN:
            self._run.append(answer)
        if self._down < _ALARM:
            return ""
        losses = [sigmoid(self._odds_before(z, common, kind)) - quality for z, common, kind, quality in self._run]
        self._lost, self._up = [float(len(losses)), sum(losses)], [0.0, 0.0]
        self.fallen, self._risen, self._down = 1, 0.0, 0.0
        self._run.clear()
        self._c = _open()
        return "fell"

    def _await_rise(self, z: float, common: float, kind: str, quality: float) -> str:
        """Whether the answers of a model that fell are again as they were before (Wald, 1945). How far it fell is told
        by all answers since, but for those that now speak for a rise."""
        self.fallen += 1
        before = sigmoid(self._odds_before(z, common, kind))
        scatter = 2.0 * self.dispersion * max(before * (1.0 - before), _LEAST_CURVATURE)
        error, loss = quality - before, self._loss
        ratio = ((error + loss) ** 2 - error**2) / scatter
        self._risen += min(max(ratio, -_LARGEST_RATIO), _LARGEST_RATIO)
        self._up[0] += 1.0
        self._up[1] -= error
        if self._risen >= _RISE_ALARM:
            self._restore()
            self.fallen, self._down = 0, _HEAD_START
            return "rose"
        if self._risen <= 0.0:
            self._risen = 0.0
            self._lost = [self._lost[0] + self._up[0], self._lost[1] + self._up[1]]
            self._up = [0.0, 0.0]
        if self.fallen > _FALLEN_MEMORY:
            self.fallen, self._before = 0, (self._m.copy(), self._c.copy())
        return ""

    @property
    def _loss(self) -> float:
        return max(self._lost[1] / self._lost[0], _LEAST_LOSS)

    def _odds_before(self, z: float, common: float, kind: str) -> float:
        x1, x2 = _bounded(z - CENTRE), _bounded(common - CENTRE)
        m, known = self._before[0], self._kinds.get(kind) or _NEW_KIND
        return z + m[0] + m[1] * x1 + m[2] * x2 + known[0]


_NEW_KIND = (0.0, _KIND_VARIANCE)


def _open() -> list[float]:
    a, b, c = _VARIANCES
    return [a, 0.0, 0.0, b, 0.0, c]


def _bounded(x: float) -> float:
    if x < -_FARTHEST:
        return -_FARTHEST
    return x if x < _FARTHEST else _FARTHEST


def _within_reach(mean: float) -> float:
    return min(max(mean, -_FARTHEST_MEAN), _FARTHEST_MEAN)


def _covariance(c: list[float]) -> list[float]:
    """The six numbers, if they are a covariance (Sylvester's criterion), with no variance above the prior's."""
    c0, c1, c2, c3, c4, c5 = c
    minor = c0 * c3 - c1 * c1
    whole = c0 * (c3 * c5 - c4 * c4) - c1 * (c1 * c5 - c4 * c2) + c2 * (c1 * c4 - c3 * c2)
    if min(c0, c3, c5, minor, whole) <= 0.0 or any(
        v > most * _SLOP for v, most in zip((c0, c3, c5), _VARIANCES, strict=True)
    ):
        raise ValueError("the covariance of a belief is not one")
    return c


def _softplus(x: float) -> float:
    return math.log1p(math.exp(-abs(x))) + max(x, 0.0)
