"""The embedded broker under random and mutated bytes: it lives, and so does every other client's session."""

from __future__ import annotations

import asyncio
from typing import Any

import mqtt5
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.doubles.mqtt_broker import Broker, Limits, RawClient

# The codec panics over text that is not UTF-8, and reports that as an unraisable exception as well.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

AT_LEAST_ONCE = mqtt5.QoS.AT_LEAST_ONCE
WILL = mqtt5.Will("w/x", payload=b"hi", qos=AT_LEAST_ONCE, content_type="t", user_properties=[("a", "b")])
CONNECT = mqtt5.ConnectPacket("attacker", clean_start=True, will=WILL, username="u", password=b"p").write()
PACKETS = [
    CONNECT,
    mqtt5.PublishPacket("a/b", b"zero", retain=True, user_properties=[("k", "v")]).write(),
    mqtt5.PublishPacket(
        "a/b",
        b"one",
        qos=AT_LEAST_ONCE,
        packet_id=3,
        payload_format_indicator=1,
        message_expiry_interval=9,
        content_type="text/plain",
        response_topic="r/t",
        correlation_data=b"\x01\x02",
        user_properties=[("k", "v"), ("k", "w")],
    ).write(),
    mqtt5.SubscribePacket(2, [mqtt5.TopicFilter("a/+"), mqtt5.TopicFilter("$share/g/a/#")]).write(),
    mqtt5.UnsubscribePacket(4, ["a/+", "$share/g/a/#"]).write(),
    mqtt5.PubAckPacket(1).write(),
    mqtt5.PingReqPacket().write(),
    mqtt5.AuthPacket(authentication_method="m").write(),
    mqtt5.PubRelPacket(1).write(),
    mqtt5.DisconnectPacket(session_expiry_interval=0).write(),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid packet with a few bytes changed, cut or added."""
    packet = bytearray(draw(st.sampled_from(PACKETS)))
    for _ in range(draw(st.integers(0, 3))):
        packet[draw(st.integers(0, len(packet) - 1))] = draw(st.integers(0, 255))
    if draw(st.integers(0, 4)) == 0:
        packet = packet[: draw(st.integers(1, len(packet)))]
    return bytes(packet)


ATTACKS = st.tuples(
    st.booleans(), st.lists(st.one_of(mutated(), st.binary(min_size=1, max_size=40)), min_size=1, max_size=5)
)


async def survives(accepted: bool, pieces: list[bytes]) -> None:
    """Attack while another client is subscribed to everything; it goes on, and nothing was raised."""
    raised: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    async with Broker(limits=Limits(max_packet_size_bytes=500)) as broker:
        victim = await RawClient.connected(broker.port, "victim", session_expiry_interval=60)
        await victim.subscribe("#", "$share/g/a/#")
        attacker = await RawClient.open(broker.port)
        attacker.send(*([CONNECT] if accepted else []), *pieces)
        await attacker.close()
        await victim.fence()
        victim.publish("still/alive", b"yes", qos=1)
        heard = [await victim.receive(), await victim.receive()]
        assert [p.payload for p in heard if isinstance(p, mqtt5.PublishPacket)] == [b"yes"]
        await victim.close()
        again = await RawClient.open(broker.port)
        assert (await again.connect("victim", clean_start=False)).session_present
        await again.close()
    assert raised == []


@settings(max_examples=200, deadline=None)
@given(ATTACKS)
def test_no_bytes_kill_the_broker_or_another_session(attack: tuple[bool, list[bytes]]) -> None:
    """Before or after an accepted CONNECT, whatever is sent harms the sender only."""
    asyncio.run(survives(*attack))
