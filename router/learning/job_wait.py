"""How long does a batch job keep a request before its answer is there?

Hours as a rule, and alike for all of a job: so one job is one observation, by the longest wait of its records. Few jobs
are seen, so what the operator says counts as two of them. Median and spread are those of the log. A request that waits
longer than the median is news: the median is not believed to be shorter for as long as it waits.
"""

from __future__ import annotations

import math
from collections import deque

from router.learning.latency import Residual

_PRIOR_JOBS = 2.0
_PRIOR_SIGMA = 0.5
_LEAST_SIGMA = 0.1
_JOBS = 32
_MOST_LOG = 50.0
_ONE_JOB_S = 60.0
"""Answers within so many seconds of the first are of the same job."""
_MOSTLY = 0.8416212335729143
"""Standard normal quantile of .8."""


class JobWait:
    """The wait of one lane of jobs. `residual` carries its spread to where latencies are judged."""

    __slots__ = ("_jobs", "_median_s", "_prior", "_until", "residual", "typical_s")

    def __init__(self, prior_s: float) -> None:
        self._prior = math.log(prior_s)
        self._jobs: deque[float] = deque(maxlen=_JOBS)
        self._until = -math.inf
        self.residual = Residual(_PRIOR_SIGMA)
        self._median_s = self.typical_s = prior_s
        """Median seconds."""

    @property
    def mostly_s(self) -> float:
        """Seconds that four of five stay under."""
        return self.typical_s * math.exp(_MOSTLY * self.residual.sigma)

    def observe(self, waited_s: float, *, now: float) -> None:
        """A request was answered, or a job was over, after this long."""
        log = math.log(max(waited_s, 1e-3))
        if now < self._until:
            self._jobs[-1] = max(self._jobs[-1], log)
        else:
            self._jobs.append(log)
            self._until = now + _ONE_JOB_S
        self._fit()

    def state(self) -> list[float]:
        """The log of each job's seconds."""
        return list(self._jobs)

    def restore(self, jobs: list[float]) -> None:
        """Take up what was saved; raises `ValueError` where it is none."""
        if not all(isinstance(job, float | int) and abs(job) < _MOST_LOG for job in jobs):
            raise ValueError("the waits of jobs are logs of seconds")
        self._jobs = deque(jobs, maxlen=_JOBS)
        self._fit()

    def _fit(self) -> None:
        weight = _PRIOR_JOBS + len(self._jobs)
        mean = (_PRIOR_JOBS * self._prior + sum(self._jobs)) / weight
        squares = _PRIOR_JOBS * _PRIOR_SIGMA**2 + sum((job - mean) ** 2 for job in self._jobs)
        self.residual.restore(0.0, max(squares / weight, _LEAST_SIGMA**2))
        self._median_s = self.typical_s = math.exp(mean)

    def observe_waiting(self, waited_s: float) -> None:
        """The one that has waited longest has waited this long (0 for none)."""
        self.typical_s = max(self._median_s, waited_s)
