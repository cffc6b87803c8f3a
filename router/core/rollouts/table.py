"""One snapshot of classes that requests are placed in, and the stable hash that chooses between snapshots."""

from __future__ import annotations

from hashlib import blake2b, sha256

import msgspec

from router.domain.request import Request
from router.domain.rollout import Rollout, SplitBy
from router.domain.slo import RequestClass
from router.policy.match import ClassMatcher
from router.policy.policy import Policy


class Table:
    """A policy and the matcher over its classes."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.classify = ClassMatcher(policy.classes).classify
        self.names = frozenset(c.name for c in policy.classes)


def version_of(request_class: RequestClass) -> str:
    """Twelve hex digits over what a class means; the terms of its rollout are not part of it."""
    meaning = msgspec.json.encode(msgspec.structs.replace(request_class, rollout=Rollout()), order="deterministic")
    return sha256(meaning).hexdigest()[:12]


def place_of(request: Request, by: SplitBy, salt: str) -> float:
    """Where a request, or its tenant, stands in [0, 1): the same for the same salt, in every process."""
    key = request.tenant if by is SplitBy.TENANT else request.id
    return int.from_bytes(blake2b(f"{salt}/{key}".encode(), digest_size=8).digest(), "big") / 2**64
