"""What AWS says of the capacity that was bought there, and of the calls it counted."""

from __future__ import annotations

from msgspec import Struct

from router.domain.events import Event


class ProvisionedObserved(Event, frozen=True):
    """Provisioned throughput as it was described. `status`: Creating, InService, Updating, Failed, or missing where
    there is none of that name. `ends_at` is the wall time at which its commitment ends, `None` without one."""

    deployment: str
    status: str
    units: int
    desired_units: int
    ends_at: float | None = None


class ProvisionedChanged(Event, frozen=True):
    """Its status is another one. A deployment that takes no calls in the new status is out of routing until it does."""

    deployment: str
    old: str
    new: str
    reason: str


class Tally(Struct, frozen=True):
    """Calls of a stretch of time: those that were answered, those that were throttled, and tokens. Latencies are
    seconds on average, `None` where nobody measured any."""

    calls: float = 0.0
    throttles: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    latency_s: float | None = None
    ttft_s: float | None = None

    def __add__(self, other: Tally) -> Tally:
        """Both together; averages by calls."""
        return Tally(
            self.calls + other.calls,
            self.throttles + other.throttles,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            _mean(self.latency_s, self.calls, other.latency_s, other.calls),
            _mean(self.ttft_s, self.calls, other.ttft_s, other.calls),
        )


def _mean(one: float | None, weight: float, other: float | None, others: float) -> float | None:
    if one is None or other is None or not weight + others:
        return other if one is None else one
    return (one * weight + other * others) / (weight + others)


class Reconciled(Event, frozen=True):
    """What CloudWatch counted for a model id against what this router counted for the deployments that call it, over
    `seconds` that ended at wall time `ended_at`. `quota_tokens_per_min` is CloudWatch's estimate of the quota used."""

    deployments: tuple[str, ...]
    model_id: str
    seconds: float
    ended_at: float
    theirs: Tally
    ours: Tally
    quota_tokens_per_min: float | None = None

    @property
    def gap_ratio(self) -> float:
        """Share of the calls on the side that has more that the other side has not: above 0 where CloudWatch counted
        more (somebody else calls the model too), below 0 where it counted less; 0 where there were none."""
        more = max(self.theirs.calls, self.ours.calls)
        return (self.theirs.calls - self.ours.calls) / more if more else 0.0


class ControlPlaneHeard(Event, frozen=True):
    """A service of AWS that is asked now and then answers again, or has stopped to; told when that changes. Requests
    do not depend on it."""

    service: str
    region: str
    answers: bool
    reason: str
