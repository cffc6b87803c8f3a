"""The response cache and those who read a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest

from router.domain.events import RequestRejected
from router.domain.outcome import Attempt, Delta
from tests.regressions.house import Reader, cancel, virtually
from tests.unit.cached_house import ANSWER, HELLO, body, house, text


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(("leads", "follows"), [(False, True), (True, False), (True, True)])
def test_streams_and_whole_answers_serve_one_another(leads: bool, follows: bool, at_once: bool) -> None:
    """A stream is put together for who wants the whole; a stream that comes later gets the whole in one piece."""

    async def scene() -> None:
        told, one, two = house(), Reader(), Reader()
        first = told.going("a", payload=body(stream=leads), stream=leads, responder=one if leads else None)
        await asyncio.sleep(0.0)
        if not at_once:
            await first
        second = await told.ask("b", payload=body(stream=follows), stream=follows, responder=two if follows else None)
        made = await first
        assert len(told.backend.calls) == 1
        assert second.receipt.cache == ("joined" if at_once else "hit")
        assert second.usage == made.usage
        if leads:
            assert (len(one.pieces), one.finished) == (3, ["stop"])
        if follows:
            assert (two.begun, two.finished, second.choices) == (["only"], ["stop"], b"[]")
            (piece,) = two.pieces
            assert json.loads(piece)[0]["message"]["content"] == ANSWER
        else:
            assert text(second) == ANSWER

    virtually(scene)


def test_a_stream_goes_out_as_it_comes_to_who_asked_first() -> None:
    """Keeping it delays nothing."""

    async def scene() -> None:
        told, reader = house(), Reader()
        task = told.going("a", payload=HELLO, stream=True, responder=reader)
        await asyncio.sleep(0.25)
        assert len(reader.pieces) == 2
        await task

    virtually(scene)


def test_pieces_that_cannot_be_put_together_are_passed_on_all_the_same() -> None:
    """The stream ends well, and nothing is kept of it."""

    async def scene() -> None:
        async def odd(attempt: Attempt) -> AsyncGenerator[Delta, None]:
            yield Delta(b'["odd"]', 1, "stop")

        told, reader = house(), Reader()
        told.backend.scripts = {"only": odd}
        await told.ask("a", payload=HELLO, stream=True, responder=reader)
        assert reader.pieces == [b'["odd"]']
        told.backend.scripts = {}
        assert text(await told.ask("b", payload=HELLO)) == ANSWER

    virtually(scene)


def test_a_reader_that_goes_while_it_is_given_a_hit_is_told_of() -> None:
    """The answer stays for the next."""

    async def scene() -> None:
        told = house()
        await told.ask("a", payload=HELLO)
        slow = told.going("b", payload=HELLO, stream=True, responder=Reader(piece_s=60.0))
        await asyncio.sleep(1.0)
        await cancel(slow)
        (rejected,) = told.of(RequestRejected)
        assert rejected.code == "client_gone"
        assert text(await told.ask("c", payload=HELLO)) == ANSWER
        assert len(told.backend.calls) == 1

    virtually(scene)
