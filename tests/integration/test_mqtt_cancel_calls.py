"""Requests taken back over a broker from a real dispatcher: their calls end, and what they held is free again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import mqtt5

from router.backends.openai_http import OpenAIHttpBackend
from router.core.controller import Controller
from router.domain.control.fanout import FanoutEnded
from router.domain.deployment import Address
from router.domain.events import IngressEvent, RequestEnded, RequestRejected
from router.domain.outcome import Attempt, Delta, Usage
from router.domain.slo import RequestClass
from router.doubles.mqtt_broker import Broker, RawClient
from router.doubles.openai_server import openai_server
from router.ingress.mqtt import MqttIngress, MqttOptions
from router.policy.policy import Policy
from router.runtime.clock import RealClock
from router.runtime.dispatcher import Dispatcher
from router.storage.journal import SqliteJournal
from router.storage.kept_parts import SqliteParts
from router.wire.openai import delta_choices
from tests.regressions.house import Estimator, House, batching, deployment

WAIT_S = 60.0


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something to be so."""
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await asyncio.sleep(0.002)


async def unending(attempt: Attempt) -> AsyncGenerator[Delta, None]:
    """One token of an answer that never ends; none where the prompt is `mute`."""
    if attempt.request.prompt.last_user != "mute":
        yield Delta(delta_choices("word ", role=True), 1)
    await asyncio.Event().wait()


async def prompt(attempt: Attempt) -> AsyncGenerator[Delta, None]:
    """An answer at once."""
    yield Delta(delta_choices("done", role=True), 1)
    yield Delta(delta_choices(finish_reason="stop"), 0, "stop", Usage(10, 1))


def house(*classes: RequestClass, **fields: Any) -> House:
    """Two deployments that never come to an end."""
    made = House(*classes, **fields)
    made.backend.scripts = {"small": unending, "large": unending}
    return made


class Site:
    """One life of a router at a broker, and a producer there."""

    def __init__(self, told: House, client: RawClient) -> None:
        self.house, self.client = told, client

    def ask(self, request_id: str = "r1", content: str = "hello", **body: Any) -> None:
        """Ask once."""
        body = body if "subqueries" in body else {"messages": [{"role": "user", "content": content}]} | body
        self.client.publish(
            "router/requests/chat",
            json.dumps(body).encode(),
            qos=1,
            user_properties=[("request-id", request_id)],
            response_topic="replies/1",
        )

    def cancel(self, request_id: str = "r1") -> None:
        """Take a request back."""
        self.client.publish("router/cancel", json.dumps({"request_id": request_id}).encode(), qos=1)

    async def reply(self) -> mqtt5.PublishPacket:
        """The next message of a reply."""
        async with asyncio.timeout(WAIT_S):
            while True:
                packet = await self.client.receive()
                if isinstance(packet, mqtt5.PublishPacket):
                    self.client.acknowledge([packet])
                    return packet

    def count(self, what: str) -> int:
        """Happenings at the door."""
        return sum(event.what == what for event in self.house.of(IngressEvent))

    def is_free(self) -> bool:
        """No call is open, no permit is held, nobody waits."""
        queue = self.house.dispatcher.queue
        return self.house.backend.open_now == self.house.in_flight() == queue.waiting == 0


@asynccontextmanager
async def at(broker: Broker, told: House, folder: Path, dispatcher: Dispatcher | None = None) -> AsyncIterator[Site]:
    """Leaving the block ends the router without grace, as a kill would."""
    journal, parts = SqliteJournal(folder / "journal.sqlite"), SqliteParts(folder / "parts.sqlite")
    told.dispatcher.fanout.store = parts
    ingress = MqttIngress(MqttOptions(url=broker.url), dispatcher or told.dispatcher, journal, told)
    run = asyncio.create_task(ingress.run())
    client = await RawClient.connected(broker.port, "producer", clean_start=True)
    await client.subscribe("replies/#")
    try:
        await until(lambda: ingress.is_connected and ingress.cancels.is_listening)
        yield Site(told, client)
    finally:
        await client.close()
        await ingress.stop(0.0)
        await asyncio.gather(run, return_exceptions=True)
        await journal.close()
        await parts.close()


def code(packet: mqtt5.PublishPacket) -> str:
    """Of an error reply."""
    said: str = json.loads(packet.payload)["error"]["code"]
    return said


async def test_a_stream_under_way_ends_and_frees_its_deployment(tmp_path: Path) -> None:
    """The pieces that were sent, then `cancelled` as the final one; the story says that the sender left."""
    async with Broker() as broker, at(broker, house(), tmp_path) as site:
        site.ask(stream=True)
        first = await site.reply()
        site.cancel()
        last = await site.reply()
        assert json.loads(first.payload)["choices"][0]["delta"]["content"] == "word "
        assert (code(last), dict(last.user_properties)["final"]) == ("cancelled", "true")
        assert site.is_free()
        assert site.house.only(RequestEnded).code == "client_gone"


