"""What a request class may say: who falls in it, what is promised, what may be done for it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from router.domain.deployment import Mode
from router.domain.slo import FloorUnderOverload, Goal, Indicator, PastDeadline, Style
from router.policy.match import topic_filter_problem
from router.policy.schema.rollout import RolloutSpec
from router.policy.schema.treatment import BudgetSpec, CacheSpec, CascadeSpec, JudgeSpec, ParametersSpec
from router.policy.schema.values import Count, Duration, Name, Ratio, Spec, Target, Text, Texts, Threshold, Wait


def _short_or_list(value: Any) -> str:
    return "(list)" if isinstance(value, list) else "(short)"


def _short_or_mapping(value: Any) -> str:
    return "(mapping)" if isinstance(value, dict) else "(short)"


def _mapping_or_list(value: Any) -> str:
    return "(list)" if isinstance(value, list) else "(mapping)"


def _checked_filters(filters: tuple[str, ...]) -> tuple[str, ...]:
    for topic_filter in filters:
        if problem := topic_filter_problem(topic_filter):
            raise PydanticCustomError("topic_filter", "not an MQTT topic filter: {why}", {"why": problem})
    return filters


class TokenRange(Spec):
    """How long the prompt is."""

    min: Annotated[int, Field(ge=0)] | None = None
    """Least input tokens, inclusive."""
    max: Annotated[int, Field(ge=0)] | None = None
    """Most input tokens, inclusive."""


class MatchSpec(Spec):
    """Which requests fall in the class: every stated condition must hold; no condition, every request."""

    classes: Texts = ()
    """Names that requests may ask for besides the name of this class; `*` is a wildcard."""
    topics: Annotated[Texts, AfterValidator(_checked_filters)] = ()
    """MQTT topic filters (`+` is one level, `#` the rest) over the full topic of the request."""
    tenants: Texts = ()
    """Tenants; `*` is a wildcard. Holds even where a request names the class."""
    models: Texts = ()
    """The `model` that the request asks for; `*` is a wildcard."""
    use_cases: Texts = ()
    """Use cases that the classifier recognises in the prompt; `*` is a wildcard."""
    attributes: dict[Text, str] = Field(default_factory=dict)
    """User properties that must be there, with their values; `*` is a wildcard in a value."""
    input_tokens: TokenRange = TokenRange()
    """Length of the prompt in tokens."""


class TimeWindow(Spec):
    """OpenSLO's spelling of a window."""

    duration: Duration
    """Length of the window, such as 30d."""
    is_rolling: Literal[True] = Field(True, alias="isRolling")
    """Only rolling windows are kept."""


Window = Annotated[
    Annotated[Duration, Tag("(short)")]
    | Annotated[Annotated[tuple[TimeWindow, ...], Field(min_length=1, max_length=1)], Tag("(list)")],
    Discriminator(_short_or_list),
]


class ObjectiveTerms(Spec):
    """What is promised of one indicator, in OpenSLO's words; or the name of an OpenSLO document that says it."""

    slo: Text | None = None
    """Name of an `openslo/v1` SLO in the policy directory, from which target, window and threshold come. A threshold
    there is in seconds, unless the SLO or its SLI has the annotation or label `router/unit`: ms, s, m or h."""
    threshold: Threshold | None = None
    """A request is good when the indicator is at most this, such as 500ms. Not for availability."""
    target: Target = 0.99
    """Share of requests that must be good, such as 99%."""
    time_window: Window = Field(30 * 86400.0, alias="timeWindow")
    """Over how long the target is kept, such as 30d."""
    budgeting_method: Literal["Occurrences"] = Field("Occurrences", alias="budgetingMethod")
    """How the error budget is counted: each request once."""


class ObjectiveItem(ObjectiveTerms):
    """One objective in a list."""

    indicator: Indicator
    """ttft: first token; tpot: mean gap of tokens; e2e: last token; availability: answered at all.
    Latencies count from arrival at the router."""


LatencyObjective = Annotated[
    Annotated[Threshold, Tag("(short)")] | Annotated[ObjectiveTerms, Tag("(mapping)")],
    Discriminator(_short_or_mapping),
]
AvailabilityObjective = Annotated[
    Annotated[Target, Tag("(short)")] | Annotated[ObjectiveTerms, Tag("(mapping)")],
    Discriminator(_short_or_mapping),
]


