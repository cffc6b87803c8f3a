"""The embedded broker's fault switches, and a restart that keeps its sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import mqtt5
import pytest

from router.doubles.mqtt_broker import Broker, Faults, RawClient

Join = Callable[..., Awaitable[RawClient]]
KEPT = {"clean_start": False, "session_expiry_interval": 60}


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with Broker(faults=Faults(seed=1)) as broker:
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


def payloads(packets: Sequence[mqtt5.Packet]) -> list[bytes]:
    return [packet.payload for packet in packets if isinstance(packet, mqtt5.PublishPacket)]


async def publish(publisher: RawClient, *numbers: int) -> list[int]:
    return [await publisher.publish_acked("t", b"%d" % n) for n in numbers]


async def test_drop_next(broker: Broker, join: Join) -> None:
    """The next two vanish although the publisher is told they were taken; even a new connection gets none."""
    client, publisher = await join("c", "t", **KEPT), await join("p")
    broker.faults.drop_next = 2
    assert await publish(publisher, 0, 1, 2) == [0, 0, 0]
    assert payloads(await client.fence()) == [b"2"]
    assert broker.stats.dropped == 2
    await client.close()
    again = await join("c", **KEPT)
    assert payloads(await again.fence()) == [b"2"]


async def test_drop_from_a_group(broker: Broker, join: Join) -> None:
    """A message toward a shared subscription can be dropped too."""
    member, publisher = await join("m", "$share/g/t"), await join("p")
    broker.faults.drop_next = 1
    assert await publish(publisher, 0, 1) == [0, 0]
    assert payloads(await member.fence()) == [b"1"]


async def test_duplicate_next(broker: Broker, join: Join) -> None:
    """The next comes twice, as two messages with ids of their own, for a plain and a shared subscriber."""
    client, member = await join("c", "t"), await join("m", "$share/g/t")
    publisher = await join("p")
    broker.faults.duplicate_next = 2
    await publish(publisher, 0, 1)
    for receiver in (client, member):
        got = await receiver.fence()
        assert payloads(got) == [b"0", b"0", b"1"]
        assert len({p.packet_id for p in got}) == 3
    assert broker.stats.duplicated == 2


async def test_a_duplicate_honours_receive_maximum(broker: Broker, join: Join) -> None:
    """The second copy waits for room like any message."""
    client, publisher = await join("c", "t", receive_max=1), await join("p")
    broker.faults.duplicate_next = 1
    await publish(publisher, 0)
    first = await client.fence()
    assert payloads(first) == [b"0"]
    client.acknowledge(first)
    assert payloads(await client.fence()) == [b"0"]


def fates(seed: int) -> list[int]:
    faults = Faults(drop_ratio=0.2, duplicate_ratio=0.2, seed=seed)
    return [faults.copies() for _ in range(500)]


def test_shares_are_seeded() -> None:
    """The same seed gives the same fates, another seed others, in about the shares asked for."""
    assert fates(7) == fates(7) != fates(8)
    assert 70 < fates(7).count(0) < 130
    assert 50 < fates(7).count(2) < 110


async def test_no_faults_by_default(broker: Broker, join: Join) -> None:
    """Untouched switches change nothing."""
    client, publisher = await join("c", "t"), await join("p")
    await publish(publisher, *range(20))
    assert len(await client.fence()) == 20
    assert (broker.stats.dropped, broker.stats.duplicated, broker.stats.cut) == (0, 0, 0)


async def test_cut_after_publishes(broker: Broker, join: Join) -> None:
    """The connection breaks when the second has left; both come again with DUP, and the third."""
    client, publisher = await join("c", "t", **KEPT), await join("p")
    broker.faults.cut_after_publishes["c"] = 2
    await publish(publisher, 0, 1, 2)
    heard = await client.ended()
    assert payloads(heard) == [b"0", b"1"]
    again = await join("c", **KEPT)
    got = await again.fence()
    assert payloads(got) == [b"0", b"1", b"2"]
    assert [p.duplicate for p in got] == [True, True, False]
    assert broker.stats.cut == 1


async def test_cut_after_packets_loses_the_answer(broker: Broker, join: Join) -> None:
    """The publish was routed, its PUBACK never leaves: the publisher has to send it again."""
    client, publisher = await join("c", "t"), await join("p")
    broker.faults.cut_after_packets["p"] = 2
    assert await publish(publisher, 0) == [0]
    publisher.publish("t", b"1", qos=1)
    assert await publisher.ended() == []
    assert payloads(await client.fence()) == [b"0", b"1"]


async def test_delay_keeps_the_order(broker: Broker, join: Join) -> None:
    """Delayed publishes leave later but in order, also when the delay is taken away in between."""
    client, publisher = await join("c", "t"), await join("p")
    broker.faults.delay_s = 0.05
    await publish(publisher, 0, 1)
    broker.faults.delay_s = 0.0
    await publish(publisher, 2)
    got = [await client.expect(mqtt5.PublishPacket) for _ in range(3)]
    assert payloads(got) == [b"0", b"1", b"2"]


async def test_what_was_delayed_survives_its_connection(broker: Broker, join: Join) -> None:
    """A message held back when the connection breaks is delivered on the next one."""
    client, publisher = await join("c", "t", **KEPT), await join("p")
    broker.faults.delay_s = 3600.0
    await publish(publisher, 0)
    assert await client.fence() == []
    await client.close()
    broker.faults.delay_s = 0.0
    again = await join("c", **KEPT)
    assert payloads(await again.fence()) == [b"0"]


async def test_refused_connections(broker: Broker, join: Join) -> None:
    """CONNECT hears 0x88 while the switch is on; those connected stay, and a session is not touched."""
    client = await join("c")
    broker.faults.refuse_connections = True
    refused = await RawClient.open(broker.port)
    assert int((await refused.connect("c")).reason_code) == 0x88
    await refused.close()
    assert await client.fence() == []
    broker.faults.refuse_connections = False
    await join("d")
    assert broker.stats.refused == 1


async def test_a_restart_keeps_the_sessions(broker: Broker, join: Join) -> None:
    """Same port, same state: subscriptions, what was in flight (DUP) and what waited, retained messages."""
    client = await join("c", "t", "$share/g/work", **KEPT)
    publisher = await join("p")
    await publisher.publish_acked("kept", b"kept", retain=True)
    await publish(publisher, 0)
    await publisher.publish_acked("work", b"job")
    await client.fence()
    port = broker.port
    await broker.stop(keep_sessions=True)
    await client.ended()
    with pytest.raises(ConnectionRefusedError):
        await RawClient.open(port)
    await broker.start()
    assert broker.port == port
    again = await join("c", **KEPT)
    got = await again.fence()
    assert payloads(got) == [b"0", b"job"]
    assert all(p.duplicate for p in got)
    await publish(await join("p2"), 1)
    assert payloads(await again.fence()) == [b"1"]
    await again.subscribe("kept")
    assert payloads(await again.fence()) == [b"kept"]
