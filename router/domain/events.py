"""What happened. The core returns these; `telemetry` turns them into metrics, logs and the decision log."""

from __future__ import annotations

from msgspec import Struct

from router.domain.decision import Decision
from router.domain.outcome import Outcome
from router.domain.request import Request


class Event(Struct, frozen=True, tag_field="event", tag=True):
    """Base of all events."""


class RequestReceived(Event, frozen=True):
    """A request entered the dispatcher; `now - request.arrived` is the ingress phase."""

    request: Request
    request_class: str
    now: float | None = None


class RequestRejected(Event, frozen=True):
    """Refused, expired in the queue, or evicted, before any call. `stage`: admission, queue, decision."""

    request: Request
    request_class: str
    code: str
    stage: str
    now: float


class DecisionMade(Event, frozen=True):
    """One pick with its evidence."""

    decision: Decision


class AttemptEnded(Event, frozen=True):
    """One call ended. Phases in seconds; `None` where the phase was not reached."""

    outcome: Outcome
    request_class: str
    batch_wait_s: float | None
    first_token_s: float | None
    decode_s: float | None
    network_s: float | None = None
    """Connecting and sending, until the backend had the request; part of `first_token_s`."""


class RequestEnded(Event, frozen=True):
    """A request is answered or has failed for good. `met` has one entry for each objective of the class."""

    request: Request
    request_class: str
    decision_id: str
    deployment: str
    model: str
    tier: str
    status: str
    code: str | None
    attempts: int
    ttft_s: float | None
    tpot_s: float | None
    e2e_s: float
    queue_s: float
    overhead_s: float
    input_tokens: int
    output_tokens: int
    cost_usd: float
    baseline_cost_usd: float
    met: tuple[tuple[str, bool], ...]
    slo_met: bool
    at: float


class FeedbackReceived(Event, frozen=True):
    """A quality in [0,1] for a decision. `known` is false for unknown or late ids, which teach nothing."""

    decision_id: str
    quality: float
    known: bool
    request_class: str = ""
    model: str = ""


class LimitUpdate(Event, frozen=True):
    """A concurrency limit or batch size moved, and why."""

    deployment: str
    what: str
    old: float
    new: float
    reason: str


class PriceUpdate(Event, frozen=True):
    """A dual price moved. `kind`: floor, usd, capacity."""

    kind: str
    subject: str
    old: float
    new: float
    reason: str


class HealthChanged(Event, frozen=True):
    """A deployment opened, half-opened or closed its circuit."""

    deployment: str
    old: str
    new: str
    reason: str


class PolicyApplied(Event, frozen=True):
    """A new policy is in force."""

    old: str
    new: str
    diff: tuple[str, ...]
    at: float


class PolicyRejected(Event, frozen=True):
    """An edit could not be accepted; the old policy stays."""

    digest: str
    problems: tuple[str, ...]
    at: float


class CheckpointSaved(Event, frozen=True):
    """The learned state was written."""

    path: str
    size_bytes: int
    at: float


class LoadObserved(Event, frozen=True):
    """The state of one deployment at a tick."""

    deployment: str
    in_flight: int
    limit: float | None
    waiting_tokens: int
    context_tokens: int
    saturation_ratio: float
    multiplier: float


class QueueObserved(Event, frozen=True):
    """The router's own queue at a tick."""

    waiting: int
    oldest_s: float


class IngressEvent(Event, frozen=True):
    """Something at the door. `what`: connected, disconnected, redelivered, duplicate, dead_letter, paused,
    resumed, replied, recovered, cut_call, client_gone, invalid, conflict, refused (the broker will not take a
    publish), feedback_unknown, journal_failed. `seconds` is how long it took where that is known: for `replied`,
    from the end of the answer to its last byte handed over (the reply phase)."""

    source: str
    what: str
    detail: str = ""
    count: int = 1
    at: float = 0.0
    seconds: float | None = None
