"""The embedded broker's promises to one subscriber: order, room, resumption, expiry, retained messages, wills."""

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


async def is_present(broker: Broker, client_id: str) -> bool:
    """Whether the broker still has a session; asking ends it."""
    client = await RawClient.open(broker.port)
    answer = await client.connect(client_id, clean_start=False)
    await client.close(disconnect=True)
    return answer.session_present


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


async def test_receive_maximum_bounds_what_is_in_flight(join: Join) -> None:
    """Two unacknowledged at most, in order; each acknowledgement lets one more out."""
    client, publisher = await join("c", receive_max=2), await join("p")
    await client.subscribe("t")
    for n in range(5):
        await publisher.publish_acked("t", b"%d" % n)
    first = await client.fence()
    assert payloads(first) == [b"0", b"1"]
    assert await client.fence() == []
    client.acknowledge(first[:1])
    assert payloads(await client.fence()) == [b"2"]
    client.acknowledge(first[1:])
    assert payloads(await client.fence()) == [b"3"]


async def test_qos_0_waits_behind_qos_1_while_the_client_is_there(join: Join) -> None:
    """It overtakes nothing that waits, and is forgotten when the connection ends."""
    client, publisher = await join("c", receive_max=1, **KEPT), await join("p")
    await client.subscribe("t")
    for last in (b"zero", b"forgotten"):
        await publisher.publish_acked("t", b"one")
        await publisher.publish_acked("t", b"two")
        publisher.publish("t", last)
        await publisher.fence()
        first = await client.fence()
        assert payloads(first) == [b"one"]
        if last == b"zero":
            client.acknowledge(first)
            second = await client.fence()
            assert payloads(second) == [b"two", b"zero"]
            client.acknowledge(second)
    await client.close()
    again = await join("c", **KEPT)
    assert payloads(await again.fence()) == [b"one", b"two"]


async def test_an_unknown_acknowledgement_makes_no_room(join: Join) -> None:
    """PUBACK for an id that is not in flight is ignored."""
    client, publisher = await join("c", receive_max=1), await join("p")
    await client.subscribe("t")
    await publisher.publish_acked("t", b"0")
    await publisher.publish_acked("t", b"1")
    client.send(mqtt5.PubAckPacket(999))
    assert payloads(await client.fence()) == [b"0"]


async def test_a_full_queue_is_not_hidden_from_the_publisher(broker: Broker, join: Join) -> None:
    """PUBACK 0x97 where no subscriber could take the message; what was accepted is delivered."""
    client, publisher = await join("c", **KEPT), await join("p")
    await client.subscribe("t")
    await client.close()
    codes = [await publisher.publish_acked("t", b"%d" % n) for n in range(12)]
    assert codes == [0x00] * 10 + [0x97] * 2
    assert broker.stats.lost_full == 2
    again = await join("c", **KEPT)
    assert payloads(await again.fence()) == [b"%d" % n for n in range(10)]


async def test_a_resumed_session_gets_what_it_is_owed_in_order(join: Join) -> None:
    """Unacknowledged first, with DUP and the same packet id; then what waited and what came meanwhile."""
    client, publisher = await join("c", receive_max=2, **KEPT), await join("p")
    await client.subscribe("t")
    for n in range(4):
        await publisher.publish_acked("t", b"%d" % n)
    before = await client.fence()
    await client.close()
    await publisher.publish_acked("t", b"4")
    publisher.publish("t", b"QoS 0")
    await publisher.fence()
    again = await join("c", **KEPT)
    after = await again.fence()
    assert payloads(after) == [b"0", b"1", b"2", b"3", b"4"]
    assert [p.duplicate for p in after] == [True, True, False, False, False]
    assert [p.packet_id for p in after[:2]] == [p.packet_id for p in before]
    assert len({p.packet_id for p in after}) == 5


async def test_a_resumed_session_honours_a_smaller_receive_maximum(join: Join) -> None:
    """Of three unacknowledged messages one comes at a time if the new connection allows one."""
    client, publisher = await join("c", **KEPT), await join("p")
    await client.subscribe("t")
    for n in range(3):
        await publisher.publish_acked("t", b"%d" % n)
    await client.fence()
    await client.close()
    again = await join("c", receive_max=1, **KEPT)
    for n in range(3):
        got = await again.fence()
        assert payloads(got) == [b"%d" % n]
        again.acknowledge(got)