async def test_who_waits_in_the_queue_leaves_it(tmp_path: Path) -> None:
    """No call was made for it; the one that is served goes on."""
    narrow = (deployment("small", max_in_flight=1),)
    async with Broker() as broker, at(broker, house(deployments=narrow), tmp_path) as site:
        site.ask("served")
        await until(lambda: site.house.backend.open_now == 1)
        site.ask("waits")
        await until(lambda: site.house.dispatcher.queue.waiting == 1)
        site.cancel("waits")
        told = await site.reply()
        assert (code(told), dict(told.user_properties)["request-id"]) == ("cancelled", "waits")
        assert site.house.dispatcher.queue.waiting == 0
        assert site.house.only(RequestRejected).request.id == "waits"
        assert site.house.backend.calls == ["small"]
        assert site.house.backend.open_now == 1


async def test_all_parts_end(tmp_path: Path) -> None:
    """Of a request in parts: those under way, and those that have yet to begin."""
    async with Broker() as broker, at(broker, house(), tmp_path) as site:
        site.ask(subqueries=["one", "two", "three"], merge="{{parts}}")
        await until(lambda: site.house.backend.open_now == 3)
        site.cancel()
        assert code(await site.reply()) == "cancelled"
        assert site.is_free()
        ended = site.house.only(FanoutEnded)
        assert (ended.status, ended.cancelled) == ("cancelled", 3)


async def test_both_calls_of_a_hedged_request_end(tmp_path: Path) -> None:
    """The second as well as the first."""
    hedged = RequestClass("all", hedge_after_s=0.01)
    async with Broker() as broker, at(broker, house(hedged), tmp_path) as site:
        site.ask(content="mute")
        await until(lambda: site.house.backend.open_now == 2)
        site.cancel()
        assert code(await site.reply()) == "cancelled"
        assert site.is_free()


async def test_a_batch_whose_only_request_is_taken_back_ends(tmp_path: Path) -> None:
    """An endpoint that takes batches is free for the next one."""
    running = asyncio.Event()
    ended: list[str] = []

    async def run(attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(attempts[0].request.id)
        return ()

    async with Broker() as broker, at(broker, batching(run), tmp_path) as site:
        site.ask()
        await running.wait()
        site.cancel()
        assert code(await site.reply()) == "cancelled"
        await until(lambda: ended == ["r1"])
        assert site.house.in_flight() == 0


async def test_the_connection_to_the_model_is_closed(tmp_path: Path) -> None:
    """A server that speaks OpenAI's protocol sees its client go."""
    async with openai_server() as upstream:
        upstream.script.first_token_s = 3600.0
        backend, told = OpenAIHttpBackend(), House()
        served = deployment("one", address=Address("openai_http", "m", url=upstream.url))
        controller = Controller(Policy("p1", (RequestClass("chat"),), (served,)), Estimator(), rng=Random(0))
        dispatcher = Dispatcher(controller, {"openai_http": backend}, RealClock(), told)
        async with Broker() as broker, at(broker, told, tmp_path, dispatcher) as site:
            site.ask()
            await until(lambda: upstream.script.serving == 1)
            site.cancel()
            assert code(await site.reply()) == "cancelled"
            await asyncio.wait_for(upstream.script.gone.acquire(), WAIT_S)
        await backend.close()


async def test_a_cancel_before_or_after_is_harmless(tmp_path: Path) -> None:
    """Before its request: that is never begun. After its answer: that stands, byte for byte."""
    quick = house()
    quick.backend.scripts = {"small": prompt, "large": prompt}
    async with Broker() as broker, at(broker, quick, tmp_path) as site:
        site.cancel("early")
        await until(lambda: site.count("cancel_early") == 1)
        site.ask("early")
        assert code(await site.reply()) == "cancelled"
        assert quick.backend.calls == []
        site.ask("late")
        answer = await site.reply()
        site.cancel("late")
        await until(lambda: site.count("cancel_early") == 2)
        site.ask("late")
        assert (await site.reply()).payload == answer.payload
        assert len(quick.backend.calls) == 1


async def test_a_request_that_was_taken_back_stays_so_after_a_restart(tmp_path: Path) -> None:
    """The next life calls no model for it, recovers nothing, and tells whoever asks again the same."""
    first, second = house(), house()
    async with Broker() as broker:
        async with at(broker, first, tmp_path) as site:
            site.ask()
            await until(lambda: first.backend.open_now == 1)
            site.cancel()
            told = await site.reply()
            await until(lambda: site.count("replied") == 1)
        async with at(broker, second, tmp_path) as site:
            site.ask()
            again = await site.reply()
            assert site.count("recovered") == 0
    assert (code(told), again.payload) == ("cancelled", told.payload)
    assert second.backend.calls == []
