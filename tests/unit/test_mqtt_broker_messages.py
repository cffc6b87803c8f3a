"""What becomes of a message in the embedded broker: properties, QoS, filters, expiry, retained messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import mqtt5
import pytest

from router.doubles.mqtt_broker import Broker, Limits, RawClient

Join = Callable[..., Awaitable[RawClient]]
KEPT = {"clean_start": False, "session_expiry_interval": 60}


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
    async with Broker(limits=Limits(max_queued=10), clock=clock) as broker:
        yield broker


@pytest.fixture
async def join(broker: Broker) -> AsyncIterator[Join]:
    clients: list[RawClient] = []

    async def connected(client_id: str, **options: object) -> RawClient:
        clients.append(await RawClient.connected(broker.port, client_id, **options))
        return clients[-1]

    yield connected
    for client in clients:
        await client.close()


def payloads(packets: Sequence[mqtt5.PublishPacket]) -> list[bytes]:
    return [packet.payload for packet in packets]


def filter_of(pattern: str, **options: object) -> mqtt5.TopicFilter:
    return mqtt5.TopicFilter(pattern, **{"max_qos": mqtt5.QoS.AT_LEAST_ONCE, **options})


async def test_every_publish_property_is_forwarded(join: Join) -> None:
    """Topic, payload and properties arrive as sent, user properties in order and with their repeats."""
    client = await join("c")
    await client.subscribe("t/#")
    client.publish(
        "t/1",
        b"\x00\xffbody",
        qos=1,
        payload_format_indicator=1,
        message_expiry_interval=30,
        content_type="application/json",
        response_topic="replies/1",
        correlation_data=b"\x00\x01",
        user_properties=[("b", "1"), ("a", "2"), ("b", "1")],
    )
    got = await client.expect(mqtt5.PublishPacket)
    assert (got.topic, got.payload, int(got.qos)) == ("t/1", b"\x00\xffbody", 1)
    assert (got.payload_format_indicator, got.message_expiry_interval) == (1, 30)
    assert (got.content_type, got.response_topic) == ("application/json", "replies/1")
    assert got.correlation_data == b"\x00\x01"
    assert got.user_properties == [("b", "1"), ("a", "2"), ("b", "1")]
    assert not got.duplicate


@pytest.mark.parametrize(("published", "granted"), [(0, 0), (0, 1), (1, 0), (1, 1)])
async def test_qos_is_the_lower_of_both(join: Join, published: int, granted: int) -> None:
    """A message leaves with the lower of its own QoS and the subscription's, a packet id only with QoS 1."""
    client, publisher = await join("c"), await join("p")
    assert await client.subscribe("t", qos=granted) == [granted]
    publisher.publish("t", qos=published)
    await publisher.receive() if published else await publisher.fence()
    (got,) = await client.fence()
    assert int(got.qos) == min(published, granted)
    assert (got.packet_id is not None) is (int(got.qos) == 1)


async def test_qos_2_is_granted_as_1(join: Join) -> None:
    """A subscription that asks for QoS 2 gets QoS 1."""
    client = await join("c")
    assert await client.subscribe(filter_of("t", max_qos=mqtt5.QoS.EXACTLY_ONCE)) == [1]


async def test_puback_says_whether_anybody_listens(join: Join) -> None:
    """0x10 without a matching subscription, 0x00 with one, even if its client is away."""
    client, publisher = await join("c", **KEPT), await join("p")
    assert await publisher.publish_acked("t") == 0x10
    await client.subscribe("t")
    assert await publisher.publish_acked("t") == 0x00
    await client.close()
    assert await publisher.publish_acked("t") == 0x00


async def test_unsubscribe_ends_delivery(join: Join) -> None:
    """After UNSUBSCRIBE nothing comes; a filter that was not there is answered 0x11."""
    client = await join("c")
    await client.subscribe("a", "b")
    assert await client.unsubscribe("a", "x") == [0x00, 0x11]
    client.publish("a")
    client.publish("b", b"1")
    assert payloads(await client.fence()) == [b"1"]


async def test_wrong_filters_are_answered_one_by_one(join: Join) -> None:
    """0x8F for what is not a filter; the others of the same packet are granted."""
    client = await join("c")
    asked = mqtt5.SubscribePacket(1, [filter_of("a"), filter_of("b/c/c"), filter_of("$share/g/x")]).write()
    client.send(asked.replace(b"b/c/c", b"b/#/c").replace(b"$share/g/x", b"$share/+/x"))
    answer = await client.expect(mqtt5.SubAckPacket)
    assert [int(code) for code in answer.reason_codes] == [1, 0x8F, 0x8F]


async def test_overlapping_subscriptions_give_one_copy(join: Join) -> None:
    """One copy with the higher QoS and the identifiers of every matching subscription."""
    client, publisher = await join("c"), await join("p")
    await client.subscribe("a/#", identifier=7, qos=0)
    await client.subscribe("a/+", identifier=9, qos=1)
    await publisher.publish_acked("a/b")
    (got,) = await client.fence()
    assert int(got.qos) == 1
    assert sorted(got.subscription_ids) == [7, 9]


