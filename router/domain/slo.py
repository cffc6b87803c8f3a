"""What was promised: objectives, floors and the request class that carries them."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from router.domain.deployment import Mode
from router.domain.events import Event
from router.domain.rollout import Rollout


class Indicator(StrEnum):
    """What is measured. All three latencies count from arrival at the router; TPOT is the mean gap of tokens."""

    TTFT = "ttft"
    TPOT = "tpot"
    E2E = "e2e"
    AVAILABILITY = "availability"


class Objective(Struct, frozen=True):
    """`indicator <= threshold_s` for at least `target` of the requests in `window_s`."""

    indicator: Indicator
    threshold_s: float
    target: float = 0.99
    window_s: float = 30 * 86400.0


class Objectives(Struct, frozen=True):
    """The latency objectives of one class, by indicator; `None` where nothing is promised."""

    ttft: Objective | None = None
    tpot: Objective | None = None
    e2e: Objective | None = None
    availability: Objective | None = None

    def each(self) -> tuple[Objective, ...]:
        """Those that exist."""
        return tuple(o for o in (self.ttft, self.tpot, self.e2e, self.availability) if o is not None)


class FloorUnderOverload(StrEnum):
    """What gives when quality floor and load cannot both be met."""

    SHED = "shed"
    DEGRADE = "degrade"


class QualityFloor(Struct, frozen=True):
    """Least share adequate among what is served. `reference` names the model an answer must match, if any."""

    ratio: float
    reference: str | None = None
    under_overload: FloorUnderOverload = FloorUnderOverload.SHED


class Goal(StrEnum):
    """What is maximised once promises hold: the most useful answers, or the least cost."""

    USEFUL = "useful"
    COST = "cost"


class PastDeadline(StrEnum):
    """What becomes of a request whose deadline passes before its first token."""

    FAIL = "fail"
    ANSWER_LATE = "answer_late"


class Match(Struct, frozen=True):
    """Which requests fall in a class: every stated condition must hold. Globs as in MQTT for topics, `*` elsewhere."""

    classes: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    use_cases: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    min_input_tokens: int | None = None
    max_input_tokens: int | None = None


class Ceiling(Struct, frozen=True):
    """A `max_tokens` that the router finds by itself: it starts at `start_tokens`, follows the p97 of what was answered
    plus headroom, rises where more than `truncated_ratio` of the answers are cut, and stays between its bounds."""

    start_tokens: int
    least_tokens: int = 16
    most_tokens: int = 16384
    truncated_ratio: float = 0.02


class Parameters(Struct, frozen=True):
    """Sampling parameters filled in only where the request is silent. `max_tokens` is fixed, `ceiling` is learned."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    ceiling: Ceiling | None = None


BY_USE_CASE = "auto"
"""The profile that is looked up by the use case that the classifier recognises."""


class Style(StrEnum):
    """What is asked of every answer besides what the sender asks."""

    AS_ASKED = "as_asked"
    CONCISE = "concise"


class WhenSpent(StrEnum):
    """What a class gets whose budget of the day is spent."""

    REJECT = "reject"
    CHEAPEST = "cheapest"
    QUEUE = "queue"


class Budget(Struct, frozen=True):
    """Limits on the spending of a class. A day is one of UTC. `mean_usd_per_request` only steers, and never refuses."""

    usd_per_request: float | None = None
    mean_usd_per_request: float | None = None
    usd_per_day: float | None = None
    when_spent: WhenSpent = WhenSpent.REJECT


class BudgetPaced(Event, frozen=True):
    """The mean budget of a class at a tick: what a dollar must bring for it in useful answers, the mean cost of what
    ended lately, the budget, and what is saved (less than 0: owed). `floor_holds`: the quality floor keeps the cost
    above the budget, and comes first."""

    request_class: str
    price: float
    mean_usd: float
    limit_usd: float
    saved_usd: float
    floor_holds: bool


class CacheTerms(Struct, frozen=True):
    """Answers given again to the very same request of the same tenant for `ttl_s` seconds. `always`: also where the
    temperature is above 0."""

    ttl_s: float
    always: bool = False
    max_entries: int = 10_000


class Check(StrEnum):
    """What an answer may be checked for before it is sent, in the order in which it is.

    `truncation`: cut off by a ceiling of ours. `refusal`: the model says that it will not. `format`: JSON where the
    request asks for JSON. `json`: the JSON schema, and `regex`: the pattern, that the request brings. `logprob`: how
    sure the model was of its tokens, where the backend says so. `callback`: what somebody whom the request names says
    of it, for which it waits.
    """

    TRUNCATION = "truncation"
    REFUSAL = "refusal"
    FORMAT = "format"
    JSON = "json"
    REGEX = "regex"
    LOGPROB = "logprob"
    CALLBACK = "callback"


class Cascade(Struct, frozen=True):
    """Answers are checked before they are sent, and made again elsewhere where that is worth it. `stream`: streams may
    be held back for it. `max_wait_s` bounds how long a stream is held, how long a callback is waited for, and how long
    a second call may take.
    `threshold`: P(adequate) under which an answer is made again; `None` weighs gain against cost."""

    checks: tuple[Check, ...]
    stream: bool = False
    max_wait_s: float = 10.0
    threshold: float | None = None


class Judge(Struct, frozen=True):
    """A deployment that says how good a share of the class's answers is, as a measuring instrument: `share_ratio` of
    them is drawn, and `usd_per_day` bounds what judging those of the class costs in a day of UTC. `rubric` takes the
    place of the usual one; `reference` are facts that the judge may take as true. The sender has `wait_s` to tell the
    quality itself before the verdict counts. A group stands for whichever of its deployments has most room."""

    deployment: str
    share_ratio: float = 0.02
    usd_per_day: float = 1.0
    rubric: str | None = None
    reference: str | None = None
    wait_s: float = 60.0


class RequestClass(Struct, frozen=True):
    """A policy group of requests: who falls in it, what is promised, what may be done for it."""

    name: str
    match: Match = Match()
    objectives: Objectives = Objectives()
    floor: QualityFloor | None = None
    goal: Goal = Goal.USEFUL
    deadline_s: float | None = None
    past_deadline: PastDeadline = PastDeadline.FAIL
    priority: int = 0
    sheddable: bool = False
    deployments: tuple[str, ...] = ()
    """Names, groups, models or tiers that may serve the class; empty means any."""
    forced: str | None = None
    """Deployment, group or model that serves the class whatever the sender asks for."""
    residency: tuple[str, ...] = ()
    """Tags that a deployment must carry, all of them, to see the data of this class."""
    fallback: tuple[str, ...] = ()
    """Names, groups, models or tiers in the order they are tried after a failure; those not named come last."""
    profile: str | None = None
    """Parameter profile that fills in what `parameters` leaves open; `BY_USE_CASE` looks it up for each request."""
    parameters: Parameters = Parameters()
    style: Style = Style.AS_ASKED
    input_budget_tokens: int | None = None
    """Longest prompt that is sent on: oldest turns go first, never the system prompt or the last turn."""
    exploration_ratio: float = 0.0
    max_retries: int = 2
    hedge_after_s: float | None = None
    budget: Budget = Budget()
    cache: CacheTerms | None = None
    cascade: Cascade | None = None
    judge: Judge | None = None
    batch_wait_s: float | None = None
    """Longest deliberate wait to fill a batch; `None`: as long as the objective or the deadline leaves room for."""
    patience_s: float = 0.0
    """How long a request may be kept for a cheaper lane, where its deadline leaves time for it."""
    rollout: Rollout = Rollout()
    mode: Mode = Mode.ACT
    """Of its floor price and its learned ceiling."""
