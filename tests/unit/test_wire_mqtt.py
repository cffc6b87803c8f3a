"""MQTT bytes and user properties to fields and back."""

from __future__ import annotations

import contextlib

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from router.domain.errors import Rejected, RequestError
from router.domain.outcome import Receipt
from router.wire.mqtt import (
    PROPERTIES_BYTES,
    TOPIC_BYTES,
    Fields,
    clean,
    content_id,
    dead_letter_properties,
    error_properties,
    piece_properties,
    read_feedback,
    read_fields,
    reply_properties,
    request_problem,
    topic_problem,
)
from router.wire.mqtt_packet import Publish, pack_properties, read_publish, write_puback, write_publish

RECEIPT = Receipt("d-1", "small-a", "llama", "abc", attempts=2, cost_usd=0.00125, overhead_s=0.0004)


def body_of(packet: bytes) -> tuple[int, bytes]:
    """Fixed header byte and what follows the length."""
    at = 1
    while packet[at] & 0x80:
        at += 1
    return packet[0], packet[at + 1 :]


def publish(topic: bytes = b"t", properties: bytes = b"", payload: bytes = b"x") -> tuple[int, bytes]:
    """A PUBLISH at QoS 1 with packet id 7 and these property bytes."""
    size = bytes([len(properties)])
    return 0x32, len(topic).to_bytes(2, "big") + topic + b"\x00\x07" + size + properties + payload


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")), max_size=30)
TOPIC = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn"), exclude_characters="+#$"), min_size=1)


@given(
    topic=TOPIC,
    response=TOPIC,
    data=st.binary(max_size=20) | st.none(),
    expiry=st.integers(0, 2**32 - 1) | st.none(),
    properties=st.lists(st.tuples(TEXT, TEXT), max_size=5),
    payload=st.binary(max_size=300),
    packet_id=st.integers(1, 65535),
)
def test_a_publish_of_another_codec_is_read_whole(
    topic: str,
    response: str,
    data: bytes | None,
    expiry: int | None,
    properties: list[tuple[str, str]],
    payload: bytes,
    packet_id: int,
) -> None:
    """Whatever a correct sender puts into the properties comes out."""
    packet = mqtt5.PublishPacket(
        topic,
        payload,
        qos=mqtt5.QoS.AT_LEAST_ONCE,
        packet_id=packet_id,
        duplicate=True,
        payload_format_indicator=1,
        content_type="application/json",
        message_expiry_interval=expiry,
        response_topic=response,
        correlation_data=data,
        subscription_ids=[300],
        user_properties=properties,
    )
    assert read_publish(*body_of(packet.write())) == Publish(
        topic=topic,
        payload=payload,
        mid=packet_id,
        qos=1,
        is_redelivered=True,
        response_topic=response,
        correlation_data=data,
        expiry_s=expiry,
        properties=tuple(properties),
    )


@given(
    topic=TOPIC,
    data=st.binary(max_size=20) | st.none(),
    properties=st.lists(st.tuples(TEXT, TEXT), max_size=12),
    payload=st.binary(max_size=3000),
)
def test_what_is_written_is_read_by_another_codec(
    topic: str, data: bytes | None, properties: list[tuple[str, str]], payload: bytes
) -> None:
    """Topic, correlation data, user properties, content type and payload, byte for byte."""
    section = pack_properties("application/json", data, tuple(properties))
    packet, size = mqtt5.read(write_publish(topic, 9, section, payload))
    assert size == len(write_publish(topic, 9, section, payload))
    assert (packet.topic, packet.payload, packet.packet_id) == (topic, payload, 9)
    assert (packet.correlation_data, list(packet.user_properties)) == (data, properties)
    assert (packet.content_type, int(packet.payload_format_indicator)) == ("application/json", 1)


def test_property_bytes_are_those_of_the_client_library() -> None:
    """The section is what paho writes for the same fields."""
    theirs = Properties(PacketTypes.PUBLISH)
    theirs.PayloadFormatIndicator = 1
    theirs.ContentType = "text/plain"
    theirs.CorrelationData = b"\x00\x01"
    theirs.UserProperty = [("a", "ü" * 100), ("b", "")]
    ours = pack_properties("text/plain", b"\x00\x01", (("a", "ü" * 100), ("b", "")))
    assert ours == bytes(theirs.pack())


