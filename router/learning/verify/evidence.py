"""What is a grade worth? P(adequate | answer), by model and check, calibrated by feedback.

By Bayes' rule a grade moves the log odds of P(adequate) by its log likelihood ratio, log P(grade | adequate) less
log P(grade | inadequate). Counting grades among answers found adequate and inadequate would estimate it wrongly here:
an answer that fails is mostly made again and never judged, so the judged ones have nearly all passed (verification
bias; Begg and Greenes, Biometrics 39, 1983, 207-215). Whether an answer is judged depends on P(adequate) and the
grades alone, so what is estimated *given* those is not biased: each ratio is a Gaussian, moved by feedback by one step
of logistic regression on the log odds before the check. A grade that is never judged keeps its prior, which is weak.

How often each grade comes is counted over all checked answers (a Dirichlet, Beta where a check passes or fails); with
the ratios that gives P(grade) for an answer that does not exist yet. Counts also tie the ratios to each other: what the
grades say must average out to what was believed before, so a common factor is not free (`_Record.settle`). Without
that, feedback on answers that passed could not tell a good model from a telling check. Checks after a failed one do
not run, so counts and ratios are of answers that passed what came before: products along the chain count nothing twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from router.domain.slo import Check
from router.learning.verify.checks import FAIL, PASS, Grades
from router.learning.verify.verdicts import Verdicts
from router.stats.normal import logit, sigmoid

_RARE = {PASS: (0.98, 0.90), FAIL: (0.02, 0.10)}
_ASKED = {PASS: (0.98, 0.70), FAIL: (0.02, 0.30)}
PRIOR: dict[Check, dict[str, tuple[float, float]]] = {
    Check.TRUNCATION: {PASS: (0.97, 0.88), FAIL: (0.03, 0.12)},
    Check.REFUSAL: _RARE,
    Check.FORMAT: _ASKED,
    Check.JSON: _ASKED,
    Check.REGEX: _ASKED,
    Check.LOGPROB: {"high": (0.40, 0.30), "middle": (0.35, 0.30), "low": (0.20, 0.25), FAIL: (0.05, 0.15)},
    Check.CALLBACK: {PASS: (0.95, 0.75), FAIL: (0.05, 0.25)},
}
"""P(grade | adequate) and P(grade | inadequate) before anything is known: what the sender asked for in so many words is
the best evidence, sureness the weakest."""
_PRIOR_P = 0.7
_PRIOR_COUNT = 20.0
_MEMORY = 2000.0
"""Answers after which a count weighs 1/e."""
_VARIANCE = 1.0
"""Of a ratio before any feedback: it may well be worth nothing."""
_MOST_AUDITED = 0.5
"""Share of the answers that fail a check that are sent at most to learn what it is worth."""
_DRIFT_PER_OBSERVATION = 2e-5
"""A ratio ends up remembering some 600 judged answers."""
_LEAST_CURVATURE = 0.02
_FARTHEST = 8.0
_LEAST_VARIANCE = 1e-4
_STEPS, _CLOSE = 8, 1e-6


class _Grade:
    """How often a grade comes, and a Gaussian belief about its log likelihood ratio."""

    __slots__ = ("count", "mean", "variance")

    def __init__(self, adequate: float, inadequate: float) -> None:
        self.count = _PRIOR_COUNT * (_PRIOR_P * adequate + (1.0 - _PRIOR_P) * inadequate)
        self.mean = math.log(adequate / inadequate)
        self.variance = _VARIANCE

    def move(self, error: float, curvature: float) -> None:
        """One step against `error = observed - predicted`."""
        self.variance = min(self.variance + _DRIFT_PER_OBSERVATION, _VARIANCE)
        self.variance = 1.0 / (1.0 / self.variance + curvature)
        self.mean += self.variance * error


class _Record:
    """One check of one model: its grades, and the mean P(adequate) of the answers that came to it."""

    __slots__ = ("grades", "p_mean")

    def __init__(self, check: Check) -> None:
        self.grades = {name: _Grade(*prior) for name, prior in PRIOR[check].items()}
        self.p_mean = _PRIOR_P

    def settle(self) -> None:
        """Scale the ratios L by one factor so that sum(r / (L * p_mean + 1 - p_mean)) = 1 over the rates r: then
        P(grade | inadequate) and P(grade | adequate) each add up to 1, and P(adequate) after a check is on average what
        it was before. The sum falls as the factor grows: Newton's steps on its logarithm."""
        mean, total = self.p_mean, sum(one.count for one in self.grades.values())
        for _ in range(_STEPS):
            excess = slope = 0.0
            for one in self.grades.values():
                pull = math.exp(one.mean) * mean
                below = pull + 1.0 - mean
                excess += one.count / total / below
                slope += one.count / total * pull / (below * below)
            step = min(max((excess - 1.0) / max(slope, 1e-6), -1.0), 1.0)
            for one in self.grades.values():
                one.mean = min(max(one.mean + step, -_FARTHEST), _FARTHEST)
            if abs(step) < _CLOSE:
                return

    def count(self, grade: str, p: float) -> None:
        """An answer of P(adequate) `p` got this grade."""
        total = sum(one.count for one in self.grades.values())
        kept = 1.0 - 1.0 / _MEMORY if total > _MEMORY else 1.0
        for one in self.grades.values():
            one.count *= kept
        self.grades[grade].count += 1.0
        self.p_mean += (p - self.p_mean) / (min(total, _MEMORY) + 1.0)
        self.settle()

    def chances(self, p: float) -> list[tuple[str, float]]:
        """P(grade) for an answer of P(adequate) `p`: from rate r and ratio L, P(grade | inadequate) is
        r / (L * p_mean + 1 - p_mean), and L times that where it is adequate."""
        mean = self.p_mean
        ratios = {name: math.exp(one.mean) for name, one in self.grades.items()}
        inadequate = {n: one.count / (ratios[n] * mean + 1.0 - mean) for n, one in self.grades.items()}
        among_bad = sum(inadequate.values())
        among_good = sum(ratios[n] * x for n, x in inadequate.items())
        return [(n, p * ratios[n] * x / among_good + (1.0 - p) * x / among_bad) for n, x in inadequate.items()]


