"""Has finished answers judged, after their senders have them: nobody waits for it.

The call goes the way of every call, through the caller: permit, circuit, ledger, books. It is made once and not tried
again. When the router stops, calls under way have a moment to end, and verdicts that waited for a sender count at once.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from math import inf

import structlog
from msgspec.structs import replace

from router.core.controller import Controller
from router.core.feedback import Feedback
from router.core.judging.docket import ADEQUATE
from router.core.judging.judging import Drawn, Hearing, account_of, is_readable
from router.core.ticket import Ticket
from router.domain.events import JUDGE, AnswerJudged
from router.domain.outcome import Delta, Receipt, Reply
from router.domain.request import Request
from router.learning.verdict import read_verdict
from router.ports.clock import Clock
from router.ports.dispatch import EventSink, Responder
from router.runtime.call import Call, Caller
from router.wire.openai import Envelope, assemble, read_request
from router.wire.openai.judged import judge_body
from router.wire.openai.verify import read_answer

_LONGEST_STOP_S = 2.0
"""How long calls under way may still take when the router stops."""

Made = Callable[[Responder | None], Awaitable[Reply]]

log = structlog.get_logger("router.judging")


class _Recorder:
    """The responder of a stream that will be judged: passes every piece on and keeps it."""

    def __init__(self, to: Responder) -> None:
        self._to = to
        self.pieces: list[Delta] = []

    async def begin(self, receipt: Receipt) -> None:
        """See `router.ports.dispatch.Responder.begin`."""
        self.pieces.clear()
        await self._to.begin(receipt)

    async def delta(self, delta: Delta) -> None:
        """See `router.ports.dispatch.Responder.delta`."""
        self.pieces.append(delta)
        await self._to.delta(delta)


class Judges:
    """Takes the answers of classes that have a judge. `waiting` says how many requests wait for room; `freed` is called
    when a call gives its room back."""

    def __init__(
        self,
        controller: Controller,
        caller: Caller,
        clock: Clock,
        sink: EventSink,
        *,
        waiting: Callable[[], int],
        freed: Callable[[], None],
    ) -> None:
        self._controller, self._caller, self._clock, self._sink = controller, caller, clock, sink
        self._feedback = Feedback(controller)
        self._waiting, self._freed = waiting, freed
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    async def listen(self, ticket: Ticket, responder: Responder | None, made: Made) -> Reply:
        """The answer by `made`, which is judged afterwards if it was drawn. What `made` raises passes through."""
        if not self._controller.judging.draws(ticket):
            return await made(responder)
        recorder = None if responder is None else _Recorder(responder)
        reply = await made(recorder)
        drawn = _drawn(ticket, reply)
        if drawn is None:
            return reply
        if self._stopped:
            self._tell(drawn, "stopped")
        else:
            pieces = None if recorder is None else recorder.pieces
            task = asyncio.get_running_loop().create_task(self._judge(drawn, reply, pieces), name="judging")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return reply

    async def _judge(self, drawn: Drawn, reply: Reply, pieces: list[Delta] | None) -> None:
        try:
            asking = self._asking(drawn, reply.choices if pieces is None else assemble(pieces))
        except Exception as error:
            log.warning("answer_not_read", decision_id=drawn.decision_id, error=type(error).__name__)
            asking = None
        if asking is None:
            self._tell(drawn, "not_text")
        elif self._waiting():
            self._tell(drawn, "busy")
        else:
            hearing = self._controller.judging.open(drawn, asking, now=self._clock.now())
            if isinstance(hearing, str):
                self._tell(drawn, hearing)
            else:
                await self._hear(drawn, hearing)

    def _asking(self, drawn: Drawn, choices: bytes) -> Request | None:
        """The request that asks for a verdict; `None` where there is no text to judge."""
        answer = read_answer(choices) if is_readable(drawn.request) else None
        if answer is None or answer.text is None:
            return None
        terms, mark = drawn.judge, secrets.token_hex(8)
        asked = drawn.request.payload
        body = judge_body(asked, answer.text, rubric=terms.rubric, reference=terms.reference, mark=mark)
        if body is None:
            return None
        now, at = self._clock.now(), self._clock.at()
        return read_request(body, Envelope(f"{drawn.decision_id}.judge", now, at, JUDGE, drawn.request.tenant))

    async def _hear(self, drawn: Drawn, hearing: Hearing) -> None:
        """Make the call and take in what it says. Its cost is settled by whoever made it, also where it is cut off."""
        call, started = Call(*hearing), self._clock.now()
        quality, verdict = None, "stopped"
        try:
            await self._caller.run(call, None)
            quality = None if call.error is not None else _said(call)
            verdict = "failed" if call.error is not None else _verdict(quality)
        finally:
            now = self._clock.now()
            self._controller.judging.close(drawn, quality, now=now)
            cost_usd = hearing.ticket.cost_usd
            self._tell(drawn, verdict, call, quality=quality, cost_usd=cost_usd, seconds=now - started)
            if not self._stopped:
                self._freed()

    def _tell(
        self,
        drawn: Drawn,
        verdict: str,
        call: Call | None = None,
        *,
        quality: float | None = None,
        cost_usd: float = 0.0,
        seconds: float = 0.0,
    ) -> None:
        name = drawn.request_class.name
        self._sink.emit(
            AnswerJudged(
                request_class=name,
                judge=drawn.judge.deployment if call is None else call.attempt.deployment.name,
                model=drawn.model,
                decision_id=drawn.decision_id,
                verdict=verdict,
                propensity=drawn.judge.share_ratio,
                at=self._clock.at(),
                quality=quality,
                cost_usd=cost_usd,
                seconds=seconds,
                call_id="" if call is None else call.attempt.decision_id,
                account=account_of(name),
            )
        )

    def tick(self, *, until: float | None = None) -> None:
        """Learn from the verdicts that have waited long enough; from all that have waited until then."""
        docket = self._controller.judging.docket
        for verdict in docket.due(self._clock.now() if until is None else until):
            adequate = 1.0 if verdict.quality >= ADEQUATE else 0.0
            event = self._feedback.on_quality(verdict.decision_id, verdict.quality, adequate=adequate, source=JUDGE)
            self._sink.emit(replace(event, propensity=verdict.propensity))
        for compared in docket.compared():
            self._sink.emit(compared)

    async def stop(self, grace_s: float) -> None:
        """Take nothing new, give calls under way a moment, cut off the others, and learn from what is there."""
        self._stopped = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=min(max(grace_s, 0.0), _LONGEST_STOP_S))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.tick(until=inf)


def _drawn(ticket: Ticket, reply: Reply) -> Drawn | None:
    """What is to be judged; `None` where the deployment that answered is not of the policy of the ticket any more."""
    judge, receipt = ticket.request_class.judge, reply.receipt
    deployment = next((d for d in ticket.policy.deployments if d.name == receipt.deployment), None)
    if judge is None or deployment is None:
        return None
    origin, scored = ticket.original, ticket.scored
    return Drawn(receipt.decision_id, origin, ticket.request_class, judge, ticket.policy, scored, deployment.model)


def _said(call: Call) -> float | None:
    """The verdict in an answer that ended by itself: one that was cut off may end with what it only quoted."""
    answer = read_answer(assemble(call.pieces))
    if answer is None or answer.text is None or "length" in (answer.finish_reason, call.finish_reason):
        return None
    return read_verdict(answer.text)


def _verdict(quality: float | None) -> str:
    if quality is None:
        return "unreadable"
    return "adequate" if quality >= ADEQUATE else "inadequate"
