"""A look at the first answer before the sender gets it, and a second call where the core says so.

A sender that waits for the whole answer waits no longer for the look, but where somebody is asked. A stream is held
back only by the policy's word and where the decision found it worth the wait; past `max_wait_s` it is let go
unchecked. The first answer stays in hand while the second is made: whatever becomes of that, as long as none of it has
left, the first is still there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from msgspec.structs import replace

from router.core.cascade.option import is_worth_holding
from router.core.cascade.second import Look
from router.core.controller import Controller
from router.core.evidence import Hold
from router.core.ledger import Permit
from router.core.ticket import Ticket
from router.domain.errors import RequestError, RouterError
from router.domain.outcome import Attempt, Delta, Outcome, Receipt
from router.ports.clock import Clock
from router.ports.dispatch import EventSink, Responder
from router.ports.verify import Question, Verifier
from router.runtime.call import Call, Caller
from router.wire.openai import assemble
from router.wire.openai.verify import without_logprobs

_MARGIN_S = 0.05
"""A second call ends so long before the deadline, for the first answer to be sent in its place."""

Grant = Callable[[Ticket], tuple[Attempt, Permit] | Hold]
Announce = Callable[[Call], Awaitable[None]]

log = structlog.get_logger("router.cascade")


class Held:
    """The responder of a stream that may be held back: keeps every piece until it is let go."""

    def __init__(self, to: Responder, ticket: Ticket, now: Callable[[], float]) -> None:
        self.to = to
        self.pieces: list[Delta] = []
        self.has_gone = False
        """Whether the stream has been let go."""
        self._ticket, self._now = ticket, now
        self._strips = ticket.checks is not None and ticket.checks.wants_logprobs
        self._receipt: Receipt | None = None
        self._since = 0.0

    async def begin(self, receipt: Receipt) -> None:
        """See `router.ports.dispatch.Responder.begin`."""
        self._receipt, self._since = receipt, self._now()
        self.pieces.clear()
        if not is_worth_holding(self._ticket):
            await self.let_go()

    async def delta(self, delta: Delta) -> None:
        """See `router.ports.dispatch.Responder.delta`."""
        if self.has_gone:
            await self._give(delta)
            return
        self.pieces.append(delta)
        cascade = self._ticket.request_class.cascade
        if cascade is None or self._now() - self._since > cascade.max_wait_s:
            await self.let_go()

    async def let_go(self) -> None:
        """Give all that was held to the reader, and everything from now on. Its first token comes only now."""
        assert self._receipt is not None
        self.has_gone, self._ticket.first_token = True, self._now()
        await self.to.begin(self._receipt)
        for piece in self.pieces:
            await self._give(piece)

    async def _give(self, piece: Delta) -> None:
        if self._strips:
            piece = replace(piece, choices=without_logprobs(piece.choices))
        await self.to.delta(piece)


class Cascade:
    """Takes the answers of tickets that have checks."""

    def __init__(self, controller: Controller, caller: Caller, clock: Clock, sink: EventSink, grant: Grant) -> None:
        self._controller, self._caller, self._grant = controller, caller, grant
        self._clock, self._sink = clock, sink
        self.verifier: Verifier | None = None
        """Asks whom a request names; `None` where the router has no way to."""

    def hold(self, ticket: Ticket, responder: Responder | None) -> Held | None:
        """What stands before a reader whose stream may be held back; `None` where none is. Raises `RequestError` where
        the request names somebody who cannot be asked."""
        if ticket.checks is None:
            return None
        if ticket.checks.callback is not None:
            self._refuse_unasked(ticket.checks.callback)
        if responder is None:
            return None
        if ticket.request.stream:
            return Held(responder, ticket, self._clock.now)
        ticket.checks = None
        return None

    async def settle(self, call: Call, outcome: Outcome, held: Held | None, announce: Announce) -> tuple[Call, Outcome]:
        """The call whose answer the sender gets: the first, or one that was made after a look at it."""
        if held is not None and held.has_gone:
            return call, outcome
        second = await self._second(call, outcome, held)
        if second is not None:
            first_token = call.ticket.first_token
            made = await self._run(second, held, announce)
            if made is not None:
                call.ticket.doubted = False
                return second, made
            call.ticket.first_token = first_token
        if held is not None:
            await held.let_go()
        return call, outcome

    async def _second(self, call: Call, outcome: Outcome, held: Held | None) -> Call | None:
        """The second call, where one is wanted and there is room for it now."""
        ticket = call.ticket
        choices = assemble(call.pieces if held is None else held.pieces)
        look = self._controller.second.look(ticket, outcome, choices)
        if look is not None and look.callback is not None:
            look = await self._asked(ticket, look, choices)
        checked = None if look is None else self._controller.second.on_answer(ticket, look, now=self._clock.now())
        if checked is None:
            return None
        second = self._granted(ticket) if checked.escalated else None
        is_sent_anyway = checked.escalated and second is None
        self._sink.emit(replace(checked, escalated=False, propensity=1.0) if is_sent_anyway else checked)
        return second

    def _refuse_unasked(self, topic: str) -> None:
        why = "this router has no broker" if self.verifier is None else self.verifier.refusal(topic)
        if why is not None:
            raise RequestError(
                f"metadata.verify.callback: {why}; leave it out, or verify with `json_schema` or `regex`",
                param="metadata.verify.callback",
            )

    async def _asked(self, ticket: Ticket, look: Look, choices: bytes) -> Look:
        """With what somebody says of the answer whom the request names, if he does so in time for it to be sent."""
        cascade, since = ticket.request_class.cascade, self._clock.now()
        assert cascade is not None
        assert look.callback is not None
        within_s = cascade.max_wait_s
        if ticket.deadline is not None:
            within_s = min(within_s, ticket.deadline - _MARGIN_S - since)
        if self.verifier is None or within_s <= 0.0:
            return look
        attempt = look.outcome.attempt
        if attempt.logprobs:
            choices = without_logprobs(choices)
        name = attempt.deployment.name
        question = Question(look.callback, ticket.request.id, attempt.decision_id, name, choices)
        passed = await self.verifier.verdict(question, within_s=within_s)
        return self._controller.second.on_verdict(ticket, look, passed, waited_s=self._clock.now() - since)

    def _granted(self, ticket: Ticket) -> Call | None:
        try:
            grant = self._grant(ticket)
        except RouterError:
            return None
        if isinstance(grant, Hold):
            return None
        attempt, permit = grant
        return Call(ticket, replace(attempt, deadline=self._patience(ticket, attempt)), permit)

    def _patience(self, ticket: Ticket, attempt: Attempt) -> float | None:
        """When the second call is given up: in time for the first answer to be sent. What streams cannot be."""
        cascade = ticket.request_class.cascade
        if cascade is None or ticket.request.stream:
            return attempt.deadline
        bound = self._clock.now() + cascade.max_wait_s
        return bound if attempt.deadline is None else min(bound, attempt.deadline - _MARGIN_S)

    async def _run(self, second: Call, held: Held | None, announce: Announce) -> Outcome | None:
        """Make the second call; `None` where it fails and nothing of it has left."""
        try:
            await announce(second)
        except Exception:
            log.warning("second_call_not_made", attempt=second.attempt.id, exc_info=True)
            return None
        outcome = await self._caller.run(second, None if held is None else held.to)
        if second.error is None:
            return outcome
        if second.begun:
            raise second.error
        log.info("second_call_failed", attempt=second.attempt.id, code=second.error.code)
        return None
