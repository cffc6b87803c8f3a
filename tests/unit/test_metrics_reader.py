"""The reader of servers' metrics over real connections: what it takes, and what it makes of everything else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from router.backends.scrape import reader as scrape
from router.backends.scrape.reader import MetricsReader
from router.domain.deployment import TelemetryTerms
from router.doubles.openai_answers import Break, How, Script
from router.doubles.openai_server import OpenAIServer, openai_server
from router.wire.server_metrics import NoLoad, Scrape, ServerLoad

LONG_S = 60.0
Kept = tuple[OpenAIServer, MetricsReader]


@pytest.fixture
async def kept() -> AsyncIterator[Kept]:
    """A double whose answers hang after their third token, and a reader."""
    async with openai_server(Script(breaks=Break(How.HANG, 3), kv_tokens=200)) as double:
        reader = MetricsReader({"TOKEN": "sesame"})
        yield double, reader
        await reader.close()


def terms(double: OpenAIServer, timeout_s: float = LONG_S, **more: Any) -> TelemetryTerms:
    return TelemetryTerms(double.url.removesuffix("/v1") + "/metrics", 2 * LONG_S, timeout_s, **more)


async def no_load(reader: MetricsReader, asked: TelemetryTerms, ca_file: str | None = None) -> NoLoad:
    found = await reader.read(asked, ca_file)
    assert isinstance(found, NoLoad)
    return found


async def test_a_double_tells_what_it_does(kept: Kept) -> None:
    """Calls under way and what they hold of the cache, and nothing once they have ended."""
    double, reader = kept
    assert await reader.read(terms(double), None) == ServerLoad("vLLM", 0, 0, 0.0)
    async with aiohttp.ClientSession() as session:
        asked = {"messages": [{"role": "user", "content": "x"}], "stream": True}
        calls = [await session.post(f"{double.url}/chat/completions", json=asked) for _ in range(3)]
        for call in calls:
            await call.content.readany()
        busy = await reader.read(terms(double), None)
        for call in calls:
            call.close()
        for _ in calls:
            await double.script.gone.acquire()
    assert isinstance(busy, ServerLoad)
    assert (busy.running, busy.waiting) == (3, 0)
    assert busy.kv_ratio is not None
    assert busy.kv_ratio >= 6 / 200
    assert await reader.read(terms(double), None) == ServerLoad("vLLM", 0, 0, 0.0)


async def test_one_connection_serves_all_questions(kept: Kept) -> None:
    """It is kept open between them."""
    double, reader = kept
    for _ in range(5):
        await reader.read(terms(double), None)
    assert (double.script.asked, double.script.accepted) == (5, 1)


async def test_a_server_that_has_no_metrics_refuses(kept: Kept) -> None:
    """The status is the reason."""
    double, reader = kept
    double.script.tells_load = False
    assert await no_load(reader, terms(double)) == NoLoad(Scrape.REFUSED, "it answered 404")


async def test_a_server_that_is_too_slow_is_left(kept: Kept) -> None:
    """After the timeout of the policy."""
    double, reader = kept
    double.script.page_after_s = LONG_S
    found = await no_load(reader, terms(double, timeout_s=0.05))
    assert found == NoLoad(Scrape.TIMEOUT, "it has not answered within 0.05 s")


async def test_a_server_that_is_gone_is_unreachable(kept: Kept) -> None:
    """And asked again later it answers again."""
    double, reader = kept
    port = int(double.url.rsplit(":", 1)[1].removesuffix("/v1"))
    await reader.read(terms(double), None)
    await double.stop()
    assert (await no_load(reader, terms(double))).result is Scrape.UNREACHABLE
    await double.start(port)
    assert await reader.read(terms(double), None) == ServerLoad("vLLM", 0, 0, 0.0)


async def test_a_page_without_an_end_is_not_read_to_it(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is longer than the bound is no page of metrics."""
    double, reader = kept
    monkeypatch.setattr(scrape, "PAGE_BYTES", 1000)
    double.script.page = b"x" * 1001
    found = await no_load(reader, terms(double))
    assert found == NoLoad(Scrape.UNREADABLE, "its page is longer than 1000 bytes")
    double.script.page = None
    assert isinstance(await reader.read(terms(double), None), ServerLoad)


async def test_a_page_of_something_else_is_unreadable(kept: Kept) -> None:
    """No figure is made up."""
    double, reader = kept
    double.script.page = b"up 1\n"
    assert (await no_load(reader, terms(double))).result is Scrape.UNREADABLE


async def test_a_token_goes_along_where_one_is_named(tmp_path: Path) -> None:
    """From a variable or a file; a file that changed is read again once forgotten. Without one nobody is asked."""
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.extend(line for line in head.splitlines() if line.lower().startswith("authorization"))
        page = b"tgi_queue_size 0\ntgi_batch_current_size 1\n"
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(page) + page)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics"
    file, reader = tmp_path / "token", MetricsReader({"TOKEN": "sesame"})
    file.write_text("one\n")
    named = TelemetryTerms(url, 2 * LONG_S, LONG_S, api_key_file=str(file))
    assert isinstance(await reader.read(TelemetryTerms(url, 2 * LONG_S, LONG_S), None), ServerLoad)
    await reader.read(TelemetryTerms(url, 2 * LONG_S, LONG_S, api_key_env="TOKEN"), None)
    await reader.read(named, None)
    file.write_text("two")
    await reader.read(named, None)
    reader.forget((str(file),))
    await reader.read(named, None)
    refused = await no_load(reader, TelemetryTerms(url, 2 * LONG_S, LONG_S, api_key_env="NONE"))
    assert seen == [f"Authorization: Bearer {key}" for key in ("sesame", "one", "one", "two")]
    assert refused == NoLoad(Scrape.REFUSED, "the environment variable NONE is not set")
    await reader.close()
    server.close()
    await server.wait_closed()


async def test_an_authority_that_cannot_be_used_is_a_reason(kept: Kept, tmp_path: Path) -> None:
    """Nothing is raised for it."""
    double, reader = kept
    found = await no_load(reader, terms(double), str(tmp_path / "none.pem"))
    assert found.result is Scrape.UNREACHABLE


async def test_who_gives_up_as_the_timeout_passes_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled in the same turn of the loop as the timeout, a question ends, and its asker with it."""
    loop, asked = asyncio.get_running_loop(), asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await gone.wait()
        writer.close()

    gone, real_time, reader = asyncio.Event(), loop.time, MetricsReader()
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        question = reader.read(TelemetryTerms(f"http://127.0.0.1:{port}/metrics", 2 * LONG_S, LONG_S), None)
        task = asyncio.create_task(question)
        await asked.wait()
        loop.call_later(LONG_S + 2.0, task.cancel)
        monkeypatch.setattr(loop, "time", lambda: real_time() + 2 * LONG_S)
        with pytest.raises(asyncio.CancelledError):
            await task
        monkeypatch.undo()
        gone.set()
        await reader.close()
