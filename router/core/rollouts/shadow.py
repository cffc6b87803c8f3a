"""What would an edit have decided? Asked beside a decision, of the same request at the same moment."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from router.core.evidence import nobody
from router.core.ticket import Ticket
from router.core.weigher import Weigher
from router.domain.errors import RouterError
from router.domain.events import ShadowCompared

WOULD_WAIT = "would_wait"


def compared(
    ticket: Ticket, edit: Callable[[], Ticket], weigher: Weigher, rng: Random, *, now: float
) -> ShadowCompared:
    """`ticket` has been decided; `edit` makes the same request under the edit. Nothing is reserved or learned."""
    decision, shadow = ticket.decision, ticket.shadow
    assert decision is not None
    assert shadow is not None
    live = next(c.terms for c in decision.candidates if c.deployment == decision.chosen)
    name = shadow.placed.request_class.name
    told = partial(ShadowCompared, decision.id, name, shadow.version, decision.chosen, live=live)
    try:
        other = edit()
        need = weigher.need(other, now)
        views, candidates, excluded = weigher.weigh(other, need, observe=False)
        if not candidates:
            nobody(excluded, need.purse)
            return told(would="", code=WOULD_WAIT, shadow=None)
        index, _ = weigher.profile.picker.pick(candidates, views, need, rng=rng)
    except RouterError as error:
        return told(would="", code=error.code, shadow=None)
    if index is None:
        return told(would="", code="overloaded", shadow=None)
    return told(would=candidates[index].deployment, code=None, shadow=candidates[index].terms)
