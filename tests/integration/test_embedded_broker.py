"""The same behaviour from the embedded broker and from mosquitto, seen by raw packets and by aiomqtt."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import aiomqtt
import mqtt5
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bench.ports import free_port
from router.doubles.mqtt_broker import Broker, RawClient

Join = Callable[..., Awaitable[RawClient]]
KEPT = {"clean_start": False, "session_expiry_interval": 60}
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
NODELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
WAIT_S = 60.0


async def accepts(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the process listens."""
    async with asyncio.timeout(WAIT_S):
        while True:
            assert process.poll() is None, "mosquitto ended"
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.01)
                continue
            writer.close()
            await writer.wait_closed()
            return


@pytest.fixture(params=["embedded", "mosquitto"])
async def port(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[int]:
    """The port of a broker that has just been started."""
    if request.param == "embedded":
        async with Broker() as broker:
            yield broker.port
        return
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    number = free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        f"listener {number} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n"
        "persistence false\nlog_dest none\nmax_queued_messages 0\n"
    )
    process = subprocess.Popen([MOSQUITTO, "-c", str(config)], stdin=subprocess.DEVNULL)
    try:
        await accepts(number, process)
        yield number
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


@pytest.fixture
async def join(port: int) -> AsyncIterator[Join]:
    clients: list[RawClient] = []

    async def connected(client_id: str, *filters: str, **options: object) -> RawClient:
        client = await RawClient.connected(port, client_id, **options)
        clients.append(client)
        if filters:
            await client.subscribe(*filters)
        return client

    yield connected
    for client in clients:
        await client.close()


def payloads(packets: Sequence[mqtt5.Packet]) -> list[bytes]:
    return [packet.payload for packet in packets if isinstance(packet, mqtt5.PublishPacket)]


async def take(client: RawClient, count: int) -> list[mqtt5.PublishPacket]:
    """The next publishes, acknowledged."""
    got = [await client.expect(mqtt5.PublishPacket) for _ in range(count)]
    client.acknowledge(got)
    return got


def filter_of(pattern: str, **options: object) -> mqtt5.TopicFilter:
    return mqtt5.TopicFilter(pattern, **{"max_qos": mqtt5.QoS.AT_LEAST_ONCE, **options})


async def test_properties_are_forwarded_in_order(join: Join) -> None:
    """A request arrives with its response topic, correlation data, expiry and user properties."""
    worker, producer = await join("w", "$share/g/requests/#"), await join("p")
    producer.publish(
        "requests/1",
        b"\x00body",
        qos=1,
        payload_format_indicator=0,
        message_expiry_interval=30,
        content_type="application/json",
        response_topic="replies/1",
        correlation_data=b"\x00\x01",
        user_properties=[("b", "1"), ("a", "2"), ("b", "1")],
    )
    (got,) = await take(worker, 1)
    assert (got.topic, got.payload, got.message_expiry_interval) == ("requests/1", b"\x00body", 30)
    assert (got.content_type, got.response_topic) == ("application/json", "replies/1")
    assert got.correlation_data == b"\x00\x01"
    assert got.user_properties == [("b", "1"), ("a", "2"), ("b", "1")]


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("a/+/c", ["a/b/c", "a//c"], ["a/c", "a/b/c/d"]),
        ("a/#", ["a", "a/b", "a/b/c"], ["b", "ab"]),
        ("#", ["a", "/"], ["$x/a"]),
        ("+/a", ["b/a", "/a"], ["$x/a", "a"]),
        ("$x/#", ["$x/a"], ["x/a"]),
    ],
)
async def test_wildcards(join: Join, pattern: str, matching: list[str], others: list[str]) -> None:
    """A filter gets exactly the topics it matches."""
    client, publisher = await join("c", pattern), await join("p")
    for topic in (*others, *matching):
        await publisher.publish_acked(topic)
    got = await take(client, len(matching))
    assert [p.topic for p in got] == matching
    assert await client.fence() == []


async def test_puback_and_unsuback_reasons(join: Join) -> None:
    """0x10 without a subscriber, 0x11 for a filter that was not there."""
    client, publisher = await join("c"), await join("p")
    assert await publisher.publish_acked("t") == 0x10
    await client.subscribe("t")
    assert await publisher.publish_acked("t") == 0
    await take(client, 1)
    assert await client.unsubscribe("t", "t") == [0x00, 0x11]
    assert await publisher.publish_acked("t") == 0x10


