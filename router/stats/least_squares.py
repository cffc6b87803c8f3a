"""Decayed least squares that never strays far from what was known before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
_LARGEST = 1e12
_LEAST_TRACE = 1e-12
_ROUNDING = 1e-9


class ScaledFit:
    """Fits multipliers `theta` of `y = sum(theta[i] * x[i])` around a prior of ones.

    Each `x[i]` is the i-th term as the prior predicts it, so `theta` is 1 where the prior is right. A ridge of
    `prior_weight` samples' worth of evidence holds it there, old samples fade by `decay` each, and `theta` stays
    within `[low, high]`: a bad stretch of data bends the fit, it cannot break it.
    """

    def __init__(self, size: int, *, prior_weight: float, decay: float, low: float = 0.25, high: float = 4.0) -> None:
        self.theta: Vector = np.ones(size)
        self.samples = 0
        self._evidence = 0.0
        self._normal = np.zeros((size, size))
        self._moment: Vector = np.zeros(size)
        self._prior_weight, self._decay, self._low, self._high = prior_weight, decay, low, high

    def add(self, x: tuple[float, ...], y: float) -> None:
        """One observation; `y` and every term in the same unit. Scaled by y, so errors are relative."""
        row = np.asarray(x) / y
        self._normal *= self._decay
        self._moment *= self._decay
        self._normal += np.outer(row, row)
        self._moment += row
        self._evidence = self._evidence * self._decay + 1.0
        self.samples += 1

    def solve(self) -> Vector:
        """Refit and return `theta`."""
        trace = float(np.trace(self._normal))
        if trace <= _LEAST_TRACE:
            return self.theta
        ridge = self._prior_weight * np.maximum(np.diag(self._normal), 1e-3 * trace) / max(self._evidence, 1.0)
        solved = np.linalg.solve(self._normal + np.diag(ridge), self._moment + ridge)
        self.theta = np.clip(solved, self._low, self._high)
        return self.theta

    def state(self) -> dict[str, list[float]]:
        """What a checkpoint keeps."""
        return {
            "theta": self.theta.tolist(),
            "normal": self._normal.ravel().tolist(),
            "moment": self._moment.tolist(),
            "samples": [float(self.samples), self._evidence],
        }

    def restore(self, state: dict[str, list[float]]) -> None:
        """Take up a checkpoint; raises `ValueError` or `KeyError` where it is not one of this size."""
        size = len(self.theta)
        theta = np.asarray(state["theta"], dtype=np.float64).reshape(size)
        normal = np.asarray(state["normal"], dtype=np.float64).reshape(size, size)
        moment = np.asarray(state["moment"], dtype=np.float64).reshape(size)
        samples, evidence = state["samples"]
        if max(float(np.abs(normal).max()), float(np.abs(moment).max())) > _LARGEST:
            raise ValueError("the normal equations are out of range")
        least = float(np.linalg.eigvalsh(normal).min())
        if not np.allclose(normal, normal.T) or least < -_ROUNDING * float(np.trace(normal)):
            raise ValueError("the normal matrix is not one of a sum of squares")
        self.theta, self._normal, self._moment = np.clip(theta, self._low, self._high), normal, moment
        self.samples, self._evidence = int(samples), min(max(evidence, 0.0), 1.0 / (1.0 - self._decay))