def test_a_puback_is_read_by_another_codec() -> None:
    """With its packet id and success."""
    packet, _ = mqtt5.read(write_puback(513))
    assert (packet.packet_id, int(packet.reason_code)) == (513, 0)


def test_invalid_utf8_costs_only_what_it_stands_in() -> None:
    """The message is read, the problem is said, and the way back to the sender is left."""
    bad_user = b"\x26\x00\x02\xff\xfe\x00\x01v" + b"\x08\x00\x02rt" + b"\x09\x00\x01c"
    message = read_publish(*publish(properties=bad_user))
    assert message.problem == "invalid UTF-8 in a user property"
    assert (message.response_topic, message.correlation_data) == ("rt", b"c")
    assert (message.mid, message.payload) == (7, b"x")


def test_invalid_utf8_in_a_topic_does_not_become_a_topic() -> None:
    """A response topic that cannot be read is none; the request's own is shown with replacements."""
    message = read_publish(*publish(topic=b"a\xff", properties=b"\x08\x00\x02\xff\xff"))
    assert message.topic == "a\ufffd"
    assert topic_problem(message.response_topic) is not None
    assert message.problem is not None


@pytest.mark.parametrize("properties", [b"\x7f", b"\x26\x00\x50a", b"\x02\x00", b"\x0b\xff\xff\xff\xff\x01"])
def test_malformed_properties_leave_the_packet_id(properties: bytes) -> None:
    """So that the message can be acknowledged and does not come back for ever."""
    message = read_publish(*publish(properties=properties))
    assert message.mid == 7
    assert message.problem is not None
    assert "malformed" in message.problem


@given(header=st.sampled_from((0x30, 0x32, 0x3A)), body=st.binary(max_size=60))
def test_no_bytes_do_more_than_raise_value_error(header: int, body: bytes) -> None:
    """Any body is read, or refused by `ValueError`."""
    with contextlib.suppress(ValueError):
        read_publish(header, body)


def test_user_properties_become_fields() -> None:
    """Known ones by name, the others as attributes, the first of a repeated one."""
    fields = read_fields(
        (
            ("request-id", "r1"),
            ("class", "chat"),
            ("use_case", "support"),
            ("tenant", "acme"),
            ("priority", "-3"),
            ("request-id", "r2"),
            ("traceparent", "00-1-2-01"),
        )
    )
    assert fields == Fields("r1", "acme", "chat", -3, "00-1-2-01", (("use_case", "support"),))


def test_silent_properties_mean_the_defaults() -> None:
    """An empty value is as none."""
    assert read_fields(()) == read_fields((("request-id", ""), ("tenant", ""))) == Fields()


@pytest.mark.parametrize(
    ("properties", "param"),
    [
        ((("priority", "high"),), "priority"),
        ((("priority", "١"),), "priority"),
        ((("priority", "99999"),), "priority"),
        ((("request-id", "x" * 257),), "request-id"),
        (tuple((f"a{n}", "") for n in range(65)), None),
        ((("a", "x" * (PROPERTIES_BYTES + 1)),), None),
    ],
)
def test_wrong_properties_are_named(properties: tuple[tuple[str, str], ...], param: str | None) -> None:
    """The sender learns which one."""
    with pytest.raises(RequestError) as caught:
        read_fields(properties)
    assert (caught.value.code, caught.value.param) == ("invalid_request", param)


def test_the_content_id_depends_on_all_that_makes_a_request() -> None:
    """Equal for equal content; another topic, response topic, correlation data or payload makes another id."""
    base = Publish("t", b"p", response_topic="r", correlation_data=b"c")
    others = (
        Publish("t2", b"p", response_topic="r", correlation_data=b"c"),
        Publish("t", b"p2", response_topic="r", correlation_data=b"c"),
        Publish("t", b"p", response_topic="r2", correlation_data=b"c"),
        Publish("t", b"p", response_topic="r", correlation_data=b"c2"),
        Publish("t", b"p", response_topic="rc"),
    )
    same = Publish("t", b"p", mid=9, is_redelivered=True, response_topic="r", correlation_data=b"c")
    assert content_id(base) == content_id(same)
    assert len({content_id(message) for message in (base, *others)}) == 1 + len(others)


