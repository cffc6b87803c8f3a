"""How far can the complexity estimate be believed for this model and this kind of prompt?

The estimate's log odds are shifted by two offsets, one for the model and one for (model, use case), each a Gaussian
that feedback moves: a diagonal extended Kalman step of logistic regression. Forgetting lets the variance grow again,
so a model that changes is relearned at the speed it was learned.
"""

from __future__ import annotations

import math

from router.stats.normal import logit, sigmoid

_MODEL_VARIANCE = 0.25
_KIND_VARIANCE = 1.0
_DRIFT_PER_OBSERVATION = 0.004
_MAX_KINDS = 4096
_FARTHEST = 12.0
_LEAST_VARIANCE = 1e-4


class Offset:
    """A Gaussian belief about a shift of log odds."""

    __slots__ = ("mean", "prior", "variance")

    def __init__(self, variance: float) -> None:
        self.mean, self.variance, self.prior = 0.0, variance, variance

    def move(self, error: float, curvature: float) -> None:
        """One step against `error = observed - predicted`."""
        self.variance = min(self.variance + _DRIFT_PER_OBSERVATION, self.prior)
        self.variance = 1.0 / (1.0 / self.variance + curvature)
        self.mean += self.variance * error


class QualityModel:
    """P(adequate) by model and use case, corrected by feedback."""

    def __init__(self) -> None:
        self._models: dict[str, Offset] = {}
        self._kinds: dict[tuple[str, str], Offset] = {}

    def correct(self, estimate: float, model: str, use_case: str, *, low: float | None = None) -> tuple[float, float]:
        """Corrected P(adequate), and its lower bound: one standard deviation of the learned offsets, and as far as the
        estimator's own bound `low` lies below its estimate, in quadrature."""
        whole, kind = self._models.get(model), self._kinds.get((model, use_case))
        shift = (0.0 if whole is None else whole.mean) + (0.0 if kind is None else kind.mean)
        variance = _MODEL_VARIANCE if whole is None else whole.variance
        variance += _KIND_VARIANCE if kind is None else kind.variance
        score = logit(estimate) + shift
        if low is not None:
            variance += (logit(estimate) - logit(low)) ** 2
        return sigmoid(score), sigmoid(score - math.sqrt(variance))

    def observe(self, estimate: float, model: str, use_case: str, adequate: float) -> None:
        """An answer that was predicted with `estimate` (before correction) turned out `adequate` (0..1)."""
        predicted, _ = self.correct(estimate, model, use_case)
        error = adequate - predicted
        curvature = max(predicted * (1.0 - predicted), 0.02)
        whole = self._models.setdefault(model, Offset(_MODEL_VARIANCE))
        key = (model, use_case)
        if key not in self._kinds and len(self._kinds) >= _MAX_KINDS:
            whole.move(error, curvature)
            return
        kind = self._kinds.setdefault(key, Offset(_KIND_VARIANCE))
        whole.move(error, curvature)
        kind.move(error, curvature)

    def state(self) -> dict[str, list[float]]:
        """What a checkpoint keeps."""
        models = {f"{m}\t": [o.mean, o.variance] for m, o in self._models.items()}
        kinds = {f"{m}\t{u}": [o.mean, o.variance] for (m, u), o in self._kinds.items()}
        return models | kinds

    def restore(self, state: dict[str, list[float]]) -> None:
        """Take up a checkpoint; raises `ValueError` where it is not one."""
        models: dict[str, Offset] = {}
        kinds: dict[tuple[str, str], Offset] = {}
        for key, (mean, variance) in state.items():
            model, _, use_case = key.partition("\t")
            offset = Offset(_KIND_VARIANCE if use_case else _MODEL_VARIANCE)
            offset.mean = min(max(mean, -_FARTHEST), _FARTHEST)
            offset.variance = min(max(variance, _LEAST_VARIANCE), offset.prior)
            if use_case:
                kinds[(model, use_case)] = offset
            else:
                models[model] = offset
        self._models, self._kinds = models, kinds
