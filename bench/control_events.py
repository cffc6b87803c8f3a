"""What the control loops tell of batches, reserved capacity, lanes, replicas, windows, predictions and themselves."""

from __future__ import annotations

from collections.abc import Iterator

from router.domain.control.allowance import AllowanceObserved
from router.domain.control.batches import BatchEnded, Start
from router.domain.control.capacity import GroupObserved, LaneChanged, ReserveObserved, SpillChanged, WantedReplicas
from router.domain.control.fanout import FanoutEnded
from router.domain.control.jobs import AnswersUnused, JobChanged, JobsObserved, RecordsReturned
from router.domain.control.provisioned import (
    ControlPlaneHeard,
    ProvisionedChanged,
    ProvisionedObserved,
    Reconciled,
    Tally,
)
from router.domain.control.servers import ServerAsked
from router.domain.control.stability import CoverageChanged, KnowledgeChanged, PredictionsScored, TuningChanged
from router.domain.control.windows import WindowClosed
from router.domain.events import CeilingUpdate, Event, LimitUpdate, PriceUpdate
from router.policy.policy import Policy

_LANES = ("default", "flex", "priority")
_KNOWN = ("fresh", "ledger", "conservative", "blind")


def control_events(number: int, of: Policy) -> Iterator[Event]:
    """One tick of all loops."""
    reasons, name = tuple(Start), of.classes[0].name
    for one in of.deployments:
        late, dropped, start = number % 2, number % 3, reasons[number % len(reasons)].value
        took_s = 0.08 if number % 3 else 0.12
        yield BatchEnded(one.name, 8 + number % 24, start, 0.02, took_s, 0.075, 0.1, dropped, late)
        yield ReserveObserved(one.name, 60_000.0, 9_000.0, 60.0, 0.6, 0.45, 0.006, 0.12)
        yield LimitUpdate(one.name, "tokens", 9e4, 8e4, "time per output token")
        yield LimitUpdate(one.name, "input_tokens_per_min", 1e5, 9e4, "throttled")
        yield LimitUpdate(one.name, "output_tokens_per_min", 2e4, 1.8e4, "throttled")
        yield LimitUpdate(one.name, "in_flight", 32.0, 24.0, "time per output token", advised=True)
        yield PriceUpdate("capacity", one.name, 0.0, 0.4, "predictions press on the objectives", advised=True)
        yield PriceUpdate("input_tokens", one.name, 0.0, 0.2, "the bucket is drained")
        yield PriceUpdate("output_tokens", one.name, 0.0, 0.1, "the bucket is drained")
        for what in ("ttft", "tpot"):
            yield PredictionsScored(one.name, what, 18, 1, 1, 0.9)
            yield CoverageChanged(one.name, what, "holds", "narrow", 0.76, "too many calls came out over")
        known = _KNOWN[number % 4]
        yield KnowledgeChanged(one.name, _KNOWN[(number - 1) % 4], known, 2.0, "nothing was heard")
        yield GroupObserved(one.group, 3, 2.4, 2)
        yield ServerAsked(one.name, "timeout", 1_900_000_000.0)
        yield ServerAsked(one.name, "ok", 1_900_000_000.0, 12, 3, 0.4)
        yield WantedReplicas(one.group, 2, 3, "offered work")
        yield CeilingUpdate(name, one.model, 1024, 800, 0.01, "p97 is shorter", advised=True)
    first = of.deployments[0].name
    yield SpillChanged(first, "filling", ("spilling", "filling")[number % 2], "a bucket is half drained")
    yield LaneChanged(name, "flex", _LANES[number % 3], first, ("room", "slack")[number % 2], 1.5, 20.0)
    yield TuningChanged(name, "free", ("frozen", "free")[number % 2], "the error budget burns")
    yield WindowClosed(12, 2)
    yield FanoutEnded("r", ("completed", "partial")[number % 2], 3, 1, number % 2, 0, "completed", 4.2, 12.1, 0.0)
    yield AllowanceObserved(first, 1000.0, 2e6, 0.2, 0.6)
    yield JobsObserved(first, 80, 600.0, 400, (("InProgress", 2),), 3600.0, 7200.0)
    yield JobChanged(first, "token", "Submitted", ("InProgress", "Completed")[number % 2], 400, 60.0)
    yield RecordsReturned(first, ("batch_late", "batch_failed")[number % 2], 3)
    yield AnswersUnused(first, "token", 2, 0.01)
    yield ProvisionedObserved(first, "InService", 2, 2, 1_900_000_000.0)
    yield ProvisionedChanged(first, "Creating", "InService", "takes calls")
    counted = Tally(120.0, 2.0, 60_000.0, 9_000.0, 1.4, 0.3)
    yield Reconciled((first,), "arn", 600.0, 1_800_000_000.0, counted, counted, 4e4)
    yield ControlPlaneHeard("bedrock", "us-east-1", True, "it answers again")
