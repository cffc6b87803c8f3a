"""Who gets an answer that was made before? The exact response cache of the classes that have one.

The same question of the same tenant is answered again from memory, and while its answer is being made everybody
else who asks waits for it: one call under way for each key. A leader that fails or is cancelled hands over to the
next who waits. Nothing outlives the process, and nothing of a question is kept but its hash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum
from hashlib import sha256

import msgspec
import structlog
from msgspec.structs import replace

from router.core.feedback import Feedback
from router.core.ticket import Ticket
from router.domain.deployment import Deployment, Sampling
from router.domain.errors import Expired
from router.domain.events import CacheUsed
from router.domain.outcome import Delta, Receipt, Reply
from router.domain.slo import RequestClass
from router.ports.clock import Clock
from router.ports.dispatch import EventSink, Responder
from router.runtime.answers import Answer, Answers
from router.wire.openai import assemble
from router.wire.openai.canonical import Canonical, canonical

Serve = Callable[[Responder | None], Awaitable[Reply]]

_FINISHED = frozenset({"stop", "length", "tool_calls", "function_call"})
"""How an answer ends that may be given again; a filter's verdict or an upstream's own word may differ next time."""
_DIGESTS = 256

log = structlog.get_logger("router.cache")


class _Turn(Enum):
    """What a follower is told where there is no answer for it: make the call for all who wait, or for itself."""

    LEAD = "lead"
    ALONE = "alone"


class _Flight:
    """One call under way and those who wait for its answer, in order."""

    __slots__ = ("waiters",)

    def __init__(self) -> None:
        self.waiters: dict[asyncio.Future[Answer | _Turn], None] = {}

    def tell(self, what: Answer | _Turn) -> bool:
        """Tell the first who still waits; false where nobody does."""
        while self.waiters:
            waiter = next(iter(self.waiters))
            del self.waiters[waiter]
            if not waiter.done():
                waiter.set_result(what)
                return True
        return False


class _Recorder:
    """The responder of a leader that streams: passes every piece on and keeps it."""

    def __init__(self, to: Responder) -> None:
        self._to = to
        self.pieces: list[Delta] = []

    async def begin(self, receipt: Receipt) -> None:
        """See `router.ports.dispatch.Responder.begin`."""
        await self._to.begin(receipt)

    async def delta(self, delta: Delta) -> None:
        """See `router.ports.dispatch.Responder.delta`."""
        self.pieces.append(delta)
        await self._to.delta(delta)


class ResponseCache:
    """Answers a ticket from memory, from a call under way, or by `serve`, which makes one."""

    def __init__(self, clock: Clock, sink: EventSink, feedback: Feedback) -> None:
        self._clock = clock
        self._sink = sink
        self._feedback = feedback
        self._answers = Answers(clock.now)
        self._flights: dict[bytes, _Flight] = {}
        self._digests: dict[int, tuple[RequestClass, str]] = {}

    async def answer(self, ticket: Ticket, responder: Responder | None, serve: Serve) -> Reply:
        """The reply to a ticket of a class with a cache. What `serve` raises passes through."""
        terms, question = ticket.request_class.cache, canonical(ticket.request, ticket.parameters)
        if terms is None or question is None or not (terms.always or question.temperature == 0.0):
            self._tell(ticket, "bypass")
            return await serve(responder)
        key = self._key(ticket, question)
        known = self._known(ticket, key)
        if known is not None:
            return await self._give(ticket, known, responder, "hit")
        flight = self._flights.get(key)
        if flight is not None:
            told = await self._follow(ticket, key, flight)
            if isinstance(told, Answer):
                return await self._give(ticket, told, responder, "joined")
            if told is _Turn.ALONE:
                self._tell(ticket, "miss")
                return await serve(responder)
        self._tell(ticket, "miss")
        return await self._lead(ticket, question, key, responder, serve)

    def _key(self, ticket: Ticket, question: Canonical) -> bytes:
        parts = (
            ticket.request.tenant,
            self._digest(ticket.request_class),
            ticket.arm,
            ticket.forced,
        )
        return sha256(msgspec.json.encode(parts) + question.body).digest()

    def _digest(self, request_class: RequestClass) -> str:
        """What the class means, its name included: an edit of it makes other keys. Remembered by identity, as encoding
        takes longer than looking up."""
        known = self._digests.get(id(request_class))
        if known is None:
            if len(self._digests) >= _DIGESTS:
                self._digests.clear()
            known = (request_class, sha256(msgspec.json.encode(request_class)).hexdigest())
            self._digests[id(request_class)] = known
        return known[1]

    def _known(self, ticket: Ticket, key: bytes) -> Answer | None:
        """A kept answer, if the deployment that made it is still listed with the same model."""
        name = ticket.request_class.name
        answer = self._answers.get(name, key)
        if answer is None:
            return None
        deployment = _deployment(ticket, answer.receipt.deployment)
        if deployment is not None and deployment.model == answer.model:
            return answer
        self._answers.forget(name, key)
        return None

    async def _follow(self, ticket: Ticket, key: bytes, flight: _Flight) -> Answer | _Turn:
        """Wait for the answer under way, or for a turn to make it; raises `Expired` at the ticket's own deadline."""
        waiter: asyncio.Future[Answer | _Turn] = asyncio.get_running_loop().create_future()
        flight.waiters[waiter] = None
        since, ticket.queued = self._clock.now(), True
        try:
            async with asyncio.timeout(None if ticket.deadline is None else max(ticket.deadline - since, 0.0)):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and waiter.result() is _Turn.LEAD:
                self._hand_over(key, flight)
            if isinstance(error, TimeoutError):
                raise Expired("the deadline passed while the same request was under way") from None
            raise
        finally:
            ticket.queue_s += self._clock.now() - since

    def _hand_over(self, key: bytes, flight: _Flight) -> None:
        """There is no answer: the next who waits makes the call, if anybody does."""
        if not flight.tell(_Turn.LEAD):
            del self._flights[key]

    async def _lead(
        self, ticket: Ticket, question: Canonical, key: bytes, responder: Responder | None, serve: Serve
    ) -> Reply:
        """Make the call for all who wait. An answer that is fit is kept and given to them; where it is not, each of
        them makes a call of its own, as without a cache. One that a learned `max_tokens` has cut off is not kept: the
        bound moves, and is not part of the key."""
        flight = self._flights.setdefault(key, _Flight())
        recorder = None if responder is None else _Recorder(responder)
        try:
            reply = await serve(recorder)
            answer = _answer(ticket, reply, recorder)
        except BaseException:
            self._hand_over(key, flight)
            raise
        del self._flights[key]
        terms = ticket.request_class.cache
        is_lasting = question.is_bounded or reply.finish_reason != "length"
        if answer is not None and terms is not None and is_lasting:
            self._answers.put(ticket.request_class.name, key, answer, terms)
        while flight.tell(answer or _Turn.ALONE):
            pass
        return reply

    async def _give(self, ticket: Ticket, answer: Answer, responder: Responder | None, result: str) -> Reply:
        """The reply to a ticket whose answer was made for another."""
        request = ticket.request
        waited_s = self._clock.now() - request.arrived
        receipt = replace(
            answer.receipt,
            attempts=request.attempts_before,
            cost_usd=0.0,
            cost_source="",
            overhead_s=max(waited_s - ticket.queue_s, 0.0),
            complexity=ticket.scored.complexity,
            ttft_s=waited_s,
            queue_s=ticket.queue_s,
            cache=result,
        )
        choices = answer.choices
        if responder is not None:
            await responder.begin(receipt)
            await responder.delta(_whole(answer))
            choices = b"[]"
        self._tell(ticket, result, saved_usd=answer.receipt.cost_usd)
        now, model, p_adequate = self._clock.now(), answer.model, answer.p_adequate
        self._sink.emit(
            self._feedback.on_given(ticket, receipt, answer.usage, model=model, p_adequate=p_adequate, now=now)
        )
        return Reply(request, choices, answer.usage, receipt, int(request.at), answer.finish_reason)

    def _tell(self, ticket: Ticket, result: str, *, saved_usd: float = 0.0) -> None:
        self._sink.emit(CacheUsed(ticket.request_class.name, result, saved_usd))


