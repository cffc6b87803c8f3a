"""Which estimator? (placeholder surface: `default_estimator()` is the shipped prior, `load_estimator(data)` a trained one)"""

from __future__ import annotations

from router.complexity.estimator import Estimator, Scored
from router.domain.deployment import Tier
from router.domain.request import Request


class _Stub:
    def estimate(self, request: Request) -> Scored:
        return Scored(0.4, "chat", {}, {Tier.SMALL: 0.6, Tier.LARGE: 0.92})


def default_estimator() -> Estimator:
    """The shipped prior."""
    return _Stub()


def load_estimator(data: bytes) -> Estimator:
    """A trained artefact."""
    return _Stub()
