"""The side of a rollout that a request falls on."""

from __future__ import annotations

from msgspec import Struct

from router.core.rollouts.evidence import Evidence
from router.domain.slo import RequestClass
from router.policy.policy import Policy


class Placed(Struct, frozen=True):
    """The snapshot a request is decided under. `arm` is empty outside of rollouts and experiments; `shadow` is an edit
    that is only compared."""

    policy: Policy
    request_class: RequestClass
    arm: str = ""
    evidence: Evidence | None = None
    shadow: Shadow | None = None


class Shadow(Struct, frozen=True):
    """Where the request would fall under an edit, and the version of that edit."""

    placed: Placed
    version: str