async def test_no_local_hides_own_messages_only(join: Join) -> None:
    """A No Local subscriber does not get what it published; another subscription of its own still does."""
    client, publisher = await join("c"), await join("p")
    await client.subscribe(filter_of("a/#", no_local=True), identifier=1)
    assert await client.publish_acked("a/b") == 0x10
    await publisher.publish_acked("a/b", b"other")
    assert payloads(await client.fence()) == [b"other"]
    await client.subscribe("a/b", identifier=2)
    client.publish("a/b", b"own")
    (own,) = await client.fence()
    assert own.subscription_ids == [2]


async def test_message_expiry_counts_the_time_waited(broker: Broker, clock: Clock, join: Join) -> None:
    """The interval arrives less the whole seconds waited; what has expired does not arrive."""
    client, publisher = await join("c", **KEPT), await join("p")
    await client.subscribe("t")
    await client.close()
    publisher.publish("t", b"short", message_expiry_interval=5, qos=1)
    publisher.publish("t", b"long", message_expiry_interval=20, qos=1)
    publisher.publish("t", b"endless", qos=1)
    for _ in range(3):
        await publisher.expect(mqtt5.PubAckPacket)
    clock.now += 7.5
    again = await join("c", **KEPT)
    got = await again.fence()
    assert [(p.payload, p.message_expiry_interval) for p in got] == [(b"long", 13), (b"endless", None)]
    assert broker.stats.lost_expired == 1


async def test_a_message_in_time_keeps_its_interval(join: Join) -> None:
    """Forwarded at once, even an interval of 0 arrives as it was sent."""
    client = await join("c")
    await client.subscribe("t", qos=0)
    for interval in (0, 1, 4294967295):
        client.publish("t", message_expiry_interval=interval)
    assert [p.message_expiry_interval for p in await client.fence()] == [0, 1, 4294967295]


async def test_maximum_packet_size_of_the_client_is_honoured(broker: Broker, join: Join) -> None:
    """What is too large for it is left out, takes no room, and the next message comes."""
    client, publisher = await join("c", max_packet_size=100, receive_max=1), await join("p")
    await client.subscribe("t")
    await publisher.publish_acked("t", b"x" * 100)
    await publisher.publish_acked("t", b"small")
    assert payloads(await client.fence()) == [b"small"]
    assert broker.stats.lost_oversized == 1


async def test_retained_messages_meet_later_subscribers(join: Join) -> None:
    """The last retained message of each matching topic comes with RETAIN set; an empty one clears its topic."""
    publisher = await join("p")
    for topic, payload in (("a/1", b"old"), ("a/1", b"new"), ("a/2", b"two"), ("b", b"b"), ("a/2", b"")):
        await publisher.publish_acked(topic, payload, retain=True)
    client = await join("c")
    await client.subscribe("a/#", identifier=4)
    (got,) = await client.fence()
    assert (got.topic, got.payload, got.retain, got.subscription_ids) == ("a/1", b"new", True, [4])


@pytest.mark.parametrize(("handling", "counts"), [(0, [1, 1]), (1, [1, 0]), (2, [0, 0])])
async def test_retain_handling(join: Join, handling: int, counts: list[int]) -> None:
    """0 sends at every SUBSCRIBE, 1 only where the subscription is new, 2 never."""
    client = await join("c")
    await client.publish_acked("t", b"kept", retain=True)
    asked = filter_of("t", retain_handling=mqtt5.RetainHandling(handling))
    seen = []
    for _ in range(2):
        await client.subscribe(asked)
        seen.append(len(await client.fence()))
    assert seen == counts


@pytest.mark.parametrize("as_published", [True, False])
async def test_retain_as_published(join: Join, as_published: bool) -> None:
    """A live message keeps its RETAIN flag only for subscribers that ask for it."""
    client, publisher = await join("c"), await join("p")
    await client.subscribe(filter_of("t", retain_as_published=as_published))
    await publisher.publish_acked("t", b"live", retain=True)
    assert [p.retain for p in await client.fence()] == [as_published]


async def test_shared_subscriptions_get_no_retained_messages(join: Join) -> None:
    """A new shared subscription starts with what is published from then on."""
    client = await join("c")
    await client.publish_acked("t", b"kept", retain=True)
    await client.subscribe("$share/g/t")
    assert await client.fence() == []


async def test_retained_messages_expire(clock: Clock, join: Join) -> None:
    """Its interval counts while it is kept; then it is gone."""
    client = await join("c")
    await client.publish_acked("t", b"kept", retain=True, message_expiry_interval=10)
    clock.now += 4.0
    await client.subscribe("t", qos=0)
    assert [p.message_expiry_interval for p in await client.fence()] == [6]
    clock.now += 7.0
    await client.subscribe("t", qos=0)
    assert await client.fence() == []
