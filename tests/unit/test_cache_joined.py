"""Those who ask the same at once: one call is made, and nobody is lost with whoever made it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from msgspec.structs import replace

from router.domain.errors import Expired, RouterError, Unreachable
from router.domain.events import CACHE, Event, RequestEnded, RequestRejected
from router.domain.outcome import Attempt, Delta, Reply
from tests.regressions.house import House, cancel, code_of, failing, failing_once, virtually
from tests.unit.cached_house import ANSWER, CACHED, HELLO, ONLY, ending, house, text, used


def test_thirty_two_who_ask_at_once_make_one_call() -> None:
    """All get the answer when it is there; one was asked, the others joined."""

    async def scene() -> None:
        told = house()
        replies = await asyncio.gather(*(told.ask(f"r{i}", payload=HELLO) for i in range(32)))
        assert asyncio.get_running_loop().time() == pytest.approx(0.3)
        assert {text(reply) for reply in replies} == {ANSWER}
        assert len(told.backend.calls) == 1
        assert sorted(used(told)) == ["joined"] * 31 + ["miss"]
        joined = replies[-1].receipt
        assert joined.cache == "joined"
        assert (joined.cost_usd, joined.queue_s, joined.overhead_s) == pytest.approx((0.0, 0.3, 0.0))
        assert {e.deployment for e in told.of(RequestEnded)} == {"only", CACHE}
        assert told.dispatcher.in_flight == 0

    virtually(scene)


def test_where_the_leader_fails_the_next_makes_the_call() -> None:
    """One call more, not one for each who waits; only the leader fails."""

    async def scene() -> None:
        told = house(replace(CACHED, max_retries=0))
        told.backend.scripts = {"only": failing_once(Unreachable("gone"))}
        tasks = [told.going(f"r{i}", payload=HELLO) for i in range(32)]
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [code_of(task) for task in tasks] == ["unreachable"] + ["ok"] * 31
        assert len(told.backend.calls) == 2
        assert used(told).count("joined") == 30

    virtually(scene)


def test_where_every_call_fails_everybody_is_told_in_turn() -> None:
    """Nobody waits for ever, and never is more than one call under way."""

    async def scene() -> None:
        told = house(replace(CACHED, max_retries=0))
        most = 0

        async def counted(attempt: Attempt) -> AsyncGenerator[Delta, None]:
            nonlocal most
            most = max(most, told.backend.open_now)
            async for delta in failing(Unreachable("gone"), after_s=0.1)(attempt):
                yield delta

        told.backend.scripts = {"only": counted}
        outcomes = await asyncio.gather(*(told.attempt(f"r{i}", payload=HELLO) for i in range(3)))
        assert all(isinstance(outcome, RouterError) for outcome in outcomes)
        assert most == 1
        assert told.dispatcher.in_flight == 0

    virtually(scene)


def test_where_the_leader_hangs_up_the_next_makes_the_call() -> None:
    """Its own call is closed at once."""

    async def scene() -> None:
        told = house()
        leader = told.going("leader", payload=HELLO)
        followers = [told.going(f"r{i}", payload=HELLO) for i in range(3)]
        await asyncio.sleep(0.15)
        await cancel(leader)
        replies = await asyncio.gather(*followers)
        assert {text(reply) for reply in replies} == {ANSWER}
        assert len(told.backend.calls) == 2
        assert asyncio.get_running_loop().time() == pytest.approx(0.45)
        assert [e.code for e in told.of(RequestEnded) if e.code] == ["client_gone"]

    virtually(scene)


def test_a_follower_that_hangs_up_disturbs_nobody() -> None:
    """It is told of as gone; the others are answered by the one call."""

    async def scene() -> None:
        told = house()
        leader, gone, last = (told.going(name, payload=HELLO) for name in ("a", "b", "c"))
        await asyncio.sleep(0.1)
        await cancel(gone)
        assert text(await leader) == text(await last) == ANSWER
        assert len(told.backend.calls) == 1
        (rejected,) = told.of(RequestRejected)
        assert (rejected.code, rejected.stage) == ("client_gone", "queue")

    virtually(scene)


class Doomed(House):
    """A house where `heir` hangs up in the very moment in which the leader is told to have gone."""

    heir: asyncio.Task[Reply] | None = None

    def emit(self, event: Event) -> None:
        super().emit(event)
        if isinstance(event, RequestEnded) and event.code and self.heir is not None:
            self.heir.cancel()


@pytest.mark.parametrize("others", [0, 1, 3])
def test_a_turn_is_not_lost_with_the_follower_that_had_it(others: int) -> None:
    """A follower that hangs up between being told to lead and leading passes the turn on; so does the last of all."""

    async def scene() -> None:
        told = Doomed(CACHED, deployments=ONLY)
        leader = told.going("leader", payload=HELLO)
        told.heir = told.going("heir", payload=HELLO)
        rest = [told.going(f"r{i}", payload=HELLO) for i in range(others)]
        await asyncio.sleep(0.1)
        await cancel(leader)
        replies = await asyncio.gather(*rest, told.ask("new", payload=HELLO))
        assert {text(reply) for reply in replies} == {ANSWER}
        assert told.heir.cancelled()
        assert len(told.backend.calls) == 2
        assert told.in_flight() == told.dispatcher.in_flight == 0

    virtually(scene)


def test_all_who_wait_may_leave() -> None:
    """What is left behind is clean: the next question is asked anew."""

    async def scene() -> None:
        told = house()
        tasks = [told.going(f"r{i}", payload=HELLO) for i in range(5)]
        await asyncio.sleep(0.1)
        await cancel(*tasks)
        assert told.in_flight() == told.dispatcher.in_flight == 0
        assert text(await told.ask("new", payload=HELLO)) == ANSWER
        assert used(told)[-1] == "miss"

    virtually(scene)


def test_a_follower_waits_no_longer_than_its_own_deadline() -> None:
    """The leader goes on."""

    async def scene() -> None:
        told = house()
        leader = told.going("leader", payload=HELLO)
        await asyncio.sleep(0.0)
        late = await told.attempt("late", payload=HELLO, deadline_s=0.2)
        assert isinstance(late, Expired)
        assert asyncio.get_running_loop().time() == pytest.approx(0.2)
        (rejected,) = told.of(RequestRejected)
        assert (rejected.code, rejected.stage) == ("deadline_exceeded", "queue")
        assert text(await leader) == ANSWER

    virtually(scene)


def test_an_answer_that_is_not_fit_lets_all_who_wait_call_at_once() -> None:
    """As without a cache: they do not wait for one another again."""

    async def scene() -> None:
        told = house()
        told.backend.scripts = {"only": ending("content_filter")}
        await asyncio.gather(*(told.ask(f"r{i}", payload=HELLO) for i in range(5)))
        assert len(told.backend.calls) == 5
        assert asyncio.get_running_loop().time() == pytest.approx(0.2)

    virtually(scene)
