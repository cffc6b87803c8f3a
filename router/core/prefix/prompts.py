"""Prompts of requests against the prompt caches of deployments."""

from __future__ import annotations

from router.control.prompt_cache import PromptCache
from router.core.fleet import Member
from router.core.ledger import Permit
from router.core.ticket import Ticket
from router.domain.aws.prefix import Cut
from router.domain.outcome import Ending, Outcome
from router.wire.openai.prefix import cuts_of


def expected_tokens(ticket: Ticket, cache: PromptCache, *, now: float) -> float:
    """Input tokens that a call with this cache would read from it."""
    if ticket.request.input_tokens < cache.terms.min_tokens:
        return 0.0
    return cache.expected(cuts(ticket), now=now)


def cuts(ticket: Ticket) -> tuple[Cut, ...]:
    """Where the prompt can be cut; read once."""
    if ticket.cuts is None:
        ticket.cuts = cuts_of(ticket.request.payload)
    return ticket.cuts


def points(ticket: Ticket, member: Member, *, now: float) -> tuple[int, ...]:
    """A call is about to go there: where to cut its prompt. Its first call shows to all caches that could serve it
    what is asked for again."""
    if not ticket.cuts:
        return ()
    for other in member.caches if ticket.attempts == 1 else ():
        other.see(ticket.cuts, ticket.learned_as, now=now)
    cache = member.cache
    if cache is None:
        return ()
    return cache.points(ticket.cuts, ticket.learned_as, member.deployment.price, now=now)


def on_first_token(ticket: Ticket, permit: Permit, *, now: float) -> None:
    """The prompt is through: from now on the service keeps it."""
    cache = permit.member.cache
    if cache is not None and ticket.cuts:
        cache.on_kept(ticket.cuts, permit.attempt.cache_after, now=now)


def on_outcome(ticket: Ticket, permit: Permit, outcome: Outcome) -> None:
    """What a call that was answered says of the cache."""
    cache, attempt = permit.member.cache, outcome.attempt
    if cache is None or not ticket.cuts or outcome.ending is not Ending.COMPLETED:
        return
    cache.on_told(
        ticket.cuts,
        attempt.cache_after,
        expected=permit.cached_tokens > 0.0,
        read=outcome.cached_tokens,
        written=outcome.cache_written_tokens,
    )
