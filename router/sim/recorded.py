"""An estimator that was recorded with the workload, in place of the trained one."""

from __future__ import annotations

from router.complexity.estimator import Estimator, Scored
from router.domain.deployment import Tier
from router.domain.request import Request
from router.sim.workload import Workload


class RecordedEstimator:
    """P(adequate) as a row's `estimate.MODEL` columns say; where a row has none, what `otherwise` says.

    Complexity is what the least adequate model's estimate leaves, and the use case is the row's class: a recorded
    workload has no text to tell more by.
    """

    def __init__(self, workload: Workload, otherwise: Estimator) -> None:
        self._workload = workload
        self._otherwise = otherwise

    def estimate(self, request: Request) -> Scored:
        """See `router.complexity.estimator.Estimator`."""
        recorded = self._workload.estimates(request.id)
        if not recorded:
            return self._otherwise.estimate(request)
        least, most = min(recorded.values()), max(recorded.values())
        return Scored(
            complexity=1.0 - least,
            use_case=request.request_class or "recorded",
            estimates=recorded,
            tiers={Tier.SMALL: least, Tier.LARGE: most},
            features=tuple((f"estimate.{model}", p) for model, p in sorted(recorded.items())),
        )
