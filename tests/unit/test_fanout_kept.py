"""Parts that were answered before a crash are recalled, and not paid again."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from router.domain.control.fanout import FanoutEnded
from router.domain.outcome import Attempt, Delta, Receipt, Usage
from router.domain.request import Request
from router.ports.parts import KeptPart
from router.storage.kept_parts import KEEP_S, LINGER_S, SqliteParts
from router.wire.openai import Envelope, delta_choices, read_request, whole_choices
from tests.regressions.house import House, cancel

ANSWER = KeptPart(
    whole_choices("A", "stop"), Usage(10, 5, 2, 1), Receipt("d1", "small", "m", "p", 1, 0.25, 0.0), "stop"
)


class Wall:
    """Wall seconds that stand still."""

    def __init__(self) -> None:
        self.at = 1e9

    def __call__(self) -> float:
        return self.at


def asked(parts: list[str], *, calls: int = 0, tenant: str = "acme") -> Request:
    body = {"messages": [{"role": "user", "content": "All."}], "metadata": {"subqueries": parts}}
    now = asyncio.get_running_loop().time()
    request = read_request(json.dumps(body).encode(), Envelope("r", now, now, "mqtt", tenant))
    return replace(request, attempts_before=calls)


async def announced() -> None:
    """A journal notes the call."""


class Life:
    """One life of a process: a house over the file of parts. Questions that begin with `wait` are never answered."""

    def __init__(self, path: Path) -> None:
        self.home, self.store, self.asked = House(), SqliteParts(path), list[str]()
        self.home.dispatcher.fanout.store = self.store
        for name in ("small", "large"):
            self.home.backend.scripts[name] = self._answer

    async def _answer(self, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        question = attempt.request.prompt.last_user
        self.asked.append(question)
        if question.startswith("wait"):
            await asyncio.Event().wait()
        yield Delta(delta_choices(f"<{question}>", role=True), 4)
        yield Delta(delta_choices(finish_reason="stop"), 0, "stop", Usage(100, 50))

    async def cut(self, request: Request, *, after: int, journalled: bool = True) -> None:
        """Begin with a request, and end as a kill would once so many parts are kept, or answered."""
        submit = self.home.dispatcher.submit(request, on_call=announced if journalled else None)
        task = asyncio.ensure_future(submit)
        async with asyncio.timeout(60.0):
            while self.home.dispatcher.in_flight != len(self.asked) - after or len(self.asked) <= after:
                await asyncio.sleep(0.001)
            while journalled and len(await self.store.recall(f"{request.tenant}\0r")) < after:
                await asyncio.sleep(0.001)
        await cancel(task)
        await self.store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "parts.sqlite"


async def test_the_next_life_makes_what_is_missing(path: Path) -> None:
    """The answer is whole, the finished part is not asked for again, and its cost and tokens are in the sums."""
    await Life(path).cut(asked(["a", "wait", "c"]), after=2)
    life = Life(path)
    life.home.backend.scripts = {}
    reply = await life.home.dispatcher.submit(asked(["a", "wait", "c"], calls=3), on_call=announced)
    await life.store.close()
    parts = json.loads(reply.report)["parts"]
    assert [part["message"]["content"] for part in parts] == ["<a>", "w0 w1 w2 ", "<c>"]
    assert len(life.home.backend.calls) == 1
    assert reply.receipt.attempts == 4
    assert reply.receipt.cost_usd == pytest.approx(sum(part["cost_usd"] for part in parts))
    event: FanoutEnded = life.home.only(FanoutEnded)
    assert (event.completed, event.recalled, event.cancelled) == (1, 2, 0)


@pytest.mark.parametrize(
    ("parts", "calls", "tenant"),
    [(["x", "b"], 3, "acme"), (["b", "a"], 3, "acme"), (["a", "b"], 0, "acme"), (["a", "b"], 3, "other")],
    ids=["another question", "another place", "a first try", "another tenant"],
)
async def test_nothing_is_recalled_for_anything_else(path: Path, parts: list[str], calls: int, tenant: str) -> None:
    """Only the same part of the same request of the same tenant, where calls were made for it before."""
    await Life(path).cut(asked(["a", "wait"]), after=1)
    life = Life(path)
    await life.home.dispatcher.submit(asked(parts, calls=calls, tenant=tenant), on_call=announced)
    await life.store.close()
    assert len(life.asked) == 2


async def test_what_no_journal_carries_on_is_not_kept(path: Path) -> None:
    """A client at a socket is gone with the process: no file is made."""
    await Life(path).cut(asked(["a", "wait"]), after=1, journalled=False)
    assert not path.exists()


async def test_parts_go_when_nobody_will_ask(path: Path) -> None:
    """A minute after the answer of the whole, or a day without one."""
    wall = Wall()
    store = SqliteParts(path, at=wall)
    await store.keep("done", b"1", ANSWER)
    await store.keep("cut", b"1", ANSWER)
    await store.release("done")
    assert await store.recall("done") == {b"1": ANSWER}
    wall.at += LINGER_S + 1.0
    await store.keep("new", b"1", ANSWER)
    assert await store.recall("done") == {}
    assert await store.recall("cut") == {b"1": ANSWER}
    wall.at += KEEP_S
    await store.keep("newer", b"1", ANSWER)
    assert await store.recall("cut") == {}
    await store.close()


async def test_a_file_that_cannot_be_used_costs_money_and_no_answer(path: Path) -> None:
    """Parts are made again; the request is answered."""
    path.write_bytes(b"no database" * 1000)
    life = Life(path)
    reply = await life.home.dispatcher.submit(asked(["a"], calls=1), on_call=announced)
    await life.store.close()
    assert json.loads(reply.report)["parts"][0]["status"] == "completed"
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.DatabaseError):
        connection.execute("SELECT * FROM parts")
