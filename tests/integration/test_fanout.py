"""Requests in parts through both doors: the `openai` client over HTTP, MQTT over a broker, a real dispatcher behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import mqtt5
import openai
import pytest

from router.backends.openai_http import OpenAIHttpBackend
from router.core.controller import Controller
from router.domain.control.fanout import FanoutEnded
from router.domain.deployment import Address
from router.domain.errors import Refused
from router.domain.outcome import Attempt, Delta, Usage
from router.domain.slo import RequestClass
from router.doubles.mqtt_broker import Broker, RawClient
from router.doubles.openai_server import openai_server
from router.ingress.http import HttpIngress, HttpOptions
from router.ingress.mqtt import MqttIngress, MqttOptions
from router.policy.policy import Policy
from router.runtime.clock import RealClock
from router.runtime.dispatcher import Dispatcher
from router.storage.journal import SqliteJournal
from router.storage.kept_parts import SqliteParts
from router.wire.openai import delta_choices
from tests.regressions.house import Estimator, House, deployment

WAIT_S = 60.0
ASK: list[Any] = [{"role": "system", "content": "Be exact."}, {"role": "user", "content": "All three."}]
THREE = ["one", "two", "three"]


class Town:
    """A house whose models repeat the question once `gate` lets them. `break` is refused, `wait` is never answered."""

    def __init__(self) -> None:
        self.home = House(RequestClass("chat"))
        self.asked: list[str] = []
        self.gate: Callable[[], bool] = lambda: True
        for name in ("small", "large"):
            self.home.backend.scripts[name] = self._answer

    async def _answer(self, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        question = attempt.request.prompt.last_user
        self.asked.append(question)
        await until(self.gate)
        if question.startswith("wait"):
            await asyncio.Event().wait()
        if question.startswith("break"):
            raise Refused("not this")
        yield Delta(delta_choices("<", role=True), 1)
        yield Delta(delta_choices(f"{question}>"), 3)
        yield Delta(delta_choices(finish_reason="stop"), 0, "stop", Usage(100, 50))


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something to be so."""
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await asyncio.sleep(0.002)


@pytest.fixture
def town() -> Town:
    return Town()


@pytest.fixture
async def door(town: Town) -> AsyncIterator[HttpIngress]:
    ingress = HttpIngress(HttpOptions(port=0), town.home.dispatcher, town.home, lambda: (b"", "text/plain"))
    await ingress.start()
    yield ingress
    await ingress.stop(grace_s=0)


@pytest.fixture
async def client(door: HttpIngress) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"http://127.0.0.1:{door.port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0, timeout=WAIT_S) as one:
        yield one


def asking(parts: object, merge: object = None) -> Any:
    """Metadata that lists parts."""
    return {"subqueries": parts} if merge is None else {"subqueries": parts, "merge": merge}


async def test_three_parts_are_under_way_at_once(client: openai.AsyncOpenAI, town: Town) -> None:
    """None is answered before all were asked; the client reads one message, and what became of each part."""
    town.gate = lambda: len(town.asked) >= 3
    ask = client.chat.completions.with_raw_response
    raw = await ask.create(model="auto", messages=ASK, metadata=asking(THREE))
    said = raw.parse()
    assert said.choices[0].message.content == "<one>\n\n<two>\n\n<three>"
    assert said.usage is not None
    assert said.usage.total_tokens == 450
    told = json.loads(raw.text)["router"]["parts"]
    assert [part["message"]["content"] for part in told] == ["<one>", "<two>", "<three>"]
    assert float(raw.headers["x-router-cost-usd"]) == pytest.approx(sum(part["cost_usd"] for part in told))
    assert raw.headers["x-router-attempts"] == "3"


async def test_parts_and_merge_as_text(client: openai.AsyncOpenAI, town: Town) -> None:
    """A client that keeps to OpenAI's types, where metadata is text; the merge is asked last, with all answers."""
    metadata = {"subqueries": json.dumps(["one", "two"]), "merge": "{{parts[1]}} before {{parts[0]}}"}
    said = await client.chat.completions.create(model="auto", messages=ASK, metadata=metadata)
    assert said.choices[0].message.content == "<<two> before <one>>"
    assert town.asked[2] == "<two> before <one>"