class CheckModel:
    """What every grade of every check is worth, by model."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, Check], _Record] = {}
        self._unknown = {check: _Record(check) for check in Check}
        self.frozen = False
        """Nothing is learned while it is."""
        self.verdicts = Verdicts()

    def _known(self, model: str, check: Check) -> _Record:
        """What is known of a check of a model: the prior where that is nothing."""
        return self._records.get((model, check), self._unknown[check])

    def _record(self, model: str, check: Check) -> _Record:
        found = self._records.get((model, check))
        if found is None:
            found = self._records[(model, check)] = _Record(check)
        return found

    def shift(self, model: str, grades: Grades) -> float:
        """By how much these grades move the log odds of P(adequate) of an answer of the model."""
        return sum(self._known(model, check).grades[grade].mean for check, grade in grades)

    def audited(self, model: str, grades: Grades, share: float) -> float:
        """With what probability an answer that failed should be sent to learn from, where `share` of all answers may:
        the more, the less is known of what the failed check is worth, and `share` of the failed ones at least, where
        that is not over a half."""
        if not grades or grades[-1][1] != FAIL or share <= 0.0:
            return 0.0
        record = self._known(model, grades[-1][0])
        one = record.grades[FAIL]
        rate = one.count / sum(other.count for other in record.grades.values())
        return min(max(share / rate * one.variance / _VARIANCE, share), _MOST_AUDITED)

    def after(self, p: float, model: str, grades: Grades) -> float:
        """P(adequate | grades) where it was `p` before."""
        return sigmoid(logit(p) + self.shift(model, grades))

    def chances(self, p: float, model: str, check: Check) -> list[tuple[str, float]]:
        """Every grade that an answer of P(adequate) `p` may get, with its probability."""
        return self._known(model, check).chances(p)

    def on_checked(self, p: float, model: str, grades: Grades) -> None:
        """An answer of P(adequate) `p` was checked."""
        if self.frozen:
            return
        for i, (check, grade) in enumerate(grades):
            self._record(model, check).count(grade, self.after(p, model, grades[:i]))

    def observe(self, p: float, model: str, grades: Grades, adequate: float) -> None:
        """A checked answer, of P(adequate) `p` before the checks, turned out `adequate` (0..1)."""
        if self.frozen:
            return
        predicted = self.after(p, model, grades)
        curvature = max(predicted * (1.0 - predicted), _LEAST_CURVATURE)
        for check, grade in grades:
            record = self._record(model, check)
            record.grades[grade].move(adequate - predicted, curvature)
            record.settle()

    def state(self) -> dict[str, list[float]]:
        """What a checkpoint keeps."""
        rows: dict[str, list[float]] = {}
        for (model, check), record in self._records.items():
            for name, one in record.grades.items():
                rows[f"{model}\t{check}\t{name}"] = [one.mean, one.variance, one.count, record.p_mean]
        return rows

    def restore(self, state: dict[str, list[float]]) -> None:
        """Take up a checkpoint; raises `ValueError` or `KeyError` where it is not one."""
        records: dict[tuple[str, Check], _Record] = {}
        for key, row in state.items():
            model, name, grade = key.split("\t")
            mean, variance, count, p_mean = _finite(row)
            record = records.setdefault((model, Check(name)), _Record(Check(name)))
            one = record.grades[grade]
            one.mean = min(max(mean, -_FARTHEST), _FARTHEST)
            one.variance = min(max(variance, _LEAST_VARIANCE), _VARIANCE)
            one.count = min(max(count, 1e-3), 2.0 * _MEMORY)
            record.p_mean = min(max(p_mean, 0.0), 1.0)
        self._records = records


def _finite(row: Sequence[float]) -> Sequence[float]:
    if not all(math.isfinite(value) for value in row):
        raise ValueError("a checkpoint holds finite numbers")
    return row
