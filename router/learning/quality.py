"""How far can the complexity estimate be believed for this model and this kind of prompt?

Each model has a `Belief` of its own: what feedback says of how far its estimates are off, and whether that has changed.
Feedback is late, and of the chosen model only; it moves no other model's belief. What was learned counts for less where
a prompt is more novel than those that it was learned on. Where a model has fallen its lower bound stands for its
estimate, until it is known again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from router.learning.belief import Belief
from router.learning.drift.reach import Reach
from router.learning.variants.descent import Descent
from router.learning.variants.young import Young
from router.stats.normal import logit, sigmoid

_MAX_MODELS = 4096
_KEPT = 0.5
"""How far two artefacts are taken to be wrong alike. Each correction says how far the estimates of *one* artefact are
off, so it is not simply true of the next one's; but two artefacts fitted on much the same outcomes miss the same
things about a deployment (its quantisation, its system prompt, its users). Setting the corrections aside would forget
that, keeping them would apply twice what the new artefact has already learned from the same feedback. Half is neither
measured nor tuned: it is what keeps the sign of a correction and makes it easy to overturn."""
_UNKNOWN = Belief()
"""What is believed of a model before any feedback; never taught."""
_LEAST_SLOPE = 0.02


class QualityModel:
    """P(adequate) by model and use case, corrected by feedback."""

    def __init__(self) -> None:
        self._models: dict[str, Belief] = {}
        self._reach: dict[str, Reach] = {}
        self.fallen: set[str] = set()
        """Models that fell and did not rise again."""
        self.frozen = False
        """Nothing is learned while it is."""
        self.observations = 0
        self.descents: Mapping[str, Descent] = {}
        """Models that start from what is believed of another."""
        self._young = Young()

    def _known(self, model: str) -> tuple[Belief, float]:
        """What is believed of a model, or else of the one it was made from, and the variance that lies between."""
        own = self._models.get(model)
        if own is not None:
            return own, 0.0
        between = 0.0
        for base, between in self.descents.get(model, ()):
            if base in self._models:
                return self._models[base], between
        return _UNKNOWN, between

    def correct(
        self,
        estimate: float,
        model: str,
        use_case: str,
        *,
        low: float | None = None,
        common: float | None = None,
        novelty: float = 0.0,
    ) -> tuple[float, float]:
        """Corrected P(adequate), and its lower bound: one standard deviation of what is believed of the model, and as
        far as the estimator's own bound `low` lies below its estimate, in quadrature. `common` is the mean of all
        models' log odds for the request, by default the estimate's own."""
        z = logit(estimate)
        belief, between = self._known(model)
        shift, variance = belief.shift(z, z if common is None else common, use_case)
        variance += between
        if novelty and model in self._reach:
            trust = self._reach[model].trust(novelty)
            if trust < 1.0:
                prior = _UNKNOWN.shift(z, z if common is None else common, use_case)[1]
                shift, variance = trust * shift, trust * variance + (1.0 - trust) * prior
        if low is not None:
            variance += (z - logit(low)) ** 2
        score = z + shift
        bound = sigmoid(score - math.sqrt(variance))
        return (bound if model in self.fallen else sigmoid(score)), bound

    def error(
        self, estimate: float, model: str, use_case: str, adequate: float, *, common: float | None = None
    ) -> tuple[float, float]:
        """P(adequate) as it is believed now, and how far an answer's truth is from it in standard deviations."""
        z = logit(estimate)
        belief = self._known(model)[0]
        p = sigmoid(z + belief.shift(z, z if common is None else common, use_case)[0])
        return p, (adequate - p) / math.sqrt(belief.dispersion * max(p * (1.0 - p), _LEAST_SLOPE))

    def observe(
        self,
        estimate: float,
        model: str,
        use_case: str,
        adequate: float,
        *,
        common: float | None = None,
        novelty: float = 0.0,
    ) -> str:
        """An answer that was predicted with `estimate` (before correction) turned out `adequate` (0..1). Says `fell` or
        `rose` where that shows that the model has changed, else nothing."""
        if self.frozen:
            return ""
        self.observations += 1
        belief = self._models.get(model)
        if belief is None:
            if len(self._models) >= _MAX_MODELS:
                return ""
            belief = self._models[model] = Belief.child(*self._known(model))
            self._young.add(model, self.descents.get(model, ()), self._models)
        self._reach.setdefault(model, Reach()).learn(novelty)
        z = logit(estimate)
        answer = (z, z if common is None else common, use_case, adequate)
        said = belief.learn(*answer)
        self._young.keep(model, answer)
        self._young.begin_again(model, self._models, self.descents)
        if belief.fallen:
            self.fallen.add(model)
        else:
            self.fallen.discard(model)
        return said

    def undo(self) -> None:
        """Take back what beliefs learned since their errors began to go down, and every fall."""
        self._young.forget()
        for belief in self._models.values():
            belief.undo()
        self.fallen.clear()

    def pardon(self, model: str) -> None:
        """A fallen model is taken for what it was, with the doubt of a new one."""
        self._young.forget()
        self._models[model].pardon()
        self.fallen.discard(model)

    def reopen(self, use_case: str | None = None) -> None:
        """Every model's belief of a use case, or all of it, is as open as at first; what it says stays."""
        self._young.forget()
        for belief in self._models.values():
            belief.reopen(use_case)
        if use_case is None:
            self.fallen.clear()

    def beliefs(self) -> Mapping[str, Belief]:
        """By model; to be looked at, not changed."""
        return self._models

    def carry_over(self) -> None:
        """Believe all of it less: other estimates are corrected from here on than those it was learned against."""
        self._young.forget()
        for belief in self._models.values():
            belief.carry_over(_KEPT)

    def state(self) -> dict[str, list[float]]:
        """What a checkpoint keeps: a row for each model, and one for each model and kind."""
        rows: dict[str, list[float]] = {}
        for model, belief in self._models.items():
            whole, kinds = belief.state()
            rows[f"{model}\t"] = whole
            rows |= {f"{model}\t{kind}": row for kind, row in kinds.items()}
        return rows

    def restore(self, state: dict[str, list[float]]) -> None:
        """Take up a checkpoint; raises `ValueError` where it is not one. A model of which it says what is known anyway
        stays as it is, with what no checkpoint keeps."""
        whole: dict[str, list[float]] = {}
        kinds: dict[str, dict[str, list[float]]] = {}
        for key, row in state.items():
            model, _, kind = key.partition("\t")
            if kind:
                kinds.setdefault(model, {})[kind] = row
            else:
                whole[model] = row
        models = sorted(whole.keys() | kinds.keys())[:_MAX_MODELS]
        found = {model: (whole.get(model), kinds.get(model, {})) for model in models}
        stays = {model: belief for model, belief in self._models.items() if belief.state() == found.get(model)}
        if not len(stays) == len(found) == len(self._models):
            self._young.forget()
        self._models = {model: stays.get(model) or Belief.of(*rows) for model, rows in found.items()}
        self._reach = {model: reach for model, reach in self._reach.items() if model in stays}
        self.fallen = {model for model, belief in self._models.items() if belief.fallen}
