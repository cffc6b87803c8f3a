"""The embedded broker, one client at a time: start and stop, CONNECT, and what ends a connection."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import mqtt5
import pytest
from structlog.testing import capture_logs

from router.doubles.mqtt_broker import Broker, Limits, RawClient

Join = Callable[..., Awaitable[RawClient]]


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def broker(clock: Clock) -> AsyncIterator[Broker]:
    limits = Limits(receive_max=4, max_packet_size_bytes=2000)
    async with Broker(limits=limits, clock=clock) as broker:
        yield broker


@pytest.fixture
async def join(broker: Broker) -> AsyncIterator[Join]:
    clients: list[RawClient] = []

    async def connected(client_id: str = "c", **options: object) -> RawClient:
        clients.append(await RawClient.connected(broker.port, client_id, **options))
        return clients[-1]

    yield connected
    for client in clients:
        await client.close()


async def first_answer(broker: Broker, *sent: mqtt5.Packet | bytes) -> list[mqtt5.Packet]:
    """What a connection that begins like this hears before it is closed."""
    client = await RawClient.open(broker.port)
    client.send(*sent)
    heard = await client.ended()
    await client.close()
    return heard


def reasons(heard: list[mqtt5.Packet]) -> list[int]:
    return [int(packet.reason_code) for packet in heard if not isinstance(packet, mqtt5.PublishPacket)]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.org", ""])
def test_only_loopback_is_served(host: str) -> None:
    """Any other address is refused before anything is bound, with a sentence that says why."""
    with pytest.raises(ValueError, match="loopback only"):
        Broker(host)


@pytest.mark.parametrize(
    ("host", "url"),
    [("localhost", "mqtt://127.0.0.1:1"), ("127.8.9.1", "mqtt://127.8.9.1:1"), ("::1", "mqtt://[::1]:1")],
)
def test_loopback_addresses_give_a_url(host: str, url: str) -> None:
    """127.0.0.0/8, ::1 and localhost are accepted."""
    assert Broker(host, 1).url == url


async def test_start_says_it_is_not_for_production() -> None:
    """The log line at the start and the docstring both say so."""
    with capture_logs() as logs:
        async with Broker() as broker:
            assert broker.url == f"mqtt://127.0.0.1:{broker.port}"
    assert logs[0]["event"] == "mqtt_broker_started"
    assert "not for production" in logs[0]["note"]
    assert "NOT for production" in (Broker.__doc__ or "")


async def test_start_twice_is_refused_and_stop_twice_is_not(broker: Broker) -> None:
    """A started broker cannot be started again; stopping a stopped one changes nothing."""
    with pytest.raises(RuntimeError):
        await broker.start()
    await broker.stop()
    await broker.stop()


async def test_stop_tells_clients_and_forgets_them(broker: Broker) -> None:
    """Clients hear 0x8B; after a start on the same port no session is left."""
    client = await RawClient.connected(broker.port, "c", session_expiry_interval=60)
    port = broker.port
    await broker.stop()
    assert reasons(await client.ended()) == [0x8B]
    await client.close()
    await broker.start()
    assert broker.port == port
    again = await RawClient.open(port)
    assert not (await again.connect("c", clean_start=False)).session_present
    await again.close()


async def test_a_stopped_broker_keeps_its_port(broker: Broker) -> None:
    """Nobody who asks for any port is given it before the broker starts again."""
    await broker.stop()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", broker.port))
    await broker.start()


async def test_connack_announces_what_the_broker_can(broker: Broker) -> None:
    """Maximum QoS 1, the limits, no topic aliases; retained, wildcard, shared and identifiers available."""
    client = await RawClient.open(broker.port)
    answer = await client.connect("c")
    await client.close()
    assert int(answer.max_qos) == 1
    assert (answer.receive_max, answer.max_packet_size, answer.topic_alias_max) == (4, 2000, 0)
    assert answer.retain_available
    assert answer.wildcard_subscription_available
    assert answer.shared_subscription_available
    assert answer.subscription_id_available
    assert not answer.session_present
    assert answer.assigned_client_id is None


async def test_empty_client_ids_get_different_names(broker: Broker) -> None:
    """Two anonymous clients live side by side under the ids that CONNACK assigns."""
    one, two = await RawClient.open(broker.port), await RawClient.open(broker.port)
    names = {(await client.connect("")).assigned_client_id for client in (one, two)}
    assert len(names) == 2
    assert None not in names
    assert await one.fence() == []
    await one.close()
    await two.close()


async def test_a_second_connection_takes_the_client_id_over(broker: Broker, join: Join) -> None:
    """The older connection hears 0x8E and ends, which does the session of the newer one no harm."""
    kept = {"clean_start": False, "session_expiry_interval": 60}
    old, new = await join("same", **kept), await join("same", **kept)
    await new.subscribe("t")
    assert reasons(await old.ended()) == [0x8E]
    new.publish("t", b"mine")
    assert [p.payload for p in await new.fence()] == [b"mine"]
    assert broker.stats.taken_over == 1


@pytest.mark.parametrize(
    ("connect", "reason"),
    [
        (mqtt5.ConnectPacket("c", authentication_method="SCRAM"), 0x8C),
        (mqtt5.ConnectPacket("c", will=mqtt5.Will("w", qos=mqtt5.QoS.EXACTLY_ONCE)), 0x9B),
        (mqtt5.ConnectPacket("a\0b"), 0x85),
        (mqtt5.ConnectPacket("c", will=mqtt5.Will("w\0")), 0x90),
    ],
)
async def test_connect_is_refused_with_its_reason(broker: Broker, connect: mqtt5.ConnectPacket, reason: int) -> None:
    """Enhanced authentication, a will with QoS 2, and names that are not allowed."""
    heard = await first_answer(broker, connect)
    assert isinstance(heard[0], mqtt5.ConnAckPacket)
    assert reasons(heard) == [reason]


@pytest.mark.parametrize("level", [3, 4])
async def test_older_clients_are_told_in_their_own_protocol(broker: Broker, level: int) -> None:
    """An MQTT 3 CONNECT is answered by the MQTT 3 CONNACK "unacceptable protocol version"."""
    name = b"\x00\x06MQIsdp" if level == 3 else b"\x00\x04MQTT"
    body = name + bytes([level, 2, 0, 60]) + b"\x00\x01c"
    reader_writer = await RawClient.open(broker.port)
    reader_writer.send(bytes([0x10, len(body)]) + body)
    assert await reader_writer.raw(4) == b"\x20\x02\x00\x01"
    await reader_writer.close()


async def test_an_unknown_protocol_version_is_refused(broker: Broker) -> None:
    """A version after 5 is answered with a version 5 CONNACK that reports an error."""
    heard = await first_answer(broker, b"\x10\x0e\x00\x04MQTT\x06\x02\x00\x3c\x00\x00\x01c")
    assert isinstance(heard[0], mqtt5.ConnAckPacket)
    assert reasons(heard)[0] >= 0x80


@pytest.mark.parametrize("first", [mqtt5.PingReqPacket(), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00\x00"])
async def test_anything_before_connect_closes_in_silence(broker: Broker, first: mqtt5.Packet | bytes) -> None:
    """What is not a CONNECT gets no MQTT answer."""
    assert await first_answer(broker, first) == []


# The codec panics over text that is not UTF-8, and reports that as an unraisable exception as well.
CODEC_PANICS = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
ALIASED = mqtt5.PublishPacket("t", b"", topic_alias=1)
QOS_2 = mqtt5.PublishPacket("t", b"", qos=mqtt5.QoS.EXACTLY_ONCE, packet_id=1)
IDENTIFIED = mqtt5.PublishPacket("t", b"", subscription_ids=[3])
NO_FILTERS = b"\x82\x03\x00\x01\x00"
NO_PACKET_ID = b"\x32\x06\x00\x01t\x00\x00\x00"
WILDCARD_TOPIC = b"\x30\x06\x00\x03a/#\x00"
WILDCARD_RESPONSE_TOPIC = b"\x30\x08\x00\x01t\x04\x08\x00\x01#"
LOCAL_SHARE = mqtt5.SubscribePacket(1, [mqtt5.TopicFilter("$share/g/t", no_local=True)])


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(QOS_2, 0x9B, id="QoS 2"),
        pytest.param(ALIASED, 0x94, id="topic alias"),
        pytest.param(IDENTIFIED, 0x82, id="subscription identifier in a publish"),
        pytest.param(WILDCARD_TOPIC, 0x90, id="publish to a wildcard"),
        pytest.param(WILDCARD_RESPONSE_TOPIC, 0x81, id="wildcard response topic"),
        pytest.param(NO_PACKET_ID, 0x81, id="packet id 0"),
        pytest.param(b"\x38\x04\x00\x01t\x00", 0x81, id="DUP on QoS 0"),
        pytest.param(b"\x30\x05\x00\x02\xff\xfe\x00", 0x81, id="topic is not UTF-8", marks=CODEC_PANICS),
        pytest.param(b"\xc0\xff\xff\xff\xff\x01", 0x81, id="remaining length of five bytes"),
        pytest.param(b"\x30\xd1\x0f", 0x95, id="announces more than the maximum packet size"),
        pytest.param(mqtt5.PublishPacket("t", b"x" * 2000), 0x95, id="more than the maximum packet size"),
        pytest.param(NO_FILTERS, 0x82, id="subscribe to nothing"),
        pytest.param(LOCAL_SHARE, 0x82, id="No Local on a shared subscription"),
        pytest.param(mqtt5.ConnectPacket("c"), 0x82, id="second CONNECT"),
        pytest.param(mqtt5.AuthPacket(authentication_method="m"), 0x82, id="AUTH"),
        pytest.param(mqtt5.PubRelPacket(1), 0x82, id="PUBREL"),
        pytest.param(mqtt5.PingRespPacket(), 0x82, id="a server's packet"),
        pytest.param(mqtt5.DisconnectPacket(session_expiry_interval=5), 0x82, id="expiry raised from 0"),
    ],
)
async def test_a_violation_ends_only_its_sender(
    broker: Broker, join: Join, sent: mqtt5.Packet | bytes, reason: int
) -> None:
    """The sender hears the reason code and is closed; another client goes on undisturbed."""
    other, sender = await join("other"), await join("sender")
    sender.send(sent)
    assert reasons(await sender.ended()) == [reason]
    assert await other.fence() == []
    assert broker.stats.violations == 1


async def test_packets_may_come_in_any_pieces(join: Join) -> None:
    """Bytes one at a time, and several packets at once, mean the same."""
    client = await join()
    await client.subscribe("t")
    whole = mqtt5.PublishPacket("t", b"x" * 300).write() + mqtt5.PublishPacket("t", b"y").write()
    for at in range(len(whole)):
        client.send(whole[at : at + 1])
        await client.flushed()
    client.send(whole)
    assert [p.payload for p in await client.fence()] == [b"x" * 300, b"y"] * 2


async def test_more_than_receive_maximum_in_flight_ends_the_sender(join: Join) -> None:
    """Four publishes at once are allowed here; a fifth before any PUBACK is 0x93."""
    client = await join()
    for _ in range(2):
        client.send(*(publish(n) for n in range(1, 5)))
        assert [(await client.expect(mqtt5.PubAckPacket)).packet_id for _ in range(4)] == [1, 2, 3, 4]
    client.send(*(publish(n) for n in range(1, 6)))
    assert reasons(await client.ended())[-1] == 0x93


def publish(packet_id: int) -> mqtt5.PublishPacket:
    return mqtt5.PublishPacket("t", b"", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id)


async def test_a_silent_client_is_closed_after_one_and_a_half_keep_alives(
    broker: Broker, clock: Clock, join: Join
) -> None:
    """A ping in time keeps the connection; silence for longer ends it with 0x8D."""
    client = await join(keep_alive=10)
    clock.now += 15.0
    broker.sweep()
    assert await client.fence() == []
    clock.now += 15.1
    broker.sweep()
    assert reasons(await client.ended()) == [0x8D]


async def test_keep_alive_zero_never_closes(broker: Broker, clock: Clock, join: Join) -> None:
    """A client that asks for no keep alive may be silent for a day."""
    client = await join(keep_alive=0)
    clock.now += 86400.0
    broker.sweep()
    assert await client.fence() == []


async def test_a_connection_that_never_says_connect_is_closed(broker: Broker, clock: Clock) -> None:
    """Ten seconds without CONNECT end a connection."""
    client = await RawClient.open(broker.port)
    client.send(b"\x10")
    await client.flushed()
    other = await RawClient.connected(broker.port, "fence")
    await other.close()
    clock.now += 10.1
    broker.sweep()
    assert await client.ended() == []
    await client.close()


async def test_a_connection_that_cannot_be_closed_in_good_order_is_cut(clock: Clock) -> None:
    """A client that does not read holds a closed connection open for five seconds, not longer."""
    async with Broker(clock=clock) as broker:
        stalled = await RawClient.connected(broker.port, "same")
        stalled.take_little()
        await stalled.subscribe("t", qos=0)
        publisher = await RawClient.connected(broker.port, "p")
        for _ in range(12):
            await publisher.publish_acked("t", b"x" * 1_500_000)
        other = await RawClient.connected(broker.port, "same")
        clock.now += 5.1
        broker.sweep()
        heard = await stalled.ended()
        assert not any(isinstance(packet, mqtt5.DisconnectPacket) for packet in heard)
        for client in (stalled, publisher, other):
            await client.close()
