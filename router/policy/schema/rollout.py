"""What a request class may say about how its edits come into force, and the experiments it runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from router.domain.rollout import Measure, RolloutMode, SplitBy
from router.domain.slo import Style
from router.policy.schema.values import PERCENT_JSON, Count, Duration, Name, Ratio, Spec, Text, Texts, read_percent

Percent = Annotated[float, Field(gt=0, le=100), BeforeValidator(read_percent), WithJsonSchema(PERCENT_JSON)]


class ArmSpec(Spec):
    """One side of an experiment; what it leaves out is as the class says."""

    name: Name
    """Name of the arm, a label in metrics and reports."""
    share: Ratio
    """Share of the requests that it gets; the shares of all arms add up to 1."""
    profile: Text | None = None
    """Parameter profile."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Sampling temperature where the request is silent."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Nucleus sampling mass where the request is silent."""
    top_k: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Only the k likeliest tokens, where the request is silent and the backend takes it."""
    max_tokens: Count | None = None
    """Fixed ceiling on output tokens where the request is silent."""
    style: Style | None = None
    """as_asked, or concise: a short instruction to be brief is added."""
    deployments: Texts | None = None
    """Who may serve this arm: deployment names, groups, models or tiers."""
    input_budget: Count | None = None
    """Longest prompt, in tokens."""


class RequireSpec(Spec):
    """What the decision log must show of an edit before its canary begins: ends of intervals of 95 %, as
    `router policy evaluate` estimates them. The log must be one of a policy that explores."""

    quality_low: Ratio | None = None
    """Least share adequate of what the edit would send to a deployment; needs feedback."""
    slo_low: Ratio | None = None
    """Least share of the requests that would be within all objectives."""
    usd_per_request: Annotated[float, Field(gt=0)] | None = None
    """Most that a request would cost on average, in USD."""
    decisions: Annotated[int, Field(ge=100, le=1_000_000)] = 20_000
    """How many of the last decisions are looked at."""


class RolloutSpec(Spec):
    """How an edit of the class comes into force, or which experiment runs."""

    mode: RolloutMode = RolloutMode.LIVE
    """live: at once; shadow: only compared; canary: by steps, with promotion and rollback; ab: an experiment."""
    percent: Percent | None = None
    """First step of a canary, in percent of the class's requests; the steps above it follow."""
    steps: Annotated[tuple[Percent, ...], Field(min_length=1, max_length=20)] | None = None
    """Steps of a canary in rising percent; absent: 5, 25, 50. After the last the edit is promoted."""
    by: SplitBy = SplitBy.REQUEST
    """request: each for itself; tenant: a tenant stays on one side."""
    step: Duration = 600.0
    """Least time on each step."""
    min_requests: Count = 200
    """Least requests of the new side on each step."""
    fast_burn: Annotated[float, Field(ge=1, le=1000)] = 14.4
    """Burn rate of an error budget past which a canary is taken back."""
    require: RequireSpec | None = None
    """What the decision log must show before a canary begins; it waits while the log says too little."""
    arms: tuple[ArmSpec, ...] = ()
    """The sides of an experiment; the first is the one that others are compared with."""
    measure: Measure = Measure.USEFUL
    """What an experiment is decided by: useful, slo, quality or cost."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    """Confidence at which an experiment is decided; it holds however often the figures are looked at."""