async def test_retained_messages(join: Join) -> None:
    """RETAIN for a later subscriber, only if it asked so for a live one; an empty message clears."""
    publisher = await join("p")
    await publisher.publish_acked("t", b"kept", retain=True)
    client, plain = await join("c"), await join("d")
    await client.subscribe(filter_of("t", retain_as_published=True), identifier=5)
    await plain.subscribe(filter_of("t", retain_as_published=False))
    for receiver in (client, plain):
        (got,) = await take(receiver, 1)
        assert (got.payload, got.retain) == (b"kept", True)
    await publisher.publish_acked("t", b"live", retain=True)
    assert [p.retain for p in await take(client, 1)] == [True]
    assert [p.retain for p in await take(plain, 1)] == [False]
    await publisher.publish_acked("t", b"", retain=True)
    late = await join("e", "t")
    assert await late.fence() == []


@pytest.mark.parametrize(("handling", "counts"), [(0, [1, 1]), (1, [1, 0]), (2, [0, 0])])
async def test_retain_handling(join: Join, handling: int, counts: list[int]) -> None:
    """Always, for a new subscription, never."""
    client = await join("c")
    await client.publish_acked("t", b"kept", retain=True)
    for count in counts:
        await client.subscribe(filter_of("t", retain_handling=mqtt5.RetainHandling(handling)))
        assert len(await client.fence()) == count


async def test_no_local_and_identifiers(join: Join) -> None:
    """Own messages stay away; the others carry the identifier of their subscription."""
    client, publisher = await join("c"), await join("p")
    await client.subscribe(filter_of("t", no_local=True), identifier=42)
    client.publish("t", b"own")
    await client.fence()
    await publisher.publish_acked("t", b"other")
    (got,) = await take(client, 1)
    assert (got.payload, got.subscription_ids) == (b"other", [42])


async def test_a_session_is_resumed_in_order(port: int, join: Join) -> None:
    """Session present; unacknowledged messages again with DUP and their packet ids, then what came meanwhile."""
    client, publisher = await join("c", "t", **KEPT), await join("p")
    await publisher.publish_acked("t", b"0")
    await publisher.publish_acked("t", b"1")
    before = [await client.expect(mqtt5.PublishPacket) for _ in range(2)]
    await client.close()
    await publisher.publish_acked("t", b"2")
    again = await RawClient.open(port)
    assert (await again.connect("c", **KEPT)).session_present
    after = await take(again, 3)
    assert payloads(after) == [b"0", b"1", b"2"]
    assert [p.duplicate for p in after] == [True, True, False]
    assert [p.packet_id for p in after[:2]] == [p.packet_id for p in before]
    await again.close()


async def test_clean_start_and_expiry_end_a_session(port: int, join: Join) -> None:
    """Clean Start forgets it, and so does a connection that ends with expiry 0."""
    for options in (KEPT, {"clean_start": True}):
        client = await RawClient.open(port)
        assert not (await client.connect("c", **{**options, "clean_start": True})).session_present
        await client.close()
        expected = options is KEPT
        client = await RawClient.open(port)
        assert (await client.connect("c", clean_start=False)).session_present is expected
        await client.close(disconnect=True)


async def test_a_client_id_is_taken_over(join: Join) -> None:
    """The older connection ends, with 0x8E if the broker says why (mosquitto 2.0.11 does not)."""
    old, new = await join("same"), await join("same")
    heard = await old.ended()
    assert [int(p.reason_code) for p in heard if isinstance(p, mqtt5.DisconnectPacket)] in ([0x8E], [])
    assert await new.fence() == []


async def test_an_empty_client_id_is_assigned(port: int) -> None:
    """CONNACK tells the name."""
    client = await RawClient.open(port)
    assert (await client.connect("")).assigned_client_id
    await client.close()


@pytest.mark.parametrize("goodbye", [True, False])
async def test_wills(join: Join, goodbye: bool) -> None:
    """A broken connection publishes the will with its properties; a normal DISCONNECT does not."""
    watcher = await join("w", "wills/#")
    will = mqtt5.Will("wills/c", payload=b"gone", qos=mqtt5.QoS.AT_LEAST_ONCE, content_type="text/plain")
    client = await join("c", will=will)
    await client.close(disconnect=goodbye)
    publisher = await join("p")
    await publisher.publish_acked("wills/end", b"end")
    got = await take(watcher, 1 if goodbye else 2)
    assert payloads(got) == ([b"end"] if goodbye else [b"gone", b"end"])
    assert goodbye or got[0].content_type == "text/plain"


