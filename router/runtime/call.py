"""One call to one backend: the pieces come in, are measured, and go out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Protocol, cast

from router.control.batching import BatchTuner
from router.core.controller import Controller
from router.core.feedback import Feedback
from router.core.ledger import Permit
from router.core.ticket import Ticket
from router.domain.deployment import Deployment
from router.domain.errors import BackendError, Expired, ProtocolError, RouterError
from router.domain.events import Event
from router.domain.outcome import Attempt, Delta, Ending, Outcome, Receipt, Usage
from router.ports.backend import Backend, BatchBackend
from router.ports.clock import Clock
from router.ports.dispatch import EventSink, Responder
from router.runtime.batcher import Batcher


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
        "error",
        "finish_reason",
        "permit",
        "pieces",
        "race",
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
        self.error: RouterError | None = None
        self.batch_wait_s: float | None = None
        self.race: Claim | None = None
        self.accepted: float | None = None
        """When the backend had taken the call, where it says so before the first token."""

    def note(self, delta: Delta) -> None:
        """Keep what a piece says about the whole."""
        self.tokens += delta.tokens
        self.usage = delta.usage or self.usage
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.served_model = delta.served_model or self.served_model

    def network_s(self) -> float | None:
        """Seconds until the backend had the call."""
        return None if self.accepted is None else self.accepted - self.attempt.started

    def final_usage(self) -> Usage:
        """Tokens as the backend counted them, or as we did."""
        return self.usage or Usage(self.attempt.request.input_tokens, self.tokens)


class Caller:
    """Makes calls: the only place that touches a backend."""

    def __init__(self, controller: Controller, backends: Mapping[str, Backend], clock: Clock, sink: EventSink) -> None:
        self._controller = controller
        self._feedback = Feedback(controller)
        self._backends = backends
        self._batchers: dict[str, Batcher] = {}
        self._clock = clock
        self._sink = sink

    async def run(self, call: Call, responder: Responder | None) -> Outcome:
        """Run to its end. The outcome is always taken into the models, also when the caller is cancelled; a failure
        is in `call.error`."""
        ticket, attempt = call.ticket, call.attempt
        ending = Ending.FAILED
        try:
            async with asyncio.timeout(self._patience_s(call)):
                tuner = self._controller.tuner(attempt.deployment)
                if tuner is None:
                    await self._stream(call, responder)
                else:
                    await self._join_batch(call, tuner, responder)
            ending = Ending.COMPLETED
        except TimeoutError:
            call.error = Expired("the deadline passed before the answer was complete")
            ending = Ending.CANCELLED if ticket.first_token is not None else Ending.FAILED
        except RouterError as error:
            call.error = error
        except asyncio.CancelledError:
            self._close(call, Ending.CANCELLED)
            raise
        except Exception as error:
            self._close(call, Ending.FAILED)
            raise ProtocolError(f"{type(error).__name__} in backend {attempt.deployment.address.backend}") from error
        return self._close(call, ending)

    def _patience_s(self, call: Call) -> float | None:
        deadline = call.attempt.deadline
        return None if deadline is None else max(deadline - self._clock.now(), 0.0)

    async def _stream(self, call: Call, responder: Responder | None) -> None:
        backend = self._backend(call.attempt.deployment)
        async with aclosing(backend.open(call.attempt)) as stream:
            async for delta in stream:
                await self._piece(call, delta, responder)

    async def _join_batch(self, call: Call, tuner: BatchTuner, responder: Responder | None) -> None:
        ticket, attempt = call.ticket, call.attempt
        objective = ticket.request_class.objectives.e2e or ticket.request_class.objectives.ttft
        due = ticket.deadline if objective is None else ticket.request.arrived + objective.threshold_s
        batcher = self._batcher(attempt.deployment, tuner)
        delta, call.batch_wait_s = await batcher.join(attempt, due=due, wait_s=ticket.request_class.batch_wait_s)
        await self._piece(call, delta, responder)

    async def _piece(self, call: Call, delta: Delta, responder: Responder | None) -> None:
        now = self._clock.now()
        call.note(delta)
        begun = call.permit.first_token is not None
        if begun:
            if delta.tokens:
                self._feedback.on_tokens(call.permit, delta.tokens, now=now)
        elif not (delta.tokens or delta.whole):
            call.accepted = call.accepted or now
        else:
            if call.race is not None:
                call.race.claim(call)
            self._tell(self._feedback.on_first_token(call.ticket, call.permit, now=now))
        if responder is None or call.permit.first_token is None:
            call.pieces.append(delta)
            return
        if not begun:
            await responder.begin(self.receipt(call))
            for held in call.pieces:
                await responder.delta(held)
        await responder.delta(delta)

    def _close(self, call: Call, ending: Ending) -> Outcome:
        attempt, usage, error = call.attempt, call.final_usage(), call.error
        unmade = call.ticket.sent is None or (ending is Ending.FAILED and call.permit.first_token is None)
        outcome = Outcome(
            attempt=attempt,
            ending=ending,
            ended=self._clock.now(),
            first_token=call.permit.first_token,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_usd=0.0 if unmade else attempt.deployment.price.cost_usd(usage.input_tokens, usage.output_tokens),
            finish_reason=call.finish_reason,
            served_model=call.served_model,
            error_code=None if error is None else error.code,
            retry_after_s=None if error is None else error.retry_after_s,
        )
        self._tell(self._feedback.on_outcome(call.ticket, call.permit, outcome, call.batch_wait_s, call.network_s()))
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
            overhead_s=max(attempt.started - ticket.request.arrived - ticket.queue_s, 0.0),
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
        name = deployment.name
        if name not in self._batchers:
            backend = cast(BatchBackend, self._backend(deployment))
            self._batchers[name] = Batcher(backend, self._clock.now)
        self._batchers[name].tuner = tuner
        return self._batchers[name]