async def test_a_failed_part_is_told_and_the_others_are_given(client: openai.AsyncOpenAI) -> None:
    """With status 200, in order."""
    ask = client.chat.completions.with_raw_response
    raw = await ask.create(model="auto", messages=ASK, metadata=asking(["one", "break", "three"]))
    assert raw.parse().choices[0].message.content == "<one>\n\n[part 1 failed: backend_refused]\n\n<three>"
    failed = json.loads(raw.text)["router"]["parts"][1]
    assert (failed["index"], failed["status"], failed["error"]["code"]) == (1, "failed", "backend_refused")


async def test_where_all_fail_it_is_an_error(client: openai.AsyncOpenAI) -> None:
    """With the status of the worst."""
    with pytest.raises(openai.BadRequestError, match="all 2 parts failed"):
        await client.chat.completions.create(model="auto", messages=ASK, metadata=asking(["break", "break it"]))


@pytest.mark.parametrize("with_usage", [False, True])
@pytest.mark.parametrize("merge", [None, "Join {{parts[0]}}"])
async def test_a_stream_reads_like_any_other(client: openai.AsyncOpenAI, merge: str | None, with_usage: bool) -> None:
    """Role first, then text, one reason to finish; the last chunk has what became of the parts."""
    more: Any = {"stream_options": {"include_usage": True}} if with_usage else {}
    stream = await client.chat.completions.create(
        model="auto", messages=ASK, metadata=asking(["one", "two"], merge), stream=True, **more
    )
    chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert deltas[0].delta.role == "assistant"
    assert [one.finish_reason for one in deltas if one.finish_reason] == ["stop"]
    text = "".join(one.delta.content or "" for one in deltas)
    assert text == ("<one>\n\n<two>" if merge is None else "<Join <one>>")
    last: Any = chunks[-1]
    assert [part["status"] for part in last.router["parts"]] == ["completed", "completed"]
    assert (last.usage is not None) is with_usage


async def test_hanging_up_ends_every_part(client: openai.AsyncOpenAI, town: Town) -> None:
    """No call stays open for an answer that nobody reads."""
    call = client.chat.completions.create(model="auto", messages=ASK, metadata=asking(["wait 1", "wait 2", "wait 3"]))
    task = asyncio.ensure_future(call)
    await until(lambda: town.home.backend.open_now == 3)
    task.cancel()
    await until(lambda: town.home.backend.open_now == 0 and bool(town.home.of(FanoutEnded)))
    assert town.home.in_flight() == 0
    assert town.home.only(FanoutEnded).cancelled == 3


async def test_one_deadline_for_all(client: openai.AsyncOpenAI, town: Town) -> None:
    """What was answered in time is given at the deadline."""
    parts: list[Any] = []
    for deadline_ms in ("1000", "4000", "16000"):  # a busy machine may need longer for the first part
        with suppress(openai.APIStatusError):
            said: Any = await client.chat.completions.create(
                model="auto",
                messages=ASK,
                metadata=asking(["one", "wait"]),
                extra_headers={"x-router-deadline-ms": deadline_ms},
            )
            parts = said.router["parts"]
            break
    assert [part["status"] for part in parts] == ["completed", "failed"]
    assert parts[1]["error"]["code"] == "deadline_exceeded"
    assert town.home.backend.open_now == 0


async def test_the_route_for_parts_takes_the_short_form(door: HttpIngress) -> None:
    """And refuses what has no parts, by body and by method."""
    url = f"http://127.0.0.1:{door.port}/v1/fanout"
    async with aiohttp.ClientSession() as http:
        async with http.post(url, json={"subqueries": ["one", "two"], "merge": "Join"}) as response:
            assert response.status == 200
            assert (await response.json())["router"]["merge"]["status"] == "completed"
        async with http.post(url, json={"messages": ASK}) as response:
            assert response.status == 400
            assert (await response.json())["error"]["param"] == "subqueries"
        async with http.post(url, json={"subqueries": [{"content": "one", "temperature": 9}]}) as response:
            assert response.status == 400
            assert (await response.json())["error"]["param"] == "subqueries[0].temperature"
        async with http.get(url) as response:
            assert response.status == 405


