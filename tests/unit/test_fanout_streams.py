"""A request in parts whose sender reads a stream."""

from __future__ import annotations

import asyncio
import json

import pytest

from router.domain.control.fanout import FanoutEnded
from router.domain.errors import Unreachable
from router.domain.outcome import Delta
from tests.regressions.house import Reader, failing
from tests.unit.fanned_out import house, lines, now, on_virtual_clock, request


@on_virtual_clock
async def test_a_stream_has_each_part_as_soon_as_its_turn_comes() -> None:
    """In order, whichever is ready first; begun at the first answer, the failed ones before it included."""
    home, reader = house(), Reader()
    home.controller.retries.tokens = 0.0
    whole = home.dispatcher.submit(request(["break", "wait 3", "wait 1", "wait 9"], stream=True), reader)
    task = asyncio.ensure_future(whole)
    await asyncio.sleep(3.5)
    assert reader.begun == []
    await asyncio.sleep(1.0)
    assert "part 0 failed" in reader.text()
    assert "<wait 3>" in reader.text()
    assert "<wait 1>" in reader.text()
    assert "<wait 9>" not in reader.text()
    reply = await task
    assert reader.finished == ["stop"]
    assert (reply.choices, len(reader.begun)) == (b"[]", 1)
    texts = [json.loads(piece)[0]["delta"].get("content", "") for piece in reader.pieces]
    assert "".join(texts) == "[part 0 failed: throttled]\n\n<wait 3>\n\n<wait 1>\n\n<wait 9>"


@on_virtual_clock
async def test_with_a_merge_the_merge_alone_is_streamed() -> None:
    """As it is made; it begins with the sums of the parts."""
    home, reader = house(), Reader()
    reply = await home.dispatcher.submit(request(["a", "b"], "Join {{parts[0]}}", stream=True), reader)
    assert reader.begun == [reply.receipt.deployment]
    assert reader.text().count("<") == 2
    assert "<Join <a>>" in reader.text()
    assert [line["message"]["content"] for line in lines(reply)] == ["<a>", "<b>"]


@on_virtual_clock
async def test_a_merge_that_fails_unheard_is_replaced_by_the_parts() -> None:
    """In the stream too."""
    home, reader = house(seconds=1.0), Reader()
    home.controller.retries.tokens = 0.0
    reply = await home.dispatcher.submit(request(["a", "b"], "break", stream=True), reader)
    assert "<a>" in reader.text()
    assert reader.finished == ["stop"]
    assert json.loads(reply.report)["merge"]["status"] == "failed"


@on_virtual_clock
async def test_a_merge_that_breaks_off_breaks_the_stream() -> None:
    """Nothing can be taken back from a reader."""
    home, reader = house(seconds=1.0), Reader()
    home.backend.scripts["large"] = failing(Unreachable("gone"), tokens=2)
    merge = {"content": "Join", "model": "large"}
    with pytest.raises(Unreachable):
        await home.dispatcher.submit(request(["a", "b"], merge, stream=True), reader)
    assert home.only(FanoutEnded).merge == "failed"


@on_virtual_clock
async def test_a_reader_that_leaves_ends_the_parts() -> None:
    """What it raises is what comes out, and nothing goes on unheard."""

    class Gone(Reader):
        async def delta(self, delta: Delta) -> None:
            raise ConnectionResetError("gone")

    home = house()
    with pytest.raises(ConnectionResetError):
        await home.dispatcher.submit(request(["a", "wait 60"], stream=True), Gone())
    assert now() == pytest.approx(4.0, abs=0.1)
    assert home.in_flight() == 0
