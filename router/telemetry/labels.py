"""Label values come from closed sets: what the policy names, what the code names, and `other`.

A request must never be able to make a series: ids, tenants and free text belong in the logs.
"""

from __future__ import annotations

from collections.abc import Iterable

from router.core.judging.judging import accounts
from router.domain.deployment import Tier
from router.domain.errors import RouterError
from router.domain.events import CACHE
from router.domain.outcome import Ending
from router.policy.policy import Policy

OTHER = "other"
NONE = "none"

NAMES_MAX = 500
WORDS_MAX = 64


CLIENT_GONE = "client_gone"
CANCELLED = Ending.CANCELLED.value

SIDES = ("stable", "canary")
"""The arms of a canary; those of an experiment are called as the policy says."""


class Allowed(dict[str, str]):
    """Maps a name to itself when it is allowed, the empty one to `none`, anything else to `other`."""

    def __missing__(self, name: str) -> str:
        """The label of a name that is not allowed."""
        return OTHER if name else NONE

    def allow(self, names: Iterable[str]) -> None:
        """Allow these too, up to `NAMES_MAX` over the life of the process."""
        for name in names:
            if len(self) < NAMES_MAX:
                self[name] = name


class Words(dict[str, str]):
    """Words that our own code says (a reason, a binding constraint): the first `WORDS_MAX` are kept."""

    def __missing__(self, word: str) -> str:
        """The label of a word not met before."""
        if not word:
            return NONE
        if len(self) >= WORDS_MAX:
            return OTHER
        self[word] = word
        return word


def error_codes(root: type[RouterError] = RouterError) -> frozenset[str]:
    """Every stable error code of a branch of the error tree."""
    codes = {root.code, *root.codes}
    for child in root.__subclasses__():
        codes |= error_codes(child)
    return frozenset(codes)


class Vocabulary:
    """The closed sets in force. A new policy widens them; requests under the old one stay countable."""

    def __init__(self, policy: Policy, *, tenants: Iterable[str] = ()) -> None:
        self.classes = Allowed()
        self.deployments = Allowed(((CACHE, CACHE),))
        self.models = Allowed()
        self.arms = Allowed((side, side) for side in SIDES)
        self.tiers = Allowed((tier.value, tier.value) for tier in Tier)
        self.endings = Allowed((ending.value, ending.value) for ending in Ending)
        self.codes = Allowed((code, code) for code in sorted(error_codes()))
        self.tenants = Allowed((tenant, tenant) for tenant in tenants)
        self.adopt(policy)

    def adopt(self, policy: Policy) -> None:
        """Allow the names of this policy too."""
        self.classes.allow(request_class.name for request_class in policy.classes)
        self.classes.allow(account.name for account in accounts(policy.classes))
        self.deployments.allow(deployment.name for deployment in policy.deployments)
        self.models.allow(deployment.model for deployment in policy.deployments)
        self.tenants.allow(policy.tenants)
        self.arms.allow(arm.name for request_class in policy.classes for arm in request_class.rollout.arms)
