"""What deployments share because their account has it once: the on-demand quota of a model, and its prompt cache.

Service tiers share both, and so do Converse and InvokeModel; latency-optimised calls have a quota of their own. A model
and its cross-region profile have each their own, as have regions and accounts (told by the role).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from router.control.allowance import Allowance
from router.control.prompt_cache import PromptCache
from router.domain.aws.terms import AwsTerms, CallQuota
from router.domain.control.allowance import AllowanceObserved
from router.domain.deployment import Deployment, Kind
from router.domain.events import Event, LimitUpdate
from router.domain.outcome import Ending, Outcome

if TYPE_CHECKING:
    from router.core.fleet import Member
    from router.core.ledger import Permit

_BACKEND = "bedrock"
_NOTHING, _UNKNOWN = AwsTerms(), CallQuota()
_Key = tuple[str | None, ...]


class Shared:
    """One of each for everybody who shares it; what was learned survives an edit of the policy."""

    def __init__(self) -> None:
        self._allowances: dict[_Key, Allowance] = {}
        self._caches: dict[_Key, PromptCache] = {}

    def hand_out(self, members: Iterable[Member]) -> None:
        """Give every member what it shares with others."""
        quotas: dict[_Key, CallQuota] = {}
        kept = {}
        for member in members:
            deployment, key = member.deployment, _account(member.deployment)
            terms = deployment.address.aws or _NOTHING
            if _is_bounded(deployment) and (mine := (*key, terms.latency.value)) not in quotas:
                quotas[mine] = terms.quota or _UNKNOWN
            elif _is_bounded(deployment) and terms.quota is not None and quotas[mine] == _UNKNOWN:
                quotas[mine] = terms.quota
            if terms.cache is not None and key not in kept:
                old = self._caches.get(key)
                kept[key] = old if old is not None and old.terms == terms.cache else PromptCache(terms.cache)
        self._caches = kept
        old_allowances, self._allowances = self._allowances, {}
        for mine, quota in quotas.items():
            was = old_allowances.get(mine)
            self._allowances[mine] = was if was is not None and was.terms == quota else Allowance(quota)
        caches = tuple(kept.values())
        for member in members:
            deployment, key = member.deployment, _account(member.deployment)
            terms = deployment.address.aws or _NOTHING
            bounded = _is_bounded(deployment)
            member.allowance = self._allowances[*key, terms.latency.value] if bounded else None
            member.cache = None if terms.cache is None else kept[key]
            member.caches = caches


def _account(deployment: Deployment) -> _Key:
    address = deployment.address
    return address.url, address.region, None if address.aws is None else address.aws.role_arn, address.target


def _is_bounded(deployment: Deployment) -> bool:
    """Whether calls are on demand, and on an account whose quota is of calls and tokens a minute."""
    address = deployment.address
    states = address.aws is not None and address.aws.quota is not None
    return deployment.kind is Kind.CONTINUOUS and (states or address.backend == _BACKEND)


def observed(member: Member, *, now: float) -> list[Event]:
    """What is left of the allowance of a member at a heartbeat, and whether its size is thought to be another."""
    allowance, name = member.allowance, member.deployment.name
    if allowance is None:
        return []
    moved = [LimitUpdate(name, m.what, m.old, m.new, m.reason) for m in allowance.probe(now=now)]
    requests, tokens = (size or None for size in allowance.state())
    used = (allowance.requests.drained_ratio(now), allowance.tokens.drained_ratio(now))
    return [*moved, AllowanceObserved(name, requests, tokens, *used)]


def settle(permit: Permit, outcome: Outcome, *, refused: bool) -> list[Event]:
    """A call ended that had reserved from an allowance; says what that taught of its size."""
    allowance, held, now = permit.allowance, permit.reservation, outcome.ended
    if allowance is None or held is None:
        return []
    if outcome.ending is Ending.FAILED and outcome.error_code == "throttled":
        moved = allowance.on_throttled(held, outcome.retry_after_s, outcome.short_of, now=now)
        return [LimitUpdate(permit.member.deployment.name, m.what, m.old, m.new, m.reason) for m in moved]
    if refused:
        allowance.refund(held, now=now)
    else:
        allowance.settle(held, outcome, now=now)
    return []
