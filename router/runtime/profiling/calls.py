"""One call to one deployment, made through its backend, measured and priced; whatever happens is a `Sample`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from itertools import count
from typing import cast

from router.core.spending.billing import bill
from router.domain.decision import DecisionId
from router.domain.deployment import Deployment, Kind
from router.domain.errors import BackendError, RouterError
from router.domain.outcome import Attempt, AttemptId, Delta, Usage
from router.learning.profiling.calls import Sample
from router.ports.backend import Backend, BatchBackend
from router.ports.clock import Clock
from router.runtime.profiling.prompts import Asked
from router.wire.openai import Envelope, read_request

_SOURCE = "profile"
_TOLD = 200
"""Letters of an error that are kept."""


class _Heard:
    """What the pieces of one answer say."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.tokens = 0
        self.usage: Usage | None = None
        self.served_as: str | None = None
        self.served_model: str | None = None

    def note(self, delta: Delta, now: float) -> None:
        if self.first is None and delta.tokens and not delta.whole:
            self.first = now
        self.tokens += delta.tokens
        self.usage = delta.usage or self.usage
        self.served_as = delta.served_as or self.served_as
        self.served_model = delta.served_model or self.served_model


class Caller:
    """Calls one deployment. `patience_s` bounds each call."""

    def __init__(self, backend: Backend, deployment: Deployment, clock: Clock, *, patience_s: float) -> None:
        self._backend, self._deployment, self._clock, self._patience_s = backend, deployment, clock, patience_s
        self._numbers = count(1)

    @property
    def takes_batches(self) -> bool:
        """Whether the deployment takes one formed batch at a time."""
        return self._deployment.kind is Kind.BATCH

    async def send(self, asked: Sequence[Asked]) -> Sample:
        """Have one call answered, or one batch; never raises but for being cancelled."""
        attempts = tuple(self._attempt(one) for one in asked)
        heard = [_Heard() for _ in attempts]
        error: Exception | None = None
        try:
            async with asyncio.timeout(self._patience_s):
                await (self._batch if self.takes_batches else self._stream)(attempts, heard)
        except Exception as raised:
            error = raised
        ended = self._clock.now()
        bills = [self._paid(a, h) for a, h in zip(attempts, heard, strict=True) if error is None or h.first is not None]
        return Sample(
            sent=attempts[0].started,
            ended=ended,
            first=heard[0].first,
            input_tokens=sum(usage.input_tokens for usage, _, _ in bills),
            output_tokens=sum(usage.output_tokens for usage, _, _ in bills),
            usd=sum(usd for _, usd, _ in bills),
            input_usd=sum(usd for _, _, usd in bills),
            code=None if error is None else _code(error),
            problem="" if error is None else str(error)[:_TOLD],
            retry_after_s=error.retry_after_s if isinstance(error, RouterError) else None,
            has_usage=all(h.usage is not None for h in heard),
            items=len(attempts),
        )

    async def _stream(self, attempts: Sequence[Attempt], heard: Sequence[_Heard]) -> None:
        async with aclosing(self._backend.open(attempts[0])) as pieces:
            async for delta in pieces:
                heard[0].note(delta, self._clock.now())

    async def _batch(self, attempts: Sequence[Attempt], heard: Sequence[_Heard]) -> None:
        answers = await cast(BatchBackend, self._backend).run_batch(tuple(attempts))
        for one, delta in zip(heard, answers, strict=True):
            if isinstance(delta, BackendError):
                raise delta
            one.note(delta, self._clock.now())

    def _attempt(self, asked: Asked) -> Attempt:
        number, now = next(self._numbers), self._clock.now()
        name = f"{_SOURCE}-{number}"
        request = read_request(asked.payload, Envelope(name, now, self._clock.at(), _SOURCE))
        return Attempt(
            id=AttemptId(name),
            decision_id=DecisionId(name),
            request=request,
            deployment=self._deployment,
            number=1,
            started=now,
            deadline=now + self._patience_s,
            stream=not self.takes_batches,
            max_tokens=asked.max_tokens,
        )

    def _paid(self, attempt: Attempt, heard: _Heard) -> tuple[Usage, float, float]:
        """Tokens, and the dollars for all of them and for those of the input."""
        usage = heard.usage or Usage(attempt.request.input_tokens, heard.tokens)
        usd = bill(self._deployment, usage, served_as=heard.served_as, served_model=heard.served_model).usd
        price = self._deployment.price
        listed = price.cost_usd(usage.input_tokens, usage.output_tokens)
        output = price.cost_usd(0, usage.output_tokens) / listed if listed else 0.0
        return usage, usd, usd * (1.0 - output)


def _code(error: Exception) -> str:
    if isinstance(error, RouterError):
        return error.code
    return "timeout_deadline" if isinstance(error, TimeoutError) else type(error).__name__
