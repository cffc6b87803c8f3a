"""After a failed call: again, elsewhere, or no more?

Nothing is retried after a token has left for the sender, nothing past the one deadline, nothing that was refused as
wrong, and no more often than the class allows. A budget over all requests keeps retries from becoming the load.
"""

from __future__ import annotations

from router.core.ticket import Ticket
from router.domain.errors import BackendError, Returned

_SHARE = 0.2
_BURST = 20.0
_BACKOFF_S = 0.2
_BACKOFF_MAX_S = 5.0
_UNASKABLE = "unsupported"
"""The request cannot be put to that deployment: nothing was called."""
_ELSEWHERE = frozenset({"backend_forbidden", _UNASKABLE})
"""Hopeless there, but another deployment may well answer."""
_FOR_GOOD = frozenset({"too_dear", "exceeds_quota", "budget_spent"})
"""What keeps a deployment out however long one waits, today at least."""


class RetryBudget:
    """A token bucket: every first attempt adds a share of a retry."""

    def __init__(self) -> None:
        self.tokens = _BURST

    def on_first(self) -> None:
        """A request is called for the first time."""
        self.tokens = min(_BURST, self.tokens + _SHARE)

    def take(self) -> bool:
        """Spend one retry, if there is one."""
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


def next_step(
    ticket: Ticket,
    error: BackendError,
    budget: RetryBudget,
    *,
    routable: frozenset[str],
    streamed: bool,
    now: float,
) -> float | None:
    """Seconds after which to decide once more; `None` gives up. `routable` are the deployments that may serve it;
    `streamed` says that the pieces of an answer go out as they come."""
    if (streamed and ticket.first_token is not None) or not (error.retryable or error.code in _ELSEWHERE):
        return None
    is_free = isinstance(error, Returned) or error.code == _UNASKABLE
    is_spent = ticket.attempts > ticket.request_class.max_retries
    if is_spent and not is_free:
        return None
    assert ticket.view is not None
    ticket.tried |= {ticket.view.deployment.name}
    if error.code == _UNASKABLE:
        ticket.unaskable |= {ticket.view.deployment.name}
    wait, out = 0.0, _out_for_good(ticket)
    if not routable - ticket.tried - out:
        if is_spent or _is_hopeless(ticket, error, routable - out):
            return None
        ticket.tried = ticket.unaskable
        wait = min(_BACKOFF_S * 2.0 ** (ticket.attempts - 1), _BACKOFF_MAX_S)
        wait = max(wait, error.retry_after_s or 0.0)
    if ticket.deadline is not None and now + wait >= ticket.deadline:
        return None
    if wait > ticket.policy.bounds.queue_wait_s or not (is_free or budget.take()):
        return None
    ticket.first_token = None
    return wait


def _is_hopeless(ticket: Ticket, error: BackendError, left: frozenset[str]) -> bool:
    """Whether asking again what was asked before is no use: it may be where one that cannot be asked came last."""
    return error.code in _ELSEWHERE and not (error.code == _UNASKABLE and left - ticket.unaskable)


def _out_for_good(ticket: Ticket) -> frozenset[str]:
    """Deployments that the last decision found unable to take the request, now or later."""
    decision = ticket.decision
    return frozenset(e.deployment for e in decision.excluded if e.code in _FOR_GOOD) if decision else frozenset()