async def test_a_late_acknowledgement_meets_no_other_message(join: Join) -> None:
    """Packet ids go on over a reconnect: an id acknowledged before it is not given to a new message at once."""
    client, publisher = await join("c", **KEPT), await join("p")
    await client.subscribe("t")
    await publisher.publish_acked("t")
    old = await client.fence()
    client.acknowledge(old)
    await client.fence()
    await client.close()
    again = await join("c", **KEPT)
    await publisher.publish_acked("t")
    (new,) = await again.fence()
    assert new.packet_id != old[0].packet_id


async def test_clean_start_forgets_the_session(broker: Broker, join: Join) -> None:
    """Clean Start drops subscriptions and what waited."""
    client, publisher = await join("c", **KEPT), await join("p")
    await client.subscribe("t")
    await client.close()
    await publisher.publish_acked("t")
    fresh = await join("c", clean_start=True, session_expiry_interval=60)
    assert await fresh.fence() == []
    assert await publisher.publish_acked("t") == 0x10


@pytest.mark.parametrize(("waited_s", "present"), [(59.0, True), (61.0, False)])
async def test_a_session_lives_for_its_expiry_interval(
    broker: Broker, clock: Clock, join: Join, waited_s: float, present: bool
) -> None:
    """It is there before the interval is over and not after."""
    await (await join("c", **KEPT)).close()
    clock.now += waited_s
    assert await is_present(broker, "c") is present


async def test_sessions_end_by_themselves(broker: Broker, clock: Clock, join: Join) -> None:
    """An overdue session is swept away: its subscription no longer matches."""
    client, publisher = await join("c", **KEPT), await join("p")
    await client.subscribe("t")
    await client.close()
    clock.now += 61.0
    broker.sweep()
    assert await publisher.publish_acked("t") == 0x10


async def test_the_largest_interval_never_ends(broker: Broker, clock: Clock, join: Join) -> None:
    """0xFFFFFFFF keeps a session for ever."""
    await (await join("c", clean_start=False, session_expiry_interval=0xFFFFFFFF)).close()
    clock.now += 1e9
    broker.sweep()
    assert await is_present(broker, "c")


async def test_disconnect_may_change_the_expiry(broker: Broker, join: Join) -> None:
    """DISCONNECT with Session Expiry Interval 0 ends the session."""
    client = await join("c", **KEPT)
    client.send(mqtt5.DisconnectPacket(session_expiry_interval=0))
    await client.close()
    assert not await is_present(broker, "c")


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


WILL = mqtt5.Will("wills/c", payload=b"gone", qos=mqtt5.QoS.AT_LEAST_ONCE, content_type="text/plain")


@pytest.mark.parametrize(
    ("last_words", "expected"),
    [
        pytest.param(None, [b"gone"], id="connection broken"),
        pytest.param(mqtt5.DisconnectPacket(), [], id="normal disconnect"),
        pytest.param(
            mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.DISCONNECT_WITH_WILL_MESSAGE),
            [b"gone"],
            id="disconnect with will",
        ),
        pytest.param(b"\xf0\xff\xff\xff\xff", [b"gone"], id="malformed packet"),
    ],
)
async def test_a_will_is_published_unless_the_client_says_goodbye(
    join: Join, last_words: mqtt5.Packet | bytes | None, expected: list[bytes]
) -> None:
    """Only DISCONNECT 0x00 takes the will back."""
    watcher, client = await join("w"), await join("c", will=WILL)
    await watcher.subscribe("wills/#")
    if last_words is not None:
        client.send(last_words)
    await client.close()
    got = await watcher.fence()
    assert payloads(got) == expected
    assert all(p.content_type == "text/plain" for p in got)


async def test_a_delayed_will_waits_and_is_called_off_by_a_return(broker: Broker, clock: Clock, join: Join) -> None:
    """It comes after its delay; a client that is back before then prevents it."""
    watcher = await join("w")
    await watcher.subscribe("wills/#")
    will = mqtt5.Will("wills/c", payload=b"late", will_delay_interval=10)
    await (await join("c", will=will, **KEPT)).close()
    await (await join("c", will=will, **KEPT)).close()
    clock.now += 9.0
    broker.sweep()
    assert await watcher.fence() == []
    clock.now += 2.0
    broker.sweep()
    assert payloads(await watcher.fence()) == [b"late"]


async def test_a_reader_that_stalls_gets_everything_once_it_reads(broker: Broker, join: Join) -> None:
    """Messages beyond what the socket takes wait in the session, and come in order when the client reads."""
    client, publisher = await join("c"), await join("p")
    await client.subscribe("t")
    bodies = [bytes([n]) * 1_500_000 for n in range(12)]
    for body in bodies:
        assert await publisher.publish_acked("t", body) == 0
    assert broker.stats.sent < len(bodies)
    got = [await client.expect(mqtt5.PublishPacket) for _ in bodies]
    assert payloads(got) == bodies
