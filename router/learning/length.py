"""How long will the answer be?

Log-normal per request class and model, learned from what ended; longer prompts within a class make little difference
that the class does not already tell. Falls back from (class, model) to model to the prior.
"""

from __future__ import annotations

import math

from router.stats.ewma import Ewma

_PRIOR_LOG_MEAN = math.log(150.0)
_PRIOR_LOG_VARIANCE = 0.8
_HALF_LIFE_S = 900.0
_BELIEF = 8.0
_MAX_KEYS = 4096
_LONGEST_LOG = math.log(1e6)
_HEAVIEST = 1e6
_Z97 = 1.8808
"""Standard normal quantile at 0.97."""


class LengthModel:
    """Output tokens by (class, model)."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[str, str], Ewma] = {}
        self._by_model: dict[str, Ewma] = {}
        self.frozen = False
        """Nothing is learned while it is."""
        self.observations = 0

    def expect(self, request_class: str, model: str, max_tokens: int | None) -> float:
        """Mean output tokens, cut at `max_tokens`."""
        learned = self._find(request_class, model)
        if learned is None:
            mean = math.exp(_PRIOR_LOG_MEAN + 0.5 * _PRIOR_LOG_VARIANCE)
        else:
            mean = math.exp(learned.mean + 0.5 * min(learned.variance, 2.0))
        return mean if max_tokens is None else min(mean, float(max_tokens))

    def p97(self, request_class: str, model: str, max_tokens: int | None) -> float:
        """Output tokens that 97 of 100 answers stay under, cut at `max_tokens`."""
        learned = self._find(request_class, model)
        if learned is None:
            tokens = math.exp(_PRIOR_LOG_MEAN + _Z97 * math.sqrt(_PRIOR_LOG_VARIANCE))
        else:
            tokens = math.exp(learned.mean + _Z97 * math.sqrt(min(learned.variance, 2.0)))
        return tokens if max_tokens is None else min(tokens, float(max_tokens))

    def observe(self, request_class: str, model: str, output_tokens: int, *, now: float) -> None:
        """One answer that ended, by itself or at its `max_tokens`."""
        if self.frozen:
            return
        self.observations += 1
        value = math.log(max(output_tokens, 1))
        self._at(self._by_model, model).update(value, now=now)
        key = (request_class, model)
        if key in self._by_key or len(self._by_key) < _MAX_KEYS:
            if key not in self._by_key:
                parent = self._by_model[model]
                self._by_key[key] = _fresh(parent.mean, parent.variance)
            self._by_key[key].update(value, now=now)

    def _find(self, request_class: str, model: str) -> Ewma | None:
        return self._by_key.get((request_class, model)) or self._by_model.get(model)

    @staticmethod
    def _at(table: dict[str, Ewma], key: str) -> Ewma:
        if key not in table:
            table[key] = _fresh(_PRIOR_LOG_MEAN, _PRIOR_LOG_VARIANCE)
        return table[key]

    def state(self) -> dict[str, list[float]]:
        """What a checkpoint keeps."""
        models = {f"\t{m}": _row(e) for m, e in self._by_model.items()}
        keys = {f"{c}\t{m}": _row(e) for (c, m), e in self._by_key.items()}
        return models | keys

    def restore(self, state: dict[str, list[float]]) -> None:
        """Take up a checkpoint; raises `ValueError` where it is not one. What it says the same of stays as it is, with
        the time of the last answer."""
        by_key: dict[tuple[str, str], Ewma] = {}
        by_model: dict[str, Ewma] = {}
        for key, row in state.items():
            name, _, model = key.partition("\t")
            known = self._by_key.get((name, model)) if name else self._by_model.get(model)
            learned = known if known is not None and _row(known) == row else _of(row)
            if name:
                by_key[(name, model)] = learned
            else:
                by_model[model] = learned
        self._by_key, self._by_model = by_key, by_model


def _fresh(mean: float, variance: float) -> Ewma:
    return Ewma(_HALF_LIFE_S, mean=mean, variance=variance, weight=_BELIEF)


def _row(learned: Ewma) -> list[float]:
    return [learned.mean, learned.variance, learned.weight]


def _of(row: list[float]) -> Ewma:
    mean, variance, weight = row
    return Ewma(
        _HALF_LIFE_S,
        mean=min(max(mean, 0.0), _LONGEST_LOG),
        variance=min(max(variance, 0.0), 4.0),
        weight=min(max(weight, 1.0), _HEAVIEST),
    )
