"""Server-sent events, however the network cuts them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.domain.errors import ProtocolError
from router.wire import sse

lines = st.binary(max_size=12).filter(lambda line: b"\n" not in line and b"\r" not in line)


def decode(stream: bytes, cuts: list[int]) -> list[bytes]:
    """Feed the stream in pieces that end at the cuts."""
    decoder = sse.Decoder()
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [data for start, end in pairwise(edges) for data in decoder.feed(stream[start:end])]


@settings(deadline=None)
@given(st.lists(lines), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.integers(0, 1000), max_size=6))
def test_events_come_out_as_they_went_in(events: list[bytes], end: bytes, cuts: list[int]) -> None:
    """Any sequence of events survives any line end and any cut."""
    stream = b"".join(b"data: " + data + end + end for data in events)
    assert decode(stream, cuts) == events


@settings(deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 1000), max_size=6))
def test_cuts_change_nothing(stream: bytes, cuts: list[int]) -> None:
    """Whatever the bytes, the events are the same in one piece and in many."""
    assert decode(stream, cuts) == decode(stream, [])


@settings(deadline=None)
@given(st.lists(lines, min_size=1))
def test_encoded_data_decodes_to_itself(data: list[bytes]) -> None:
    """White space between tokens may hold line ends: they come back as line feeds."""
    assert decode(sse.encode(b"\n".join(data)), []) == [b"\n".join(data)]
    assert decode(sse.encode(b"\r\n".join(data)), []) == [b"\n".join(data)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b": comment\n\nevent: x\ndata: a\nid: 1\nretry: 5\n\n", [b"a"]),
        (b"data:a\n\ndata\n\ndata:  b\n\n", [b"a", b"", b" b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: unfinished\n", []),
        (b"\n\n\n", []),
        (b"dataset: x\n\n", []),
    ],
)
def test_event_stream_format(stream: bytes, events: list[bytes]) -> None:
    """Comments and other fields are dropped, data lines join, a byte order mark and an unfinished event go."""
    assert decode(stream, []) == events
    assert decode(stream, list(range(len(stream)))) == events


@pytest.mark.parametrize("line", [b"data: xyz\n", b"x"])
def test_event_without_end_is_cut_off(line: bytes) -> None:
    """An event over the limit is a ProtocolError, not a growing buffer."""
    decoder = sse.Decoder(limit_bytes=100)
    for _ in range(100 // len(line)):
        assert decoder.feed(line) == []
    with pytest.raises(ProtocolError):
        decoder.feed(line * 100)
