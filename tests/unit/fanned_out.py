"""Requests in parts and a house that answers them on a virtual clock, for the tests of fan-out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

from router.domain.errors import Throttled
from router.domain.outcome import Attempt, Delta, Reply, Usage
from router.domain.request import Request
from router.domain.slo import RequestClass
from router.policy.policy import Bounds
from router.sim.clock import run_virtual
from router.wire.openai import Envelope, delta_choices, read_request
from tests.regressions.house import Answer, House

TASK = "All of it, please."


Params = ParamSpec("Params")


def on_virtual_clock(scene: Callable[Params, Coroutine[Any, Any, None]]) -> Callable[Params, None]:
    """The test on a fresh virtual clock."""

    @wraps(scene)
    def play(*args: Params.args, **kwargs: Params.kwargs) -> None:
        run_virtual(scene(*args, **kwargs))

    return play


def request(parts: object, merge: object = None, *, deadline_s: float | None = None, **fields: Any) -> Request:
    """A request with parts that arrives now."""
    metadata = {"subqueries": parts} | ({} if merge is None else {"merge": merge})
    body = {"messages": [{"role": "user", "content": TASK}], "metadata": metadata, **fields}
    now = asyncio.get_running_loop().time()
    deadline = None if deadline_s is None else now + deadline_s
    return read_request(json.dumps(body).encode(), Envelope("r", now, now, "http", "acme", deadline=deadline))


def echoing(seconds: float) -> Answer:
    """Repeats the question, after a while; one that begins with `wait` takes as many seconds as it says, and one that
    begins with `break` is refused."""

    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        asked = attempt.request.prompt.last_user
        await asyncio.sleep(float(asked.split()[1]) if asked.startswith("wait") else seconds)
        if asked.startswith("break"):
            raise Throttled("too many", retry_after_s=1.0)
        yield Delta(delta_choices(f"<{asked}>", role=True), 4)
        yield Delta(delta_choices(finish_reason="stop"), 0, "stop", Usage(100, 50))

    return script


def house(*classes: RequestClass, bounds: Bounds | None = None, seconds: float = 4.0) -> House:
    made = House(*classes, bounds=bounds)
    for name in ("small", "large"):
        made.backend.scripts[name] = echoing(seconds)
    return made


def said(reply: Reply) -> str:
    (choice,) = json.loads(reply.choices)
    content: str = choice["message"]["content"]
    return content


def lines(reply: Reply) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = json.loads(reply.report)["parts"]
    return parts


def now() -> float:
    return asyncio.get_running_loop().time()
