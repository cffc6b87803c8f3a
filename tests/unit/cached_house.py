"""A house whose class keeps answers, for the tests of the cache: one question, and what came of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

from router.domain.events import CacheUsed
from router.domain.outcome import Attempt, Delta, Reply, Usage
from router.domain.slo import CacheTerms, Parameters, RequestClass
from router.wire.openai import delta_choices
from tests.regressions.house import House, deployment

TERMS = CacheTerms(60.0)
CACHED = RequestClass("all", parameters=Parameters(temperature=0.0), cache=TERMS)
ONLY = (deployment("only"),)
ANSWER = "w0 w1 w2 "


def body(text: str = "hello", **fields: Any) -> bytes:
    """The body of a chat request."""
    return json.dumps({"messages": [{"role": "user", "content": text}], **fields}).encode()


HELLO = body()


def house(request_class: RequestClass = CACHED, **fields: Any) -> House:
    """One deployment, and a class that keeps what it answers."""
    fields.setdefault("deployments", ONLY)
    return House(request_class, **fields)


def used(told: House) -> list[str]:
    """What the cache was to each request, in order."""
    return [event.result for event in told.of(CacheUsed)]


def text(reply: Reply) -> str:
    """The words of an answer."""
    said: str = json.loads(reply.choices)[0]["message"]["content"]
    return said


def ending(reason: str | None) -> Callable[[Attempt], AsyncGenerator[Delta, None]]:
    """One piece that ends so."""

    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(0.1)
        yield Delta(delta_choices("x", role=True, finish_reason=reason), 1, reason, Usage(10, 1))

    return script
