"""One call to one backend: the pieces come in, are measured, and go out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Mapping
from contextlib import aclosing
from typing import Protocol, cast

import structlog
from msgspec.structs import replace

from router.control.batching import BatchTuner
from router.core.controller import Controller
from router.core.feedback import Feedback
from router.core.ledger import Permit
from router.core.spending.billing import bill, unheard
from router.core.ticket import Ticket
from router.domain.deployment import Address, Deployment
from router.domain.errors import BackendError, Expired, ProtocolError, Rejected, RouterError, Throttled
from router.domain.events import Event
from router.domain.outcome import PAID_BEFORE, Attempt, Delta, Ending, Outcome, Receipt, Usage
from router.ports.backend import Backend, BatchBackend
from router.ports.clock import Clock
from router.ports.dispatch import EventSink, Responder
from router.runtime.batcher import Batcher

log = structlog.get_logger("router.call")


class Claim(Protocol):
    """What a call must win before its first token counts, where another runs beside it."""

    def claim(self, call: Call) -> None:
        """The first token came."""
        ...


class Call:
    """The state of one attempt while it runs."""

    __slots__ = (
        "accepted",
        "attempt",
        "batch_wait_s",
        "begun",
        "error",
        "finish_reason",
        "permit",
        "pieces",
        "race",
        "sent",
        "served_as",
        "served_model",
        "ticket",
        "tokens",
        "usage",
    )

    def __init__(self, ticket: Ticket, attempt: Attempt, permit: Permit) -> None:
        self.ticket, self.attempt, self.permit = ticket, attempt, permit
        self.pieces: list[Delta] = []
        self.tokens = 0
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.served_model: str | None = None
        self.served_as: str | None = None
        self.error: RouterError | None = None
        self.batch_wait_s: float | None = None
        self.race: Claim | None = None
        self.sent = False
        self.begun = False
        self.accepted: float | None = None
        """When the backend had taken the call, where it says so before the first token."""

    def note(self, delta: Delta) -> None:
        """Keep what a piece says about the whole."""
        self.tokens += delta.tokens
        self.usage = delta.usage or self.usage
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.served_model = delta.served_model or self.served_model
        self.served_as = delta.served_as or self.served_as

    def network_s(self) -> float | None:
        """Seconds until the backend had the call."""
        return None if self.accepted is None else self.accepted - self.attempt.started

    def final_usage(self) -> Usage:
        """Tokens as the backend counted them, or as we did."""
        return self.usage or Usage(self.attempt.request.input_tokens, self.tokens)


class ReaderGoneError(Exception):
    """The reader of an answer raised while it was given a piece: not the deployment's fault."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Caller:
    """Makes calls: the only place that touches a backend."""

    def __init__(self, controller: Controller, backends: Mapping[str, Backend], clock: Clock, sink: EventSink) -> None:
        self._controller = controller
        self._feedback = Feedback(controller)
        self._backends = backends
        self._batchers: dict[tuple[str, Address, int], Batcher] = {}
        self._clock = clock
        self._sink = sink
        self.parked: Counter[str] = Counter()
        """By ingress, those who wait for a batch job."""

    async def run(self, call: Call, responder: Responder | None) -> Outcome:
        """Run to its end. The outcome is always taken into the models, also when the caller is cancelled; a failure
        is in `call.error`. What the responder raises passes through."""
        ending, patience = Ending.CANCELLED, asyncio.timeout(self._patience_s(call))
        call.sent = True
        try:
            async with patience:
                await self._make(call, responder)
            ending = Ending.COMPLETED
        except ReaderGoneError as error:
            raise error.cause from None
        except Rejected as error:
            call.sent, call.error = False, error
        except RouterError as error:
            ending, call.error = Ending.FAILED, error
        except asyncio.CancelledError:
            if _is_being_cancelled():
                raise
            ending, call.error = Ending.FAILED, ProtocolError("the backend cancelled itself")
        except Exception as error:
            if isinstance(error, TimeoutError) and patience.expired():
                call.error = Expired("the deadline passed before the answer was complete")
            else:
                backend = call.attempt.deployment.address.backend
                ending, call.error = Ending.FAILED, ProtocolError(f"{type(error).__name__} in backend {backend}")
                log.exception("backend_failed", backend=backend, attempt=call.attempt.id)
        finally:
            outcome = self._close(call, ending)
        return outcome

    async def _make(self, call: Call, responder: Responder | None) -> None:
        if call.permit.member.batch is not None:
            await self._join_batch(call, call.permit.member.batch, responder)
        elif call.attempt.deployment.job is not None:
            await self._await_job(call, responder)
        else:
            await self._stream(call, responder)

    def _patience_s(self, call: Call) -> float | None:
        deadline = call.attempt.deadline
        return None if deadline is None else max(deadline - self._clock.now(), 0.0)

    async def _stream(self, call: Call, responder: Responder | None) -> None:
        backend = self._backend(call.attempt.deployment)
        async with aclosing(backend.open(call.attempt)) as stream:
            async for delta in stream:
                await self._piece(call, delta, responder)
        if responder is not None and not call.begun:
            self._claim(call)
            await self._begin(call, responder)

    async def _join_batch(self, call: Call, tuner: BatchTuner, responder: Responder | None) -> None:
        ticket, attempt = call.ticket, call.attempt
        terms = ticket.request_class
        batcher = self._batcher(attempt.deployment, tuner)
        due, now = _batch_due(ticket), self._clock.now()
        leave_s = None if due is None else self._controller.patience.leave_s(ticket, due, now=now)
        delta, call.batch_wait_s = await batcher.join(
            attempt, due=due, wait_s=terms.batch_wait_s, is_sheddable=terms.sheddable, leave_s=leave_s
        )
        await self._piece(call, delta, responder)

    async def _await_job(self, call: Call, responder: Responder | None) -> None:
        """Wait for a batch job, which may be paid by others' calls: nothing is, before the answer is there."""
        ticket, source = call.ticket, call.ticket.request.source
        due, now = _batch_due(ticket), self._clock.now()
        leave_s = None if due is None else self._controller.patience.leave_s(ticket, due, now=now)
        leave_at, name = None if leave_s is None else now + leave_s, ticket.request_class.name
        call.attempt = replace(call.attempt, due=due, leave_at=leave_at, request_class=name)
        call.sent = False
        self.parked[source] += 1
        try:
            await self._stream(call, responder)
        finally:
            self.parked[source] -= 1

    async def _piece(self, call: Call, delta: Delta, responder: Responder | None) -> None:
        now = self._clock.now()
        call.note(delta)
        if call.permit.first_token is not None:
            if delta.tokens:
                self._feedback.on_tokens(call.permit, delta.tokens, now=now)
        elif delta.tokens or delta.whole:
            self._claim(call)
            self._tell(self._feedback.on_first_token(call.ticket, call.permit, now=now))
        else:
            call.accepted = call.accepted or now
        if responder is None or call.permit.first_token is None:
            call.pieces.append(delta)
            return
        if not call.begun:
            call.pieces.append(delta)
            await self._begin(call, responder)
        else:
            await self._give(call, responder.delta(delta))

    @staticmethod
    def _claim(call: Call) -> None:
        """The call is about to answer: where another runs beside it, one of them must give way."""
        if call.race is not None:
            call.race.claim(call)

    async def _begin(self, call: Call, responder: Responder) -> None:
        """Open the answer to a reader, with every piece held so far."""
        call.begun = True
        await self._give(call, responder.begin(self.receipt(call)))
        for held in call.pieces:
            await self._give(call, responder.delta(held))

    async def _give(self, call: Call, giving: Awaitable[None]) -> None:
        """The reader's time is its own: it is kept out of what is learned of the deployment."""
        permit, started = call.permit, self._clock.now()
        permit.is_with_reader = True
        try:
            await giving
        except Exception as error:
            raise ReaderGoneError(error) from error
        permit.is_with_reader = False
        now = self._clock.now()
        permit.stall(now - started, now=now)

    def _close(self, call: Call, ending: Ending) -> Outcome:
        attempt, usage, error = call.attempt, call.final_usage(), call.error
        call.permit.is_unsent = not call.sent
        is_paid = (call.sent and ending is not Ending.FAILED) or call.permit.first_token is not None
        is_paid = (is_paid or call.usage is not None) and call.served_as != PAID_BEFORE
        owed = unheard(attempt, usage, call.permit.expected_tokens) if ending is Ending.CANCELLED else usage
        paid = bill(attempt.deployment, owed, served_as=call.served_as, served_model=call.served_model)
        outcome = Outcome(
            attempt=attempt,
            ending=ending,
            ended=self._clock.now(),
            first_token=call.permit.first_token,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
            cache_written_tokens=usage.cache_written_tokens,
            cost_usd=paid.usd if is_paid else 0.0,
            cost_source=paid.source,
            served_otherwise=paid.served_otherwise,
            served_as=call.served_as,
            finish_reason=call.finish_reason,
            served_model=call.served_model,
            error_code=None if error is None else error.code,
            retry_after_s=None if error is None else error.retry_after_s,
            short_of=error.short_of if isinstance(error, Throttled) else None,
            said=error.said if isinstance(error, BackendError) else None,
        )
        waits = (call.batch_wait_s, call.network_s())
        self._tell(self._feedback.on_outcome(call.ticket, call.permit, outcome, *waits))
        return outcome

    def _tell(self, events: list[Event]) -> None:
        for event in events:
            self._sink.emit(event)

    def withdraw(self, call: Call) -> None:
        """Give back a permit whose call was never made."""
        self._close(call, Ending.CANCELLED)

    def receipt(self, call: Call) -> Receipt:
        """How the answer was made, as of now."""
        ticket, attempt = call.ticket, call.attempt
        first = ticket.first_token
        return Receipt(
            decision_id=attempt.decision_id,
            deployment=attempt.deployment.name,
            model=call.served_model or attempt.deployment.model,
            policy=ticket.policy.digest,
            attempts=ticket.attempts + ticket.request.attempts_before,
            cost_usd=ticket.cost_usd,
            cost_source=ticket.cost_source or attempt.deployment.price.source,
            overhead_s=ticket.overhead_s,
            request_class=ticket.request_class.name,
            complexity=ticket.scored.complexity,
            ttft_s=None if first is None else first - ticket.request.arrived,
            queue_s=ticket.queue_s,
        )

    def _backend(self, deployment: Deployment) -> Backend:
        try:
            return self._backends[deployment.address.backend]
        except KeyError:
            raise BackendError(f"no backend is called `{deployment.address.backend}`") from None

    def _batcher(self, deployment: Deployment, tuner: BatchTuner) -> Batcher:
        """One for each batch endpoint as it is described now."""
        key = (deployment.name, deployment.address, id(tuner))
        if key not in self._batchers:
            self._batchers = {k: b for k, b in self._batchers.items() if k[0] != deployment.name}
            backend = cast(BatchBackend, self._backend(deployment))
            self._batchers[key] = Batcher(backend, tuner, self._clock.now, self._sink.emit)
        return self._batchers[key]


def _batch_due(ticket: Ticket) -> float | None:
    """When the whole answer of a batch must be there, which is its first token too; `None` where nothing says so."""
    objectives = ticket.request_class.objectives
    dues = [ticket.began + o.threshold_s for o in (objectives.e2e, objectives.ttft) if o is not None]
    if ticket.aim is not None:
        dues.append(ticket.aim)
    return min(dues, default=None)


def _is_being_cancelled() -> bool:
    """Whether somebody asked this task to end, rather than something below it having cancelled itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