async def test_a_shared_subscription_shares(join: Join) -> None:
    """Every message to exactly one member, and to every member some; a plain subscriber gets all."""
    one, two = await join("1", "$share/g/t"), await join("2", "$share/g/t")
    plain, publisher = await join("3", "t"), await join("p")
    for n in range(10):
        await publisher.publish_acked("t", b"%d" % n)
    everything = payloads(await take(plain, 10))
    shares = [await one.fence(), await two.fence()]
    assert all(shares)
    assert sorted(payloads([*shares[0], *shares[1]])) == everything == [b"%d" % n for n in range(10)]


async def test_messages_wait_for_an_absent_member(join: Join) -> None:
    """While the session of the only member lives, requests wait for it."""
    member, publisher = await join("1", "$share/g/t", **KEPT), await join("p")
    await publisher.publish_acked("t", b"0")
    await member.expect(mqtt5.PublishPacket)
    await member.close()
    assert await publisher.publish_acked("t", b"1") == 0
    again = await join("1", **KEPT)
    got = await take(again, 2)
    assert payloads(got) == [b"0", b"1"]
    assert [p.duplicate for p in got] == [True, False]


async def test_acknowledgements_may_come_out_of_order(join: Join) -> None:
    """Only what was not acknowledged comes again."""
    client, publisher = await join("c", "t", **KEPT), await join("p")
    for n in range(3):
        await publisher.publish_acked("t", b"%d" % n)
    got = [await client.expect(mqtt5.PublishPacket) for _ in range(3)]
    client.acknowledge([got[2], got[0]])
    await client.fence()
    await client.close()
    again = await join("c", **KEPT)
    assert payloads(await take(again, 1)) == [b"1"]
    assert await again.fence() == []


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b"\x30\x06\x00\x03a/#\x00", id="publish to a wildcard"),
        pytest.param(b"\xc0\xff\xff\xff\xff\x01", id="remaining length"),
        pytest.param(b"\x82\x03\x00\x01\x00", id="subscribe to nothing"),
        pytest.param(mqtt5.ConnectPacket("again"), id="second CONNECT"),
        pytest.param(b"\x00\x00", id="unknown packet type"),
    ],
)
async def test_a_bad_client_is_closed_and_nobody_else(join: Join, bad: mqtt5.Packet | bytes) -> None:
    """Its connection ends; another client's does not."""
    other, sender = await join("other", "t"), await join("sender")
    sender.send(bad)
    assert payloads(await sender.ended()) == []
    await other.publish_acked("t2")
    assert await other.fence() == []


async def test_request_and_response_with_aiomqtt(port: int) -> None:
    """A hundred requests at once, each answered under its own correlation data."""

    def client(name: str) -> aiomqtt.Client:
        return aiomqtt.Client(
            "127.0.0.1",
            port,
            identifier=name,
            protocol=aiomqtt.ProtocolVersion.V5,
            socket_options=[NODELAY],
        )

    async def work(worker: aiomqtt.Client) -> None:
        async for message in worker.messages:
            properties = Properties(PacketTypes.PUBLISH)
            properties.CorrelationData = message.properties.CorrelationData
            await worker.publish(message.properties.ResponseTopic, message.payload, qos=1, properties=properties)

    async with client("w") as worker, client("p") as producer:
        await worker.subscribe("$share/g/requests/#", qos=1)
        await producer.subscribe("replies/p", qos=1)
        working = asyncio.create_task(work(worker))
        for n in range(100):
            properties = Properties(PacketTypes.PUBLISH)
            properties.ResponseTopic, properties.CorrelationData = "replies/p", b"%d" % n
            await producer.publish("requests/x", b"body %d" % n, qos=1, properties=properties)
        replies: dict[bytes, bytes] = {}
        async with asyncio.timeout(WAIT_S):
            async for message in producer.messages:
                replies[message.properties.CorrelationData] = message.payload
                if len(replies) == 100:
                    break
        working.cancel()
        assert replies == {b"%d" % n: b"body %d" % n for n in range(100)}
