"""How a change of a request class is taken up: at once, in the shadow, by steps, or as an experiment."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class RolloutMode(StrEnum):
    """How an edit of a class comes into force.

    `live`: at once. `shadow`: never by itself; what it would decide is compared with what is decided. `canary`: for a
    growing share of the requests. `ab`: not an edit but an experiment, between arms that run side by side.
    """

    LIVE = "live"
    SHADOW = "shadow"
    CANARY = "canary"
    AB = "ab"


class SplitBy(StrEnum):
    """What is hashed to choose the side of a request: one tenant stays on one side, or each request for itself."""

    REQUEST = "request"
    TENANT = "tenant"


class Measure(StrEnum):
    """What an experiment is decided by. More is better, but for cost."""

    USEFUL = "useful"
    SLO = "slo"
    QUALITY = "quality"
    COST = "cost"


class Arm(Struct, frozen=True):
    """One side of an experiment: the share of the requests that it gets, and what it does otherwise than the class.
    `None` leaves the class's own value."""

    name: str
    share_ratio: float
    profile: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    style: str | None = None
    deployments: tuple[str, ...] | None = None
    input_budget_tokens: int | None = None


class Require(Struct, frozen=True):
    """What the last `decisions` of the log must show of an edit before a canary of it begins: the lower ends of what is
    estimated of the share adequate and of the share within objectives, and the upper end of the mean cost, each of an
    interval of 95 %. `None` asks for nothing."""

    quality_low: float | None = None
    slo_low: float | None = None
    usd_per_request: float | None = None
    decisions: int = 20_000


class Rollout(Struct, frozen=True):
    """The terms of a rollout. A canary stays on each step for at least `step_s` and `min_requests` of its own;
    `fast_burn` is the burn rate of an error budget past which it is taken back (14.4 spends 2 % of a 30-day budget in
    an hour: the SRE workbook, chapter 5). An experiment is decided at `confidence_ratio`, whenever it is looked at."""

    mode: RolloutMode = RolloutMode.LIVE
    by: SplitBy = SplitBy.REQUEST
    steps: tuple[float, ...] = (0.05, 0.25, 0.5)
    step_s: float = 600.0
    min_requests: int = 200
    fast_burn: float = 14.4
    arms: tuple[Arm, ...] = ()
    measure: Measure = Measure.USEFUL
    confidence_ratio: float = 0.95
    require: Require | None = None
