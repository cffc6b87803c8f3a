"""The embedded broker with paho-mqtt as users write it, over a restart that keeps sessions, and on uvloop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import mqtt5
import paho.mqtt.client as paho
import pytest
import uvloop
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from router.doubles.mqtt_broker import Broker, RawClient

KEPT = {"clean_start": False, "session_expiry_interval": 60}
WAIT_S = 60.0


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with Broker() as broker:
        yield broker.port


class PahoPeer:
    """paho-mqtt on its own thread, as a producer or a worker would use it."""

    def __init__(self, port: int, client_id: str, **options: Any) -> None:
        self.messages: list[paho.MQTTMessage] = []
        self.subscribed, self.arrived = threading.Event(), threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5, **options)
        self.client.on_message = self._on_message
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def _on_message(self, client: paho.Client, _: object, message: paho.MQTTMessage) -> None:
        self.messages.append(message)
        response_topic = getattr(message.properties, "ResponseTopic", None)
        if response_topic is None:
            self.arrived.set()
            return
        properties = Properties(PacketTypes.PUBLISH)
        properties.CorrelationData = message.properties.CorrelationData
        client.publish(response_topic, message.payload.upper(), qos=1, properties=properties)

    async def subscribe(self, pattern: str) -> None:
        self.client.subscribe(pattern, qos=1)
        assert await asyncio.to_thread(self.subscribed.wait, WAIT_S)

    async def close(self) -> None:
        self.client.disconnect()
        await asyncio.to_thread(self.client.loop_stop)


async def test_request_and_response_with_paho(port: int) -> None:
    """A paho worker in a share group answers a paho producer under its correlation data."""
    worker, producer = await asyncio.to_thread(lambda: (PahoPeer(port, "w"), PahoPeer(port, "p")))
    await worker.subscribe("$share/g/requests/#")
    await producer.subscribe("replies/p")
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic, properties.CorrelationData = "replies/p", b"42"
    properties.UserProperty = ("request-id", "r1")
    producer.client.publish("requests/x", b"hello", qos=1, properties=properties)
    assert await asyncio.to_thread(producer.arrived.wait, WAIT_S)
    assert worker.messages[0].properties.UserProperty == [("request-id", "r1")]
    assert producer.messages[0].payload == b"HELLO"
    assert producer.messages[0].properties.CorrelationData == b"42"
    await worker.close()
    await producer.close()


async def test_an_old_client_is_refused_in_words_it_knows() -> None:
    """paho speaking MQTT 3.1.1 to the embedded broker hears "unsupported protocol version"."""
    heard: list[str] = []
    refused = threading.Event()

    def on_connect(*arguments: Any) -> None:
        heard.append(str(arguments[3]))
        refused.set()

    async with Broker() as broker:
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, "old", protocol=paho.MQTTv311)
        client.on_connect = on_connect
        await asyncio.to_thread(client.connect, "127.0.0.1", broker.port)
        client.loop_start()
        assert await asyncio.to_thread(refused.wait, WAIT_S)
        client.disconnect()
        await asyncio.to_thread(client.loop_stop)
    assert "protocol version" in heard[0].lower()


async def test_paho_comes_back_after_a_restart_to_what_it_is_owed() -> None:
    """The broker restarts with its sessions: a paho client reconnects by itself and gets what waited."""
    async with Broker() as broker:
        kept = Properties(PacketTypes.CONNECT)
        kept.SessionExpiryInterval = 60
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, "c", protocol=paho.MQTTv5)
        subscribed, arrived = threading.Event(), threading.Event()
        present: list[bool] = []
        bodies: list[bytes] = []

        def on_message(_: paho.Client, __: object, message: paho.MQTTMessage) -> None:
            bodies.append(message.payload)
            if len(bodies) == 2:
                arrived.set()

        client.on_connect = lambda *arguments: present.append(arguments[2].session_present)
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = on_message
        client.reconnect_delay_set(min_delay=1, max_delay=1)
        await asyncio.to_thread(client.connect, "127.0.0.1", broker.port, clean_start=False, properties=kept)
        client.loop_start()
        client.subscribe("t", qos=1)
        assert await asyncio.to_thread(subscribed.wait, WAIT_S)
        broker.faults.delay_s = 3600.0
        async with await RawClient.connected(broker.port, "p") as publisher:
            await publisher.publish_acked("t", b"before")
        await broker.stop(keep_sessions=True)
        broker.faults.delay_s = 0.0
        await broker.start()
        async with await RawClient.connected(broker.port, "p") as publisher:
            await publisher.publish_acked("t", b"after")
        assert await asyncio.to_thread(arrived.wait, WAIT_S)
        client.disconnect()
        await asyncio.to_thread(client.loop_stop)
    assert present == [False, True]
    assert bodies == [b"before", b"after"]


def test_it_runs_on_uvloop() -> None:
    """Delivery, a connection lost with unflushed answers, redelivery, and a stop with open connections."""

    async def scene() -> None:
        raised: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
        async with Broker() as broker:
            client = await RawClient.connected(broker.port, "c", **KEPT)
            await client.subscribe("t")
            async with await RawClient.connected(broker.port, "p") as publisher:
                for n in range(100):
                    publisher.publish("t", b"%d" % n, qos=1)
            async with asyncio.timeout(WAIT_S):
                while broker.stats.received < 100:
                    await asyncio.sleep(0)
            first = [await client.expect(mqtt5.PublishPacket) for _ in range(10)]
            client.acknowledge(first)
            await client.close()
            again = await RawClient.connected(broker.port, "c", **KEPT)
            assert len(await again.fence()) == 90
            await broker.stop()
            await again.ended()
            await again.close()
        assert raised == []

    uvloop.run(scene())


async def test_stop_does_not_wait_for_a_client_that_does_not_read() -> None:
    """It is cut off after a second; the port is free at once."""
    async with Broker() as broker:
        stalled = await RawClient.connected(broker.port, "c")
        await stalled.subscribe("t", qos=0)
        async with await RawClient.connected(broker.port, "p") as publisher:
            for _ in range(12):
                await publisher.publish_acked("t", b"x" * 1_500_000)
        async with asyncio.timeout(WAIT_S):
            await broker.stop()
        await broker.start()
        assert not any(isinstance(packet, mqtt5.DisconnectPacket) for packet in await stalled.ended())
        await stalled.close()
