"""The embedded broker's promises to one subscriber: order, room, resumption, expiry, wills."""

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


async def is_present(broker: Broker, client_id: str) -> bool:
    """Whether the broker still has a session; asking ends it."""
    client = await RawClient.open(broker.port)
    answer = await client.connect(client_id, clean_start=False)
    await client.close(disconnect=True)
    return answer.session_present


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


async def test_a_will_waits_no_longer_than_its_session(broker: Broker, clock: Clock, join: Join) -> None:
    """A delay beyond the end of the session is cut short by it."""
    watcher = await join("w")
    await watcher.subscribe("wills/#")
    will = mqtt5.Will("wills/c", payload=b"at the end", will_delay_interval=1000)
    await (await join("c", will=will, **KEPT)).close()
    clock.now += 61.0
    broker.sweep()
    assert payloads(await watcher.fence()) == [b"at the end"]


async def test_a_reader_that_stalls_gets_everything_once_it_reads(broker: Broker, join: Join) -> None:
    """Messages beyond what the socket takes wait in the session, and come in order when the client reads."""
    client, publisher = await join("c"), await join("p")
    client.take_little()
    await client.subscribe("t")
    bodies = [bytes([n]) * 1_500_000 for n in range(12)]
    for body in bodies:
        assert await publisher.publish_acked("t", body) == 0
    assert broker.stats.sent < len(bodies)
    got = [await client.expect(mqtt5.PublishPacket) for _ in bodies]
    assert payloads(got) == bodies