@pytest.mark.parametrize("topic", [None, "", "a/+/b", "a/#", "a\x00", "a\x07", "x" * (TOPIC_BYTES + 1), "a\ufdd0"])
def test_topics_that_cannot_be_answered_to(topic: str | None) -> None:
    """Publishing to one would end the connection, or nothing would come of it."""
    assert topic_problem(topic) is not None


@pytest.mark.parametrize("topic", ["a", "replies/client 1/ä", "$weird", "/"])
def test_topics_that_can_be_answered_to(topic: str) -> None:
    """Everything else that MQTT allows."""
    assert topic_problem(topic) is None


def test_a_message_is_measured_before_it_is_parsed() -> None:
    """Undecodable, oversized topic, oversized body: each with its own code or text."""
    large = request_problem(Publish("t", b"x" * 11), 10)
    assert large is not None
    assert large.code == "body_too_large"
    assert request_problem(Publish("x" * (TOPIC_BYTES + 1), b""), 10) is not None
    assert request_problem(Publish("t", b"", problem="invalid UTF-8"), 10) is not None
    assert request_problem(Publish("t", b"x" * 10), 10) is None


def test_a_reply_says_how_it_was_made() -> None:
    """The receipt's fields under `router-`, and the id that was asked for."""
    fields = dict(reply_properties("r1", RECEIPT))
    assert fields["request-id"] == "r1"
    assert fields["router-decision-id"] == "d-1"
    assert {"router-deployment", "router-model", "router-cost-usd", "router-attempts", "router-policy"} <= set(fields)
    assert fields["router-attempts"] == "2"
    opening = dict(reply_properties("r1", RECEIPT, is_opening=True))
    assert set(fields) - set(opening) == {"router-cost-usd"}


def test_no_reply_carries_characters_that_end_a_connection() -> None:
    """Control characters in an id or a reason are replaced, the rest is as it was."""
    assert dict(reply_properties("a\x01b", RECEIPT))["request-id"] == "a\ufffdb"
    assert clean("tab\there ü 漢 \ufeff") == "tab\ufffdhere ü 漢 \ufeff"
    assert clean("\ud800\ufffe\x85") == "\ufffd" * 3


def test_an_error_reply_names_its_code_and_when_to_retry() -> None:
    """Without an id it names none."""
    assert error_properties("r", Rejected("full", retry_after_s=0.25)) == (
        ("request-id", "r"),
        ("router-code", "overloaded"),
        ("router-retry-after-s", "0.250"),
    )
    assert error_properties(None, RequestError("x")) == (("router-code", "invalid_request"),)


def test_pieces_of_a_stream_are_numbered() -> None:
    """And a restarted stream says so on each."""
    assert piece_properties(3, is_final=False, is_restarted=False) == (("seq", "3"), ("final", "false"))
    assert dict(piece_properties(0, is_final=True, is_restarted=True))["router-restarted"] == "true"


def test_a_dead_letter_says_why_and_stays_small() -> None:
    """Reason, code, origin, and the message's own properties cut to size."""
    message = Publish("t" * 5000, b"", properties=(("request-id", "x" * 1000),) * 100)
    fields = dead_letter_properties(message, RequestError("bad\nbody " * 100, code="invalid_json"))
    assert dict(fields[:2])["code"] == "invalid_json"
    assert sum(len(name) + len(value) for name, value in fields) < 20_000
    assert all(clean(value) == value for _, value in fields)


def test_feedback_is_read() -> None:
    """An id and a quality in [0,1]; 0 and 1 may be integers."""
    feedback = read_feedback(b'{"decision_id":"d","quality":1,"more":true}')
    assert (feedback.decision_id, feedback.quality) == ("d", 1.0)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'{"decision_id":"d"}',
        b'{"decision_id":"d","quality":1.5}',
        b'{"decision_id":"d","quality":NaN}',
        b'{"decision_id":"d","quality":"1"}',
        b'{"decision_id":"","quality":1}',
        b'{"decision_id":7,"quality":1}',
        b"[" * 100_000,
    ],
)
def test_malformed_feedback_is_refused(payload: bytes) -> None:
    """Nothing is guessed."""
    with pytest.raises(RequestError):
        read_feedback(payload)
