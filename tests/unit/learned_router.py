"""Controllers that have learned some of everything, for the tests of what becomes of it."""

from __future__ import annotations

from random import Random
from typing import Any

from msgspec import json

from router.complexity.estimator import Scored
from router.core import snapshot
from router.core.controller import Controller
from router.domain.deployment import Tier
from router.domain.events import Event
from router.domain.learned import (
    Part,
)
from router.domain.request import Request
from router.domain.slo import Budget, Ceiling, Check, Parameters, QualityFloor, RequestClass
from router.domain.view import Load
from router.policy.policy import Bounds, Policy
from tests.regressions.house import deployment

CLASSES = (
    RequestClass("chat", floor=QualityFloor(0.9), parameters=Parameters(ceiling=Ceiling(1024))),
    RequestClass("paid", budget=Budget(usd_per_day=10.0)),
)


FLEET = (deployment("small"), deployment("large", Tier.LARGE))


SMALL, LARGE = "model-small", "model-large"


TERMS = Ceiling(1024)


class Estimator:
    """Small is adequate for half, large for nearly all, says the artefact of this digest."""

    def __init__(self, digest: str = "sha256:one") -> None:
        self.digest = digest

    def estimate(self, request: Request) -> Scored:
        return Scored(0.5, "chat", {}, {Tier.SMALL: 0.5, Tier.LARGE: 0.95})


def born(digest: str = "sha256:one", fleet: tuple[Any, ...] = FLEET) -> Controller:
    return Controller(Policy("p1", CLASSES, fleet, Bounds()), Estimator(digest), rng=Random(0))


def teach(controller: Controller, times: int = 40) -> Controller:
    """Some of everything, of both models; the small one is worse than it is estimated."""
    for i in range(times):
        for model, deployed in ((SMALL, "small"), (LARGE, "large")):
            controller.qualities.observe(0.8, model, "code", float(i % 4 == 0))
            controller.lengths.observe("chat", model, 40, now=float(i))
            controller.lengths.observe("paid", model, 400, now=float(i))
            controller.ceilings.observe("chat", model, TERMS, 60, cut=False)
            controller.checks.on_checked(0.7, model, ((Check.JSON, "pass"),))
            controller.checks.observe(0.7, model, ((Check.JSON, "pass"),), 1.0)
            member = controller.fleet.members[deployed]  # type: ignore[index]
            latency = member.latency
            latency.observe_gap(Load(4, 0, 0, 4000), 24.0 * latency.prior.base_s, 8, 0, now=float(i))
            latency.observe_first_token(0.1, 0.2, now=float(i))
            latency.observe_tpot(0.02, 0.03, now=float(i))
            member.price.integral = 0.25
    controller.duals.floors["chat"].value = 1.5
    return controller


def saved(controller: Controller, at: float = 10.0) -> bytes:
    return snapshot.take_for_keeps(controller, at=at)


def known(controller: Controller) -> dict[str, Any]:
    document: dict[str, Any] = json.decode(snapshot.take(controller, at=0.0))
    return document


def parts_of(controller: Controller) -> dict[str, Any]:
    """What is known by field, without where it comes from."""
    found = known(controller)
    return {
        name: found[name] for name in ("qualities", "lengths", "latency", "ceilings", "checks", "floors", "capacity")
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def told(controller: Controller, kind: type[Event]) -> list[Any]:
    return [e for e in controller.tick(now=100.0, at=100.0) if type(e) is kind]


def lineage(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.decode(data)["lineage"]
    return found


FIELDS = {
    Part.QUALITY: {"qualities"},
    Part.LENGTHS: {"lengths"},
    Part.LATENCY: {"latency"},
    Part.CEILINGS: {"ceilings"},
    Part.CHECKS: {"checks"},
    Part.PRICES: {"floors", "capacity"},
}
