"""Sends the parts of a request out together, and makes one answer of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol

import structlog

from router.domain.control.fanout import FanoutEnded
from router.domain.errors import RouterError
from router.domain.outcome import Receipt, Reply
from router.domain.request import Request
from router.policy.policy import Bounds
from router.ports.clock import Clock
from router.ports.dispatch import BeforeCall, EventSink, Responder
from router.ports.parts import KeptParts
from router.runtime.fanout.keeping import Keeping
from router.runtime.fanout.streams import MergeStream, PartsStream
from router.runtime.fanout.sums import summed, used
from router.wire.openai import whole_choices
from router.wire.openai.fanout.merge import Merge
from router.wire.openai.fanout.plan import Plan, read_plan
from router.wire.openai.fanout.report import Told, for_merge, joined, report

log = structlog.get_logger("router.fanout")


class Submit(Protocol):
    """`router.ports.dispatch.Dispatch.submit`."""

    def __call__(
        self, request: Request, responder: Responder | None = None, *, on_call: BeforeCall | None = None
    ) -> Coroutine[Any, Any, Reply]: ...


class Fanout:
    """Answers requests that have parts, each part by `submit`."""

    def __init__(self, submit: Submit, bounds: Callable[[], Bounds], clock: Clock, sink: EventSink) -> None:
        self._submit, self._bounds, self._clock, self._sink = submit, bounds, clock, sink
        self.store: KeptParts | None = None
        """Where the parts of journalled requests are kept until the whole is answered."""

    async def answer(self, request: Request, responder: Responder | None, on_call: BeforeCall | None) -> Reply:
        """See `router.ports.dispatch.Dispatch.submit`. Where every part fails, with the worst of the errors."""
        began, bounds, tally, status = self._clock.now(), self._bounds(), _Tally(), "failed"
        try:
            status = "refused"
            plan = read_plan(request, most=bounds.fanout_parts)
            status, tally.planned = "failed", len(plan.parts)
            keeping = Keeping(None if on_call is None else self.store, request)
            await keeping.open()
            whole = _Whole(request, plan, self._submit, self._clock, responder, on_call)
            reply = await whole.answer(asyncio.Semaphore(bounds.fanout_parallel), tally, keeping)
            await keeping.release()
            status = "partial" if tally.failed or tally.merge == "failed" else "completed"
            return reply
        except asyncio.CancelledError:
            status = "cancelled"
            raise
        finally:
            now = self._clock.now()
            self._sink.emit(tally.event(request, status, now - began, at=self._clock.at()))


class _Tally:
    """What is counted of one request."""

    def __init__(self) -> None:
        self.planned = self.completed = self.recalled = self.failed = 0
        self.merge, self.parts_s = "", 0.0

    def event(self, request: Request, status: str, seconds: float, *, at: float) -> FanoutEnded:
        """How it ended. Parts that have not ended by now were cancelled."""
        counts = (self.completed, self.recalled, self.failed)
        cancelled = self.planned - sum(counts)
        return FanoutEnded(request.id, status, *counts, cancelled, self.merge, seconds, self.parts_s, at)


class _Whole:
    """One request with parts."""

    def __init__(
        self,
        request: Request,
        plan: Plan,
        submit: Submit,
        clock: Clock,
        responder: Responder | None,
        on_call: BeforeCall | None,
    ) -> None:
        self._request, self._plan, self._submit, self._clock = request, plan, submit, clock
        self._responder, self._on_call = responder, on_call

    async def answer(self, gate: asyncio.Semaphore, tally: _Tally, keeping: Keeping) -> Reply:
        """Make the parts, as many at once as the gate lets through, and put them together."""
        tasks = [asyncio.ensure_future(self._part(part, gate, tally, keeping)) for part in self._plan.parts]
        try:
            voice = self._voice() if self._plan.merge is None else None
            parts = await self._gather(tasks, voice)
        finally:
            await _stop(tasks)
        if not any(isinstance(told, Reply) for told in parts):
            raise _worst(parts)
        if self._plan.merge is None:
            return await self._joined(parts, None, voice)
        return await self._merged(self._plan.merge, parts, tally)

    async def _part(self, part: Request, gate: asyncio.Semaphore, tally: _Tally, keeping: Keeping) -> Told:
        known = keeping.known(part)
        if known is not None:
            tally.recalled += 1
            return known
        async with gate:
            began = self._clock.now()
            try:
                reply = await self._submit(part, on_call=self._on_call)
                await keeping.keep(part, reply)
                told: Told = reply
                tally.completed += 1
            except RouterError as error:
                told = error
                tally.failed += 1
            except Exception as error:
                log.exception("part_failed", request_id=part.id)
                told = RouterError(f"the part could not be carried on: {type(error).__name__}")
                tally.failed += 1
            tally.parts_s += self._clock.now() - began
            return told

    async def _gather(self, tasks: Iterable[asyncio.Future[Told]], voice: PartsStream | None) -> list[Told]:
        """All parts in order. `voice` hears each as soon as its turn comes."""
        parts: list[Told] = []
        for task in tasks:
            told = await task
            self._check_is_ours(told)
            parts.append(told)
            if voice is not None:
                await voice.hear(parts)
        return parts

    def _check_is_ours(self, told: Told) -> None:
        """A request that is journalled is carried on by the next life of the process: half an answer would end it."""
        if isinstance(told, RouterError) and told.code == "draining" and self._on_call is not None:
            raise told

    async def _merged(self, merge: Merge, parts: Sequence[Told], tally: _Tally) -> Reply:
        """The answer that the merge makes of the parts; where it fails before it has said anything, all parts."""
        now = self._clock.now()
        request = merge.request([for_merge(told) for told in parts], arrived=now, at=self._clock.at())
        receipts, after_s = _receipts(parts), now - self._request.arrived

        def whole(receipt: Receipt) -> Receipt:
            return summed(self._request, receipts, receipt, merge_after_s=after_s)

        stream = None if self._responder is None else MergeStream(self._responder, whole)
        try:
            made = await self._submit(request, stream, on_call=self._on_call)
        except RouterError as error:
            tally.merge = "failed"
            self._check_is_ours(error)
            if stream is not None and stream.begun:
                raise
            voice = self._voice()
            if voice is not None:
                await voice.hear(parts)
            return await self._joined(parts, error, voice)
        tally.merge = "completed"
        return Reply(
            self._request,
            made.choices,
            used([*_replies(parts), made]),
            whole(made.receipt),
            int(self._request.at),
            made.finish_reason,
            report(parts, made),
        )

    def _voice(self) -> PartsStream | None:
        if self._responder is None:
            return None
        return PartsStream(self._responder, lambda parts: summed(self._request, _receipts(parts), None))

    async def _joined(self, parts: Sequence[Told], merge: RouterError | None, voice: PartsStream | None) -> Reply:
        """The parts themselves, in order. `voice` has given them to the reader already."""
        if voice is not None:
            await voice.end()
        return Reply(
            self._request,
            b"[]" if voice is not None else whole_choices(joined(parts), "stop"),
            used(_replies(parts)),
            summed(self._request, _receipts(parts), None),
            int(self._request.at),
            "stop",
            report(parts, merge),
        )


def _replies(parts: Iterable[Told]) -> list[Reply]:
    return [told for told in parts if isinstance(told, Reply)]


def _receipts(parts: Iterable[Told]) -> list[Receipt]:
    return [reply.receipt for reply in _replies(parts)]


def _worst(parts: Sequence[Told]) -> RouterError:
    """The error with the highest HTTP status: where one of them may pass, the sender should ask again."""
    errors = [told for told in parts if isinstance(told, RouterError)]
    worst = max(errors, key=lambda error: error.http_status)
    if len(errors) == 1:
        return worst
    message = f"all {len(errors)} parts failed; part {parts.index(worst)}: {worst.message}"
    return type(worst)(message, code=worst.code, param=worst.param, retry_after_s=worst.retry_after_s)


async def _stop(tasks: Sequence[asyncio.Future[Told]]) -> None:
    """End what still runs, and wait until it has."""
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)
