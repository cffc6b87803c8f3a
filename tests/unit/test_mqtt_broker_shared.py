"""The embedded broker's shared subscriptions: turns, room, waiting, and redelivery when a member is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import mqtt5
import pytest

from router.doubles.mqtt_broker import Broker, Limits, RawClient

Join = Callable[..., Awaitable[RawClient]]
KEPT = {"clean_start": False, "session_expiry_interval": 60}
SHARED = "$share/routers/requests/#"


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

    async def connected(client_id: str, *filters: str, **options: object) -> RawClient:
        client = await RawClient.connected(broker.port, client_id, **options)
        clients.append(client)
        if filters:
            await client.subscribe(*filters)
        return client

    yield connected
    for client in clients:
        await client.close()


def payloads(packets: Sequence[mqtt5.PublishPacket]) -> list[bytes]:
    return [packet.payload for packet in packets]


async def publish(publisher: RawClient, *numbers: int, **options: object) -> list[int]:
    return [await publisher.publish_acked("requests/x", b"%d" % n, **options) for n in numbers]


async def test_members_take_turns(join: Join) -> None:
    """Each message goes to one member, round robin; another group and a plain subscriber get every message."""
    one, two = await join("1", SHARED), await join("2", SHARED)
    other, plain = await join("3", "$share/audit/requests/#"), await join("4", "requests/#")
    await publish(await join("p"), 0, 1, 2, 3)
    assert payloads(await one.fence()) == [b"0", b"2"]
    assert payloads(await two.fence()) == [b"1", b"3"]
    assert payloads(await other.fence()) == [b"0", b"1", b"2", b"3"]
    assert payloads(await plain.fence()) == [b"0", b"1", b"2", b"3"]


async def test_a_member_without_room_is_passed_over(join: Join) -> None:
    """A slow member gets no more than its Receive Maximum; the others take the rest."""
    slow, fast = await join("1", SHARED, receive_max=1), await join("2", SHARED)
    await publish(await join("p"), 0, 1, 2, 3, 4)
    assert payloads(await slow.fence()) == [b"0"]
    assert payloads(await fast.fence()) == [b"1", b"2", b"3", b"4"]


async def test_without_room_messages_wait_for_whoever_is_free_first(join: Join) -> None:
    """What waits belongs to the group, not to a member."""
    one = await join("1", SHARED, receive_max=1)
    two = await join("2", SHARED, receive_max=1)
    await publish(await join("p"), 0, 1, 2, 3)
    await one.fence()
    busy = await two.fence()
    two.acknowledge(busy)
    more = await two.fence()
    two.acknowledge(more)
    assert payloads(more) == [b"2"]
    assert payloads(await two.fence()) == [b"3"]
    assert await one.fence() == []


@pytest.mark.parametrize("expiry_s", [0, 60])
async def test_a_lost_members_messages_go_to_another(join: Join, expiry_s: int) -> None:
    """Whether its session ends or lives on, what it had not acknowledged is redelivered, with DUP, in order."""
    lost = await join("1", SHARED, clean_start=False, session_expiry_interval=expiry_s)
    await publish(await join("p"), 0, 1, 2)
    lost.acknowledge((await lost.fence())[:1])
    await lost.fence()
    other = await join("2", SHARED)
    assert await other.fence() == []
    await lost.close()
    got = await other.fence()
    assert payloads(got) == [b"1", b"2"]
    assert [p.duplicate for p in got] == [True, True]


async def test_a_member_with_qos_0_takes_over_without_dup(join: Join) -> None:
    """DUP says nothing on QoS 0 and must not be set there."""
    lost, other = await join("1", SHARED), await join("2")
    await publish(await join("p"), 0)
    await lost.fence()
    await other.subscribe(SHARED, qos=0)
    await lost.close()
    assert [(p.payload, int(p.qos), p.duplicate) for p in await other.fence()] == [(b"0", 0, False)]


async def test_a_returning_member_is_not_sent_what_another_took(join: Join) -> None:
    """The message that went to another member is not delivered twice."""
    lost, other = await join("1", SHARED, **KEPT), await join("2", SHARED)
    await publish(await join("p"), 0)
    await lost.fence()
    await lost.close()
    other.acknowledge(await other.fence())
    again = await join("1", **KEPT)
    assert await again.fence() == []


async def test_the_only_member_gets_its_messages_back(join: Join) -> None:
    """With nobody else it resumes as any client does: unacknowledged with DUP and the same id, then the rest."""
    only = await join("1", SHARED, receive_max=2, **KEPT)
    publisher = await join("p")
    await publish(publisher, 0, 1, 2)
    before = await only.fence()
    await only.close()
    assert await publish(publisher, 3) == [0x00]
    again = await join("1", **KEPT)
    after = await again.fence()
    assert payloads(after) == [b"0", b"1", b"2", b"3"]
    assert [p.duplicate for p in after] == [True, True, False, False]
    assert [p.packet_id for p in after[:2]] == [p.packet_id for p in before]


async def test_a_new_member_takes_over_what_an_absent_one_left(join: Join) -> None:
    """What an absent member had in flight, and what waits for the group, goes to the first that comes."""
    only, publisher = await join("1", SHARED, receive_max=1, **KEPT), await join("p")
    await publish(publisher, 0, 1)
    await only.fence()
    await only.close()
    await publish(publisher, 2)
    helper = await join("2", SHARED)
    got = await helper.fence()
    assert payloads(got) == [b"0", b"1", b"2"]
    assert [p.duplicate for p in got] == [True, False, False]


async def test_the_first_member_back_gets_what_the_others_left(join: Join) -> None:
    """Two members lost with messages in flight: the one that returns gets its own and the other's."""
    one, two = await join("1", SHARED, **KEPT), await join("2", SHARED, **KEPT)
    publisher = await join("p")
    await publish(publisher, 0, 1)
    await one.fence()
    await one.close()
    assert payloads(await two.fence()) == [b"1", b"0"]
    await two.close()
    await publish(publisher, 2)
    again = await join("1", **KEPT)
    assert payloads(await again.fence()) == [b"1", b"0", b"2"]