class ObjectivesByName(Spec):
    """Objectives by indicator, short (`ttft: 500ms`) or with their terms."""

    ttft: LatencyObjective | None = None
    """Time to the first token, from arrival at the router."""
    tpot: LatencyObjective | None = None
    """Mean gap between tokens."""
    e2e: LatencyObjective | None = None
    """Time to the last token, from arrival at the router."""
    availability: AvailabilityObjective | None = None
    """Share of requests that must be answered, such as 99.9%."""


ObjectivesSpec = Annotated[
    Annotated[ObjectivesByName, Tag("(mapping)")] | Annotated[tuple[ObjectiveItem, ...], Tag("(list)")],
    Discriminator(_mapping_or_list),
]


class FloorTerms(Spec):
    """Least share adequate among what is served."""

    ratio: Ratio
    """Least share of adequate answers, such as 0.9 or 90%."""
    reference: Text | None = None
    """Model that an answer must be as good as to be adequate; absent: quality of 0.5 or more."""
    under_overload: FloorUnderOverload = FloorUnderOverload.SHED
    """shed: refuse what cannot be answered well; degrade: let the floor give."""


FloorSpec = Annotated[
    Annotated[Ratio, Tag("(short)")] | Annotated[FloorTerms, Tag("(mapping)")],
    Discriminator(_short_or_mapping),
]


class ClassTerms(Spec):
    """What a class may say besides its name; under `defaults` it holds for every class that is silent."""

    objectives: ObjectivesSpec = ObjectivesByName()
    """What is promised: a mapping by indicator, or a list in OpenSLO's words."""
    floor: FloorSpec | None = None
    """Least share of adequate answers: a ratio, or its terms."""
    goal: Goal = Goal.USEFUL
    """What is maximised once the promises hold: useful answers, or least cost."""
    deadline: Duration | None = None
    """Hard limit from arrival to the last token, where the request brings none of its own."""
    past_deadline: PastDeadline = PastDeadline.FAIL
    """fail: it is given up when the deadline passes before its first token; answer_late: it is answered still."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Higher goes first where requests compete."""
    sheddable: bool = False
    """May be refused under overload so that others keep their promises."""
    deployments: Texts = ()
    """Who may serve: deployment names, groups, models or tiers; absent means any."""
    forced: Text | None = None
    """Deployment, group or model that serves the class whatever the sender asks for."""
    residency: Texts = ()
    """Tags that a deployment must carry, all of them, to see the data of this class, such as eu."""
    fallback: Texts = ()
    """Deployment names, groups, models or tiers in the order in which they are tried after a failure."""
    parameters: ParametersSpec = ParametersSpec()
    """Sampling parameters filled in where the request is silent."""
    style: Style = Style.AS_ASKED
    """as_asked; or concise: a short instruction to be brief is added to every request."""
    input_budget: Count | None = None
    """Longest prompt that is sent on, in tokens: oldest turns go first, never the system prompt or the last turn."""
    exploration: Ratio = 0.0
    """Share of requests that may go elsewhere to learn, such as 2%."""
    max_retries: Annotated[int, Field(ge=0, le=10)] = 2
    """Further calls after a failed one, all under the one deadline."""
    hedge_after: Duration | None = None
    """Start a second call elsewhere when no token has come for this long."""
    budget: BudgetSpec = BudgetSpec()
    """What may be spent."""
    cache: CacheSpec | None = None
    """Answers to the very same request are given again."""
    cascade: CascadeSpec | None = None
    """Answers are checked before they are sent, and made again elsewhere where that is worth it."""
    judge: JudgeSpec | None = None
    """A deployment that judges a sampled share of the answers, with a budget of its own."""
    batch_wait: Wait | None = None
    """Longest deliberate wait to fill a batch, 0 for none. Absent: as long as the e2e or TTFT objective or the
    deadline leaves room for."""
    patience: Wait = 0.0
    """How long a request with a deadline may be kept waiting for a cheaper lane (reserved capacity that is in use, a
    flex tier at its limit) before it goes to a dearer one; it goes sooner where its deadline asks for it, or where it
    would be refused for its wait in the queue (`queue_wait` of `bounds`). A `sheddable` class has none."""
    mode: Mode | None = None
    """advise: the price of its floor and its learned `max_tokens` stay where they start, and what they would be is
    said; absent: as the document says."""
    rollout: RolloutSpec = RolloutSpec()
    """How an edit of the class comes into force, or which experiment it runs."""


class ClassSpec(ClassTerms):
    """One request class."""

    name: Name
    """Name of the class; a request may ask for it as `model`, or by the user property `class`."""
    order: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Classes are tried by order, then file name, then position; the one that matches everything is last."""
    match: MatchSpec = MatchSpec()
    """Which requests fall in the class; absent matches everything."""