def _deployment(ticket: Ticket, name: str) -> Deployment | None:
    """A deployment as the policy of a ticket lists it."""
    return next((d for d in ticket.policy.deployments if d.name == name), None)


def _answer(ticket: Ticket, reply: Reply, recorder: _Recorder | None) -> Answer | None:
    """What a leader got, as it can be given again; `None` where it is no finished answer, a check spoke against it, it
    is not to be read, or comes from a deployment that takes no temperature, and so would answer otherwise the next
    time."""
    terms, deployment = ticket.request_class.cache, _deployment(ticket, reply.receipt.deployment)
    if terms is None or deployment is None or ticket.doubted or reply.finish_reason not in _FINISHED:
        return None
    if not terms.always and Sampling.TEMPERATURE not in deployment.takes:
        return None
    choices = reply.choices
    if recorder is not None:
        try:
            choices = assemble(recorder.pieces)
        except Exception as error:
            log.warning("answer_not_kept", decision_id=reply.receipt.decision_id, error=type(error).__name__)
            return None
    quality = ticket.qualities.get(deployment.model)
    p_adequate = None if quality is None else quality[0]
    return Answer(choices, reply.usage, reply.receipt, deployment.model, reply.finish_reason, p_adequate)


def _whole(answer: Answer) -> Delta:
    return Delta(answer.choices, answer.usage.output_tokens, answer.finish_reason, answer.usage, whole=True)
