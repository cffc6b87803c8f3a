"""The life of a request, written once: admitted, decided, called, answered, measured.

The daemon's ingresses, the simulator and the tests all enter here, at `Dispatcher.submit`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import cast

import structlog
from msgspec.structs import replace

from router.core.attempts import next_step
from router.core.controller import Controller
from router.core.evidence import Hold
from router.core.feedback import Feedback
from router.core.ledger import Permit
from router.core.ticket import Ticket
from router.domain.deployment import Deployment
from router.domain.errors import BackendError, Expired, Rejected, RequestError, RouterError, TimedOut
from router.domain.events import DecisionMade, RequestReceived, RequestRejected, RequestShaped
from router.domain.outcome import Attempt, Outcome, Reply
from router.domain.request import Request
from router.ports.backend import Backend
from router.ports.clock import Clock
from router.ports.dispatch import BeforeCall, EventSink, Responder
from router.runtime.after.cascade import Cascade
from router.runtime.after.judging import Judges
from router.runtime.cache import ResponseCache
from router.runtime.call import Call, Caller
from router.runtime.fanout.fanout import Fanout
from router.runtime.hedge import run_hedged
from router.runtime.jobs.homes import Homes
from router.runtime.queue import Queue
from router.runtime.window import Windows
from router.wire.openai import assemble
from router.wire.openai.verify import without_logprobs

Grant = tuple[Attempt, Permit]
_DRAIN_LOOK_S = 0.02
_NOBODY_LEFT = frozenset({"no_deployment", "unsupported", "over_budget", "insufficient_quota"})

log = structlog.get_logger("router.dispatcher")


class Dispatcher:
    """Implements `router.ports.dispatch.Dispatch` over the controller and the backends."""

    def __init__(self, controller: Controller, backends: Mapping[str, Backend], clock: Clock, sink: EventSink) -> None:
        self.controller = controller
        self.queue = Queue(self._grant, controller.lane, clock.now, controller.outlook)
        self._caller = Caller(controller, backends, clock, sink)
        self._windows = Windows(controller.window, self._grant_in_turn, self._give_back, clock, sink)
        self._feedback = Feedback(controller)
        self._cache = ResponseCache(clock, sink, self._feedback)
        queue = self.queue
        self._judges = Judges(controller, self._caller, clock, sink, waiting=lambda: queue.waiting, freed=queue.pump)
        self.cascade = Cascade(controller, self._caller, clock, sink, self._grant)
        self.homes = Homes(controller)
        self.fanout = Fanout(self.submit, lambda: controller.policy.bounds, clock, sink)
        self._clock = clock
        self._sink = sink
        self._draining = False
        self.in_flight = 0
        self.conditions: list[Callable[[], str | None]] = []
        """What else must hold before traffic should come: each says what is missing, or `None`."""
        self.remarks: list[Callable[[], str | None]] = []
        """What whoever asks should know though all is well: each says something, or `None`."""

    async def submit(
        self, request: Request, responder: Responder | None = None, *, on_call: BeforeCall | None = None
    ) -> Reply:
        """See `router.ports.dispatch.Dispatch.submit`."""
        if request.subqueries:
            return await self.fanout.answer(request, responder, on_call)
        now = self._clock.now()
        name = request.request_class or ""
        try:
            if self._draining:
                raise Rejected("the router is shutting down", code="draining", retry_after_s=1.0)
            ticket = self.controller.admit(request, now=now)
        except RouterError as error:
            self._sink.emit(RequestReceived(request, name, now))
            self._sink.emit(RequestRejected(request, name, error.code, "admission", now))
            raise
        self._sink.emit(RequestReceived(request, ticket.request_class.name, now))
        for what, tokens_saved in ticket.shaped:
            self._sink.emit(RequestShaped(ticket.request_class.name, what, tokens_saved))
        self.in_flight += 1
        try:
            return await self._serve(ticket, responder, on_call)
        finally:
            self.in_flight -= 1

    async def _serve(self, ticket: Ticket, responder: Responder | None, on_call: BeforeCall | None) -> Reply:
        try:
            if ticket.request_class.cache is None:
                return await self._fresh(ticket, responder, on_call)
            return await self._cache.answer(ticket, responder, lambda to: self._fresh(ticket, to, on_call))
        except RouterError as error:
            self._end(ticket, None, error)
            raise
        except asyncio.CancelledError:
            self._end(ticket, None, Expired("the sender has gone", code="client_gone"))
            raise
        except Exception as error:
            self._end(ticket, None, RouterError(f"the request could not be carried on: {type(error).__name__}"))
            raise

    async def _fresh(self, ticket: Ticket, responder: Responder | None, on_call: BeforeCall | None) -> Reply:
        """An answer of its own, which the class may have judged afterwards."""
        if ticket.request_class.judge is None:
            return await self._made(ticket, responder, on_call)
        return await self._judges.listen(ticket, responder, lambda to: self._made(ticket, to, on_call))

    async def _made(self, ticket: Ticket, responder: Responder | None, on_call: BeforeCall | None) -> Reply:
        """An answer of its own: calls until one answers, or none may be made any more."""
        failure: RouterError | None = None
        self.homes.enter(ticket)
        held = self.cascade.hold(ticket, responder) if ticket.request_class.cascade is not None else None
        while True:
            call, outcome = await self._attempt(ticket, held or responder, on_call, failure)
            if call.error is None:
                break
            leaves = responder is not None if held is None else held.has_gone
            failure = await self._recover(ticket, call.error, streamed=leaves)
        if ticket.checks is not None:
            try:
                call, outcome = await self.cascade.settle(call, outcome, held, lambda c: self._announce(c, on_call))
            finally:
                self.queue.pump()
        return self._answer(ticket, call, outcome, streamed=responder is not None)

    async def _attempt(
        self,
        ticket: Ticket,
        responder: Responder | None,
        on_call: BeforeCall | None,
        failure: RouterError | None,
    ) -> tuple[Call, Outcome]:
        """One decision and the call it leads to. After a failure nothing else may be able to take the request: then
        that failure is the answer."""
        try:
            call = Call(ticket, *await self._granted(ticket))
        except (Rejected, RequestError) as error:
            if failure is not None and error.code in _NOBODY_LEFT:
                raise failure from error
            raise
        try:
            await self._announce(call, on_call)
            return await self._run(call, responder, on_call)
        finally:
            self.queue.pump()

    async def _announce(self, call: Call, on_call: BeforeCall | None) -> None:
        """Let the ingress note that a call is about to be made; if it cannot, the permit goes back."""
        if on_call is not None:
            try:
                await on_call()
            except BaseException:
                self._caller.withdraw(call)
                raise
        call.ticket.on_sent(self._clock.now())

    async def _run(self, call: Call, responder: Responder | None, on_call: BeforeCall | None) -> tuple[Call, Outcome]:
        """Make the call, with a second beside it where the class hedges and the first is silent."""
        after_s = call.ticket.request_class.hedge_after_s
        if after_s is None or call.attempt.deployment.job is not None:
            return call, await self._caller.run(call, responder)
        return await run_hedged(
            call,
            lambda: self._rival(call, on_call),
            lambda made: self._caller.run(made, responder),
            self._caller.withdraw,
            after_s,
        )

    async def _rival(self, call: Call, on_call: BeforeCall | None) -> Call | None:
        """A call to another deployment, if one has room and the retry budget allows it."""
        ticket = call.ticket
        ticket.tried |= {call.attempt.deployment.name}
        if not self.controller.routable(ticket) - ticket.tried or self.controller.retries.tokens < 1.0:
            return None
        try:
            grant = self._grant(ticket)
            if isinstance(grant, Hold):
                return None
            self.controller.retries.take()
            second = Call(ticket, *grant)
            await self._announce(second, on_call)
        except (Rejected, Expired, RequestError):
            return None
        except Exception:
            log.warning("hedge_failed", attempt=call.attempt.id, exc_info=True)
            return None
        return second

    async def _granted(self, ticket: Ticket) -> Grant:
        """Decide now, or wait in the queue for room."""
        for_budget = False
        if not self.queue.blocks(ticket):
            grant = cast(Grant | Hold, await self._windows.grant(ticket))
            if not isinstance(grant, Hold):
                return grant
            for_budget = grant.for_budget
        waiter = self.queue.add(ticket, for_budget=for_budget)
        ticket.queued = True
        try:
            return cast(Grant, await waiter.granted)
        except asyncio.CancelledError:
            self.queue.remove(waiter)
            if waiter.granted.done() and not waiter.granted.cancelled() and waiter.granted.exception() is None:
                self._give_back(ticket, waiter.granted.result())
            raise
        finally:
            ticket.queue_s += self._clock.now() - waiter.since

    def _give_back(self, ticket: Ticket, grant: object) -> None:
        """Nobody waits for this grant any more."""
        if not isinstance(grant, Hold):
            self._caller.withdraw(Call(ticket, *cast(Grant, grant)))
            self.queue.pump()

    def _grant_in_turn(self, ticket: Ticket, now: float | None = None) -> Grant | Hold:
        """Decide, unless somebody waits in the queue before it by now."""
        return Hold(()) if self.queue.blocks(ticket) else self._grant(ticket, now)

    def _grant(self, ticket: Ticket, now: float | None = None) -> Grant | Hold:
        started = self._clock.stopwatch()
        now = self._clock.now() if now is None else now
        decision = self.controller.decide(ticket, now=now)
        if isinstance(decision, Hold):
            return decision
        attempt, permit = self.controller.start(ticket, now=now)
        took_s = self._clock.stopwatch() - started
        self._sink.emit(DecisionMade(replace(decision, decide_s=took_s, parent=ticket.request.parent)))
        if ticket.shadow is not None and ticket.attempts == 1:
            self._compare(ticket, now)
        return attempt, permit

    def _compare(self, ticket: Ticket, now: float) -> None:
        """With an edit in the shadow. Whatever is wrong with that edit, the request goes on."""
        try:
            compared = self.controller.compare(ticket, now=now)
        except Exception:
            log.exception("comparison_failed", request_class=ticket.request_class.name)
            return
        if compared is not None:
            self._sink.emit(compared)

    async def _recover(self, ticket: Ticket, error: RouterError, *, streamed: bool) -> RouterError:
        """Return when the request should be decided again; raise when it has failed for good."""
        now, controller = self._clock.now(), self.controller
        self.homes.leave(ticket, error)
        routable = controller.routable(ticket)
        if not isinstance(error, BackendError):
            if controller.patience.climbs(ticket, error.code, routable=routable, now=now):
                return error
            raise error
        if isinstance(error, TimedOut) and ticket.deadline is not None and now >= ticket.deadline:
            raise Expired("the deadline passed before the answer was complete") from error
        wait_s = next_step(ticket, error, controller.retries, routable=routable, streamed=streamed, now=now)
        if wait_s is None:
            raise error
        if wait_s > 0.0:
            await asyncio.sleep(wait_s)
        return error

    def _answer(self, ticket: Ticket, call: Call, outcome: Outcome, *, streamed: bool) -> Reply:
        pieces = call.pieces
        if streamed:
            choices = b"[]"
        elif len(pieces) == 1 and pieces[0].whole:
            choices = pieces[0].choices
        else:
            choices = assemble(pieces)
        if call.attempt.logprobs:
            choices = without_logprobs(choices)
        self._end(ticket, outcome, None)
        request, receipt = ticket.request, self._caller.receipt(call)
        return Reply(request, choices, call.final_usage(), receipt, int(request.at), call.finish_reason)

    def _end(self, ticket: Ticket, done: Outcome | None, error: RouterError | None) -> None:
        now, request = self._clock.now(), ticket.request
        if ticket.attempts == 0 and error is not None:
            stage = "queue" if ticket.queued else "decision"
            self._feedback.on_refused(ticket, error, now=now)
            self._sink.emit(RequestRejected(request, ticket.request_class.name, error.code, stage, now, ticket.arm))
        else:
            self._sink.emit(self._feedback.on_end(ticket, done, error, now=now))

    def feedback(self, decision_id: str, quality: float) -> bool:
        """See `router.ports.dispatch.Dispatch.feedback`."""
        event = self._feedback.on_quality(decision_id, quality, adequate=1.0 if quality >= 0.5 else 0.0)
        self._sink.emit(event)
        return event.known

    def deployments(self) -> tuple[Deployment, ...]:
        """See `router.ports.dispatch.Dispatch.deployments`."""
        return self.controller.policy.deployments

    def classes(self) -> tuple[str, ...]:
        """See `router.ports.dispatch.Dispatch.classes`."""
        return tuple(c.name for c in self.controller.policy.classes)

    def is_ready(self) -> tuple[bool, str]:
        """See `router.ports.dispatch.Dispatch.is_ready`."""
        if self._draining:
            return False, "draining"
        if not self.controller.policy.deployments:
            return False, "the policy lists no deployment"
        missing = [why for why in (condition() for condition in self.conditions) if why is not None]
        if missing:
            return False, "; ".join(missing)
        remarks = [remark for remark in (one() for one in self.remarks) if remark is not None]
        return True, "; ".join([f"policy {self.controller.policy.digest}{' in force' if remarks else ''}", *remarks])

    def has_room(self) -> bool:
        """See `router.ports.dispatch.Dispatch.has_room`."""
        return not self._draining and self.queue.waiting < max(self.controller.policy.bounds.queue_requests // 2, 1)

    def held(self, source: str) -> int:
        """See `router.ports.dispatch.Dispatch.held`."""
        return self.queue.held(source) + self._caller.parked[source]

    def turn_away(self) -> None:
        """Who waits for the next day's budget is told that the router is shutting down, and who would later."""
        self.queue.turn_away()

    def tick(self) -> None:
        """The controller's heartbeat: limits, prices, overdue calls, the queue."""
        for event in self.controller.tick(now=self._clock.now(), at=self._clock.at()):
            self._sink.emit(event)
        self._judges.tick()
        self.queue.expire()
        if len(self.queue):
            self.queue.pump()
        self._sink.emit(self.queue.observed())

    async def drain(self, grace_s: float) -> bool:
        """Take nothing new and wait for what is in flight; false when some was left."""
        self._draining = True
        until = self._clock.now() + grace_s
        while self.in_flight > self._caller.parked.total() and self._clock.now() < until:  # noqa: ASYNC110  # the last one to end tells nobody
            await asyncio.sleep(_DRAIN_LOOK_S)
        await self._judges.stop(until - self._clock.now())
        return not self.in_flight
