"""The pick, with its evidence."""

from __future__ import annotations

from typing import NewType

from msgspec import Struct

from router.domain.deployment import DeploymentName

DecisionId = NewType("DecisionId", str)


class Terms(Struct, frozen=True, gc=False):
    """What one candidate was predicted to do and what each part added to its score.

    `score = useful + floor - cost - capacity + cascade`: `useful = P(SLO) * P(adequate)`, the next are the prices times
    what the candidate uses of floor slack, dollars and reserved or scarce capacity. `cascade` is what it is expected to
    be worth that its answer can be checked and made again elsewhere, both calls and the wait counted; 0 where it is not
    checked.
    """

    p_slo: float
    p_adequate: float
    ttft_s: float
    tpot_s: float
    e2e_s: float
    output_tokens: float
    cost_usd: float
    useful: float
    floor: float
    cost: float
    capacity: float
    cascade: float = 0.0
    p_adequate_low: float | None = None
    """Lower bound of P(adequate), by which exploration is allowed; `None` in older logs."""
    cached_tokens: float = 0.0
    """Input tokens that were expected to be read from a prompt cache."""


class Spread(Struct, frozen=True, gc=False, array_like=True):
    """How far a deployment's latency predictions are off, as logs of observed over predicted: mean and standard
    deviation of each. The q-quantile of a latency is `predicted * exp(mean + z(q) * sigma)`. An array where it is
    written, for a log has one for each candidate."""

    ttft_log_mean: float
    ttft_log_sigma: float
    tpot_log_mean: float
    tpot_log_sigma: float
    e2e_log_sigma: float


class Candidate(Struct, frozen=True, gc=False):
    """What stands after the filters. `propensity` is the probability that the picker chose it."""

    deployment: DeploymentName
    score: float
    terms: Terms
    propensity: float = 0.0
    spread: Spread | None = None
    fallen: bool = False
    """Its model answers worse than it did: the class's exploration share goes to it before any other."""


class Exclusion(Struct, frozen=True, gc=False):
    """Why a deployment could not serve: `code` from a closed set, `detail` for people."""

    deployment: DeploymentName
    code: str
    detail: str = ""


class Prices(Struct, frozen=True):
    """The dual prices in force: per unit of floor slack, per dollar, and per second of each deployment's work."""

    floor: float
    usd: float
    capacity: dict[str, float]


class Decision(Struct, frozen=True):
    """One pick. `binding` names the constraint that decided it; `propensity` is the probability of the pick."""

    id: DecisionId
    request_id: str
    request_class: str
    tenant: str
    at: float
    now: float
    policy: str
    picker: str
    complexity: float
    features: tuple[tuple[str, float], ...]
    candidates: tuple[Candidate, ...]
    excluded: tuple[Exclusion, ...]
    chosen: DeploymentName
    propensity: float
    binding: str
    prices: Prices
    input_tokens: int
    decide_s: float = 0.0
    arm: str = ""
    """Side of a rollout or experiment; empty where there is none."""
    use_case: str = ""
    topic: str = ""
    model: str | None = None
    """What the sender asked for as `model`."""
    asked_class: str | None = None
    """The class that the sender named, where it named one."""
    waited_s: float = 0.0
    """Since arrival, spent from every objective."""
    deadline_s: float | None = None
    """From arrival, where the sender brought a deadline of its own."""
    parent: str = ""
    """Id of the request that this one is a part of; `request_id` ends in its number, or in `merge`."""
