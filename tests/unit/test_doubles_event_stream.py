"""`router.doubles.event_stream`: frames that the SDK's own decoder reads."""

from __future__ import annotations

import pytest
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from router.doubles.event_stream import event, exception, frame

NAMES = st.text(min_size=1, max_size=20)


@given(headers=st.dictionaries(NAMES, st.text(max_size=40), max_size=4), payload=st.binary(max_size=200))
def test_frames_decode(headers: dict[str, str], payload: bytes) -> None:
    """Any headers and payload come back out of botocore's decoder, checksums included."""
    buffer = EventStreamBuffer()
    buffer.add_data(frame(headers, payload))
    (message,) = list(buffer)
    assert (message.headers, message.payload) == (headers, payload)


@given(cut=st.integers(0, 60))
def test_frames_follow_each_other(cut: int) -> None:
    """Frames in a row are told apart, wherever the bytes are cut."""
    data = event("a", {"x": 1}) + exception("throttlingException", "slow down")
    buffer = EventStreamBuffer()
    messages = []
    for piece in (data[:cut], data[cut:]):
        buffer.add_data(piece)
        messages.extend(buffer)
    assert [message.to_response_dict()["status_code"] for message in messages] == [200, 400]
    assert messages[1].headers[":exception-type"] == "throttlingException"


@pytest.mark.parametrize("at", [0, 9, 15, -5, -1])
def test_damage_is_seen(at: int) -> None:
    """A frame with one byte changed, in prelude, headers, payload or checksum, is refused."""
    data = bytearray(event("a", {"x": 1}))
    data[at] ^= 1
    buffer = EventStreamBuffer()
    buffer.add_data(bytes(data))
    with pytest.raises(ChecksumMismatch):
        list(buffer)
