"""What would an edit have decided? Asked beside a decision, of the same request at the same moment."""

from __future__ import annotations

from functools import partial
from random import Random

from router.core.evidence import nobody
from router.core.ticket import Ticket
from router.core.weigher import Weigher
from router.domain.errors import RouterError
from router.domain.events import ShadowCompared

WOULD_WAIT = "would_wait"


def compared(ticket: Ticket, other: Ticket, weigher: Weigher, rng: Random, *, now: float) -> ShadowCompared:
    """`ticket` has been decided; `other` is the same request under the edit. Nothing is reserved or learned."""
    decision, shadow = ticket.decision, ticket.shadow
    assert decision is not None
    assert shadow is not None
    live = next(c.terms for c in decision.candidates if c.deployment == decision.chosen)
    told = partial(ShadowCompared, decision.id, other.request_class.name, shadow.version, decision.chosen, live=live)
    need = weigher.need(other, now)
    views, candidates, excluded = weigher.weigh(other, need, observe=False)
    try:
        if not candidates:
            nobody(excluded, need.purse)
            return told(would="", code=WOULD_WAIT, shadow=None)
        index, _ = weigher.profile.picker.pick(candidates, views, need, rng=rng)
    except RouterError as error:
        return told(would="", code=error.code, shadow=None)
    if index is None:
        return told(would="", code="overloaded", shadow=None)
    return told(would=candidates[index].deployment, code=None, shadow=candidates[index].terms)
