"""What happened. The core returns these; `telemetry` turns them into metrics, logs and the decision log."""

from __future__ import annotations

from msgspec import Struct

from router.domain.decision import Decision, Terms
from router.domain.outcome import Outcome
from router.domain.request import Request

CACHE = "cache"
"""Stands for a deployment where an answer was made for an earlier request."""

SENDER, JUDGE = "sender", "judge"
"""Who told a quality: the sender or a check it runs, or a deployment that the class names as its judge."""


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
    arm: str = ""


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
    """A request is answered or has failed for good. `met` has one entry for each objective of the class, `p_adequate`
    is of the model that answered; `answer_cost_usd` is of its call, `cost_source` where the prices are from."""

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
    arm: str = ""
    p_adequate: float | None = None
    answer_cost_usd: float = 0.0
    cost_source: str = ""


class FeedbackReceived(Event, frozen=True):
    """A quality in [0,1] for a decision. `known` is false for unknown or late ids, which teach nothing."""

    decision_id: str
    quality: float
    known: bool
    request_class: str = ""
    model: str = ""
    source: str = SENDER
    propensity: float | None = None
    """With what probability the decision was drawn to be judged; `None` where nobody drew it."""


class LimitUpdate(Event, frozen=True):
    """A concurrency limit or batch size moved, and why; `advised`: it would have."""

    deployment: str
    what: str
    old: float
    new: float
    reason: str
    advised: bool = False


class PriceUpdate(Event, frozen=True):
    """A dual price moved, or would have (`advised`). `kind`: floor, usd, capacity; tenant, which is 1 while those
    within their share go first."""

    kind: str
    subject: str
    old: float
    new: float
    reason: str
    advised: bool = False


class HealthChanged(Event, frozen=True):
    """A deployment opened, half-opened or closed its circuit."""

    deployment: str
    old: str
    new: str
    reason: str


class PolicySource(Struct, frozen=True):
    """Where the text of a policy came from: the files that differ from the text before, and the commit, its author and
    whether the tree was edited since, where the directory is under git."""

    directory: str
    changed: tuple[str, ...] = ()
    commit: str | None = None
    author: str | None = None
    edited: bool = False


class PolicyApplied(Event, frozen=True):
    """A new policy is in force, or on its way by the rollouts of its classes."""

    old: str
    new: str
    diff: tuple[str, ...]
    at: float
    source: PolicySource | None = None


class PolicyRejected(Event, frozen=True):
    """An edit could not be accepted; the old policy stays."""

    digest: str
    problems: tuple[str, ...]
    at: float
    source: PolicySource | None = None


class RolloutChanged(Event, frozen=True):
    """The rollout of a class's edit, or an experiment of it, went on. `state`: shadow, waiting (for the decision log),
    refused (by it), canary, promoted, rolled_back, superseded (by another edit), ab, concluded. `ratio` is the share
    of the class's requests that get the new side, `version` the digest of what is rolled out."""

    request_class: str
    state: str
    ratio: float
    version: str
    reason: str
    at: float


class ShadowCompared(Event, frozen=True):
    """What the edit of a class would have decided for the same request at the same moment. `would` is empty and `code`
    says why where it would have refused; `shadow` are the terms of its pick."""

    decision_id: str
    request_class: str
    version: str
    chosen: str
    would: str
    code: str | None
    live: Terms
    shadow: Terms | None


class ExperimentObserved(Event, frozen=True):
    """One arm of a rollout or experiment at a tick: how many of its requests ended, and the mean of a measure with the
    interval that stays valid however often it is looked at. `measure`: useful, slo, quality, cost."""

    request_class: str
    arm: str
    measure: str
    requests: int
    mean: float
    low: float
    high: float


class BudgetObserved(Event, frozen=True):
    """The budget of a class at a tick. Spent and reserved are of the running day."""

    request_class: str
    spent_usd: float
    reserved_usd: float
    limit_usd: float


class BudgetChanged(Event, frozen=True):
    """A class has spent its budget (`open` false), or has one again."""

    request_class: str
    open: bool
    spent_usd: float
    limit_usd: float
    reason: str
    at: float


class CacheUsed(Event, frozen=True):
    """A class with a cache took a request. `result`: hit, joined (waited for the same request under way), miss,
    bypass (not deterministic). `saved_usd` is what the answer had cost."""

    request_class: str
    result: str
    saved_usd: float = 0.0


class CascadeChecked(Event, frozen=True):
    """An answer was checked before it was sent. `why` is the check that it failed, or `passed`; `grades` are what each
    said, in order. P(adequate) is of this answer, before and after; `escalated`: it is made again elsewhere.
    `propensity` is that of what is done, making it again or sending it."""

    request_class: str
    deployment: str
    passed: bool
    why: str
    p_adequate_before: float
    p_adequate_after: float
    escalated: bool
    decision_id: str = ""
    grades: tuple[tuple[str, str], ...] = ()
    propensity: float = 1.0


class AnswerJudged(Event, frozen=True):
    """What became of an answer that was drawn to be judged. `verdict`: adequate, inadequate; unreadable (the judge said
    nothing that can be read), failed (its call did), stopped (the router shut down); or why there was no call: busy,
    over_budget, wrong_residency, too_long, not_text, unavailable. `propensity` is the probability of the draw, `model`
    that which answered, `call_id` the id under which the call is in the books."""

    request_class: str
    judge: str
    model: str
    decision_id: str
    verdict: str
    propensity: float
    at: float
    quality: float | None = None
    cost_usd: float = 0.0
    seconds: float = 0.0
    call_id: str = ""
    account: str = ""
    """Under which name the budget of the judge is kept."""


class JudgeCompared(Event, frozen=True):
    """A judge and the sender told of the same answer. The mean difference (judge minus sender) and the share on which
    both agree whether it was adequate are of that judge so far, later ones counting more."""

    request_class: str
    judge: str
    decision_id: str
    judged: float
    told: float
    compared: int
    mean_difference: float
    agreed_ratio: float


class RequestShaped(Event, frozen=True):
    """A request was changed before it was sent on. `what`: input_budget, style, or over_input_budget where the system
    prompt and the last turn alone are over it and stay. `tokens_saved` are input tokens."""

    request_class: str
    what: str
    tokens_saved: int


class CeilingUpdate(Event, frozen=True):
    """A learned `max_tokens` moved, and why; `advised`: it would have."""

    request_class: str
    model: str
    old_tokens: int
    new_tokens: int
    truncated_ratio: float
    reason: str
    advised: bool = False


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
    limit_kind: str = ""
    token_limit: float | None = None


class QueueObserved(Event, frozen=True):
    """The router's own queue at a tick: who waits for room, and how long the longest has; the same by class, and by
    those tenants that have most waiting."""

    waiting: int
    oldest_s: float
    classes: tuple[tuple[str, int, float], ...] = ()
    tenants: tuple[tuple[str, int, float], ...] = ()


class IngressEvent(Event, frozen=True):
    """Something at the door. `what`: connected, disconnected, redelivered, duplicate, dead_letter, paused, resumed,
    replied, recovered, cut_call, client_gone, invalid, conflict, refused (the broker will not take a publish),
    feedback_unknown, verdict_missing, verdict_unknown, cancelled (by the sender), cancel_early, cancel_unknown,
    journal_failed. `seconds` is known for `replied`: from the answer's end to its last byte out (the reply phase)."""

    source: str
    what: str
    detail: str = ""
    count: int = 1
    at: float = 0.0
    seconds: float | None = None
