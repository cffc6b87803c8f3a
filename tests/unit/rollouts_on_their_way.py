"""A policy with one deployment, a class `chat`, and edits of it that are on their way."""

from __future__ import annotations

from router.complexity.estimator import Scored
from router.core.rollouts.evidence import Evidence
from router.core.rollouts.rollouts import Rollouts
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, StepProfile, Tier
from router.domain.request import Prompt, Request, RequestId
from router.domain.rollout import Rollout, RolloutMode
from router.domain.slo import Indicator, Match, Objective, Objectives, RequestClass
from router.policy.policy import Policy
from router.stats.confidence import Scale

PROMISE = Objectives(ttft=Objective(Indicator.TTFT, 0.5))
CANARY = Rollout(RolloutMode.CANARY, steps=(0.2, 0.5), step_s=60.0, min_requests=10)
SHADOW = Rollout(RolloutMode.SHADOW)
FLEET = (
    Deployment(
        DeploymentName("only"),
        "only",
        "m",
        Tier.SMALL,
        Kind.CONTINUOUS,
        Address("simulated", "m"),
        Price(1.0, 1.0),
        StepProfile(0.01, 0.0001, 0.0, 0.00001),
    ),
)
CATCH_ALL = RequestClass("default")


class Flat:
    """Every prompt is alike."""

    def estimate(self, request: Request) -> Scored:
        return Scored(0.5, "chat", {"m": 0.9}, {Tier.SMALL: 0.9, Tier.LARGE: 0.9})


def chat(priority: int = 0, *, rollout: Rollout = CANARY, **terms: object) -> RequestClass:
    return RequestClass("chat", Match(use_cases=("chat",)), PROMISE, priority=priority, rollout=rollout, **terms)  # type: ignore[arg-type]


def policy(*classes: RequestClass, digest: str = "p") -> Policy:
    return Policy(digest, (*classes, CATCH_ALL), FLEET)


def request(number: int, tenant: str = "acme", asked: str | None = None) -> Request:
    return Request(RequestId(f"r{number}"), 0.0, 0.0, Prompt("hello"), 10, tenant=tenant, request_class=asked)


def begun(new: RequestClass, old: RequestClass | None = None) -> Rollouts:
    """Rollouts just after `new` was written over `old`."""
    rollouts = Rollouts(policy(old or chat()))
    rollouts.take_up(policy(new, digest="q"), now=0.0, at=0.0)
    return rollouts


def priorities(rollouts: Rollouts, count: int = 400, **kinds: str) -> list[int]:
    return [rollouts.place(request(i, **kinds), "chat").request_class.priority for i in range(count)]


def side(name: str = "canary") -> Evidence:
    return Evidence(name, risk=0.05, scale=Scale())


def rest(**terms: object) -> RequestClass:
    return RequestClass("rest", Match(use_cases=("qa",)), Objectives(e2e=Objective(Indicator.E2E, 9.0)), **terms)  # type: ignore[arg-type]