async def test_nothing_of_the_parts_goes_upstream() -> None:
    """A server that speaks OpenAI's protocol gets three ordinary bodies, the sender's metadata among their fields."""
    async with openai_server() as upstream:
        backend, told = OpenAIHttpBackend(), House()
        served = deployment("one", address=Address("openai_http", "m", url=upstream.url))
        controller = Controller(Policy("p1", (RequestClass("chat"),), (served,)), Estimator(), rng=Random(0))
        dispatcher = Dispatcher(controller, {"openai_http": backend}, RealClock(), told)
        door = HttpIngress(HttpOptions(port=0), dispatcher, told, lambda: (b"", "text/plain"))
        await door.start()
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{door.port}/v1", api_key="k", max_retries=0) as one:
            metadata = {**asking(["one", "two"], "Join"), "use_case": "faq"}
            await one.chat.completions.create(model="auto", messages=ASK, metadata=metadata, temperature=0.5)
        await door.stop(grace_s=0)
        await backend.close()
        bodies = [call.body for call in upstream.script.calls]
    assert [body["metadata"] for body in bodies] == [{"use_case": "faq"}] * 3
    assert {body["temperature"] for body in bodies} == {0.5}
    assert [body["messages"][0] for body in bodies] == [ASK[0]] * 3
    assert {body["messages"][1]["content"] for body in bodies[:2]} == {"one", "two"}


class Queue:
    """A producer at a broker that a router takes requests from."""

    def __init__(self, ingress: MqttIngress, client: RawClient) -> None:
        self.ingress, self.client = ingress, client

    def send(self, body: object, request_id: str = "r1", **more: Any) -> None:
        """Ask."""
        properties = [("request-id", request_id), ("tenant", "acme")]
        payload, topic = json.dumps(body).encode(), "router/requests/chat"
        self.client.publish(topic, payload, qos=1, user_properties=properties, response_topic="replies/1", **more)

    async def reply(self) -> mqtt5.PublishPacket:
        """The next message of a reply."""
        async with asyncio.timeout(WAIT_S):
            while True:
                packet = await self.client.receive()
                if isinstance(packet, mqtt5.PublishPacket):
                    self.client.acknowledge([packet])
                    return packet


@asynccontextmanager
async def queue(town: Town, folder: Path, broker: Broker) -> AsyncIterator[Queue]:
    """One life of a router at a broker. Leaving the block ends it without grace, as a kill would."""
    journal, parts = SqliteJournal(folder / "journal.sqlite"), SqliteParts(folder / "parts.sqlite")
    town.home.dispatcher.fanout.store = parts
    ingress = MqttIngress(MqttOptions(url=broker.url), town.home.dispatcher, journal, town.home)
    run = asyncio.create_task(ingress.run())
    client = await RawClient.connected(broker.port, "producer", clean_start=True)
    await client.subscribe("replies/#")
    try:
        await until(lambda: ingress.is_connected)
        yield Queue(ingress, client)
    finally:
        await client.close()
        await ingress.stop(0.0)
        await asyncio.gather(run, return_exceptions=True)
        await journal.close()
        await parts.close()


