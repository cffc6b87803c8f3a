"""Trace context: what the W3C form allows is read, what it does not is ignored."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.trace import new_trace, read_trace

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE_ID}-{PARENT_ID}-01"


def test_a_header_is_read_and_written_back() -> None:
    """Reading and writing are inverse."""
    trace = read_trace(HEADER)
    assert trace is not None
    assert (trace.trace_id, trace.parent_id, trace.flags) == (TRACE_ID, PARENT_ID, 1)
    assert trace.header == HEADER


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        f"ff-{TRACE_ID}-{PARENT_ID}-01",
        f"00-{'0' * 32}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID.upper()}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{PARENT_ID}-01-more",
        HEADER + "\n",
        HEADER[:-1],
    ],
)
def test_what_is_not_valid_is_no_trace(header: str | None) -> None:
    """Zeros, version ff, upper case, a wrong length, and more fields in version 00 are refused."""
    assert read_trace(header) is None


def test_a_later_version_may_say_more() -> None:
    """Fields that a later version appends are ignored."""
    trace = read_trace(f"01-{TRACE_ID}-{PARENT_ID}-00-more")
    assert trace is not None
    assert trace.flags == 0


def test_a_child_keeps_the_trace_and_has_its_own_id() -> None:
    """What goes on to a backend is in the same trace under a new parent."""
    trace = read_trace(HEADER)
    assert trace is not None
    child = trace.child(Random(1))
    assert (child.trace_id, child.flags) == (TRACE_ID, 1)
    assert child.parent_id != PARENT_ID


@given(st.integers(min_value=0))
def test_made_traces_are_valid(seed: int) -> None:
    """A trace begun here can be read by anyone."""
    trace = new_trace(Random(seed))
    assert read_trace(trace.header) == trace


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    """A header comes from strangers."""
    trace = read_trace(text)
    assert trace is None or text.startswith(f"00-{trace.trace_id}") or text[:2] != "00"