async def test_messages_wait_while_a_member_session_lives(broker: Broker, clock: Clock, join: Join) -> None:
    """QoS 1 waits for the group until its last session ends; then nobody matches any more."""
    member, publisher = await join("1", SHARED, **KEPT), await join("p")
    await member.close()
    assert await publish(publisher, 0) == [0x00]
    clock.now += 61.0
    broker.sweep()
    assert await publish(publisher, 1) == [0x10]
    late = await join("2", SHARED)
    assert await late.fence() == []


async def test_a_session_that_ends_later_hands_its_messages_on(broker: Broker, clock: Clock, join: Join) -> None:
    """Two absent members: when the session of one expires, the other gets its messages on return."""
    short = await join("1", SHARED, clean_start=False, session_expiry_interval=10)
    other, publisher = await join("2", SHARED, receive_max=1, **KEPT), await join("p")
    await publish(publisher, 0, 1, 2)
    assert payloads(await short.fence()) == [b"0", b"2"]
    await other.fence()
    await other.close()
    await short.fence()
    await short.close()
    clock.now += 11.0
    broker.sweep()
    again = await join("2", **KEPT)
    assert sorted(payloads(await again.fence())) == [b"0", b"1", b"2"]


async def test_qos_0_does_not_wait_for_absent_members(join: Join) -> None:
    """With nobody connected a QoS 0 message is gone, and so is QoS 1 for members that asked for QoS 0."""
    member, publisher = await join("1", SHARED, **KEPT), await join("p")
    await member.close()
    publisher.publish("requests/x", b"zero")
    await publisher.fence()
    again = await join("1", **KEPT)
    assert await again.fence() == []
    await again.subscribe(SHARED, qos=0)
    await again.close()
    await publish(publisher, 1)
    third = await join("1", **KEPT)
    assert await third.fence() == []


async def test_a_full_group_refuses(broker: Broker, join: Join) -> None:
    """Beyond the bound on what waits the publisher hears 0x97."""
    member, publisher = await join("1", SHARED, **KEPT), await join("p")
    await member.close()
    assert await publish(publisher, *range(11)) == [0x00] * 10 + [0x97]
    assert broker.stats.lost_full == 1


async def test_what_expires_while_it_waits_is_not_delivered(clock: Clock, join: Join) -> None:
    """An expired request never reaches a member; the interval of the others is less the time waited."""
    member, publisher = await join("1", SHARED, **KEPT), await join("p")
    await member.close()
    publisher.publish("requests/x", b"short", qos=1, message_expiry_interval=5)
    publisher.publish("requests/x", b"long", qos=1, message_expiry_interval=50)
    await publisher.expect(mqtt5.PubAckPacket)
    await publisher.expect(mqtt5.PubAckPacket)
    clock.now += 6.0
    again = await join("1", **KEPT)
    assert [(p.payload, p.message_expiry_interval) for p in await again.fence()] == [(b"long", 44)]


async def test_unsubscribing_leaves_the_group(join: Join) -> None:
    """New messages go to the others; what it has in flight it may still acknowledge."""
    leaver, stayer = await join("1", SHARED), await join("2", SHARED)
    publisher = await join("p")
    await publish(publisher, 0, 1)
    assert payloads(await leaver.fence()) == [b"0"]
    assert await leaver.unsubscribe(SHARED, SHARED) == [0x00, 0x11]
    await publish(publisher, 2, 3)
    assert await leaver.fence() == []
    assert payloads(await stayer.fence()) == [b"1", b"2", b"3"]
    await stayer.unsubscribe(SHARED)
    assert await publish(publisher, 4) == [0x10]


async def test_a_member_in_two_groups_serves_both(join: Join) -> None:
    """Room that an acknowledgement makes is offered to every group of the member."""
    member = await join("1", SHARED, "$share/b/batches", receive_max=1)
    publisher = await join("p")
    await publish(publisher, 0)
    await publisher.publish_acked("batches", b"b")
    first = await member.fence()
    assert payloads(first) == [b"0"]
    member.acknowledge(first)
    assert payloads(await member.fence()) == [b"b"]


async def test_shared_grants_carry_their_own_options(join: Join) -> None:
    """QoS and subscription identifier are those of the member that gets the message."""
    one, two = await join("1"), await join("2")
    await one.subscribe(SHARED, identifier=11, qos=0)
    await two.subscribe(SHARED, identifier=22, qos=1)
    await publish(await join("p"), 0, 1)
    (first,), (second,) = await one.fence(), await two.fence()
    assert (int(first.qos), first.subscription_ids) == (0, [11])
    assert (int(second.qos), second.subscription_ids) == (1, [22])


async def test_nothing_is_lost_while_members_come_and_go(join: Join) -> None:
    """Members that die with messages in flight, one after another: every message is acknowledged by somebody."""
    publisher = await join("p")
    keeper = await join("keeper", SHARED, receive_max=1, **KEPT)
    await keeper.close()
    done: set[bytes] = set()
    for turn in range(5):
        await publish(publisher, 2 * turn, 2 * turn + 1)
        mortal = await join(f"mortal-{turn}", SHARED, receive_max=3)
        taken = (await mortal.fence())[:1]
        mortal.acknowledge(taken)
        done.update(payloads(taken))
        await mortal.fence()
        await mortal.close()
    last = await join("last", SHARED)
    done.update(payloads(await last.fence()))
    assert done == {b"%d" % n for n in range(10)}