async def test_a_queue_has_parts_in_both_forms(town: Town, tmp_path: Path) -> None:
    """Answered once each; the id is the request's, and a repeated id costs nothing."""
    town.gate = lambda: len(town.asked) >= 3
    async with Broker() as broker, queue(town, tmp_path, broker) as asker:
        asker.send({"messages": ASK, "metadata": asking(THREE)})
        first = await asker.reply()
        asker.send({"messages": ASK, "metadata": asking(THREE)})
        again = await asker.reply()
        asker.send({"subqueries": ["one"], "merge": "Join {{parts[0]}}"}, "r2")
        short = await asker.reply()
    said = json.loads(first.payload)
    assert said["choices"][0]["message"]["content"] == "<one>\n\n<two>\n\n<three>"
    assert dict(first.user_properties)["request-id"] == "r1"
    assert dict(first.user_properties)["router-attempts"] == "3"
    assert again.payload == first.payload
    assert json.loads(short.payload)["choices"][0]["message"]["content"] == "<Join <one>>"
    assert len(town.asked) == 5


async def test_a_queue_streams_the_merge(town: Town, tmp_path: Path) -> None:
    """Piece by piece, the last of them final."""
    pieces: list[mqtt5.PublishPacket] = []
    async with Broker() as broker, queue(town, tmp_path, broker) as asker:
        asker.send({"messages": ASK, "metadata": asking(["one"], "Join {{parts[0]}}"), "stream": True})
        while not pieces or dict(pieces[-1].user_properties)["final"] != "true":
            pieces.append(await asker.reply())
    chunks = [json.loads(piece.payload) for piece in pieces[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == "<Join <one>>"
    assert chunks[-1]["router"]["merge"]["status"] == "completed"


async def test_a_message_that_expires_ends_every_part(town: Town, tmp_path: Path) -> None:
    """Its Message Expiry Interval is the one deadline; what was answered is sent."""
    async with Broker() as broker, queue(town, tmp_path, broker) as asker:
        for seconds in (2, 8, 32):  # a busy machine may need longer for the first part
            asker.send({"subqueries": ["one", "wait"]}, f"r{seconds}", message_expiry_interval=seconds)
            said = json.loads((await asker.reply()).payload)
            if "error" not in said:
                break
    assert [part["status"] for part in said["router"]["parts"]] == ["completed", "failed"]
    assert town.home.backend.open_now == 0


async def test_a_bad_part_is_refused_in_a_queue(town: Town, tmp_path: Path) -> None:
    """With the error as the reply; nothing is called."""
    async with Broker() as broker, queue(town, tmp_path, broker) as asker:
        asker.send({"subqueries": ["one", 3]})
        reply = await asker.reply()
    assert json.loads(reply.payload)["error"]["param"] == "subqueries[1]"
    assert town.asked == []


async def test_a_cut_request_is_finished_by_the_next_life(tmp_path: Path) -> None:
    """One reply; parts that were answered are not called again, the cut one is, and the attempts say so."""
    before, after = Town(), Town()
    async with Broker() as broker:
        async with queue(before, tmp_path, broker) as asker:
            asker.send({"subqueries": ["one", "wait", "three"]})
            await until(lambda: len(before.asked) == 3 and before.home.backend.open_now == 1)
            await _kept(tmp_path, 2)
        assert before.home.only(FanoutEnded).cancelled == 1
        for name in ("small", "large"):
            after.home.backend.scripts[name] = _at_once(after.asked.append)
        async with queue(after, tmp_path, broker) as asker:
            reply = await asker.reply()
    said = json.loads(reply.payload)
    assert said["choices"][0]["message"]["content"] == "<one>\n\nnow\n\n<three>"
    assert after.asked == ["wait"]
    assert after.home.only(FanoutEnded).recalled == 2
    assert dict(reply.user_properties)["router-attempts"] == "4"


async def _kept(folder: Path, count: int) -> None:
    """Wait until so many parts of the request are on the disk."""
    async with asyncio.timeout(WAIT_S):
        reader = SqliteParts(folder / "parts.sqlite")
        while len(await reader.recall("acme\0r1")) < count:
            await asyncio.sleep(0.01)
        await reader.close()


def _at_once(note: Callable[[str], None]) -> Callable[[Attempt], AsyncGenerator[Delta, None]]:
    async def answer(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        note(attempt.request.prompt.last_user)
        yield Delta(delta_choices("now", role=True), 1)
        yield Delta(delta_choices(finish_reason="stop"), 0, "stop", Usage(100, 50))

    return answer
