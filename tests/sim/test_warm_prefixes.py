"""Prompt caching in a closed loop: the router against the double's cache, speed and bill, in virtual time."""

from __future__ import annotations

import asyncio
from statistics import mean

import pytest

from bench.prompt_cache import MODEL, PROMISE, converse, region
from bench.virtual_bedrock import Room, text
from router.domain.aws.terms import CacheTerms
from router.domain.events import AttemptEnded, DecisionMade, RequestEnded
from router.domain.outcome import Outcome
from router.domain.slo import RequestClass
from router.sim.clock import run_virtual

CACHE = CacheTerms()


def calls(room: Room) -> list[Outcome]:
    return [event.outcome for event in room.of(AttemptEnded)]


async def talks(cache: CacheTerms | None, *, count: int = 24, turns: int = 5) -> Room:
    room = Room([MODEL], (region(1, cache), region(2, cache)), PROMISE)

    async def talk(number: int) -> None:
        await asyncio.sleep(20.0 * number)
        await converse(room, f"c{number}", turns, 2000, lambda: 25.0)

    await asyncio.gather(*(talk(number) for number in range(count)))
    return room


def test_conversations_cost_less_and_answer_sooner_and_the_books_are_the_bill() -> None:
    """24 conversations over one system prompt: less than half of the dollars and of the time to the first token of the
    same without cache points, and every dollar as the double bills it."""
    plain, cached = run_virtual(talks(None)), run_virtual(talks(CACHE))
    for room in (plain, cached):
        booked = sum(event.cost_usd for event in room.of(RequestEnded))
        assert booked == pytest.approx(sum(bill.usd for bill in room.world.bills))
    usd = [sum(bill.usd for bill in room.world.bills) for room in (plain, cached)]
    ttft = [mean(e.ttft_s for e in room.of(RequestEnded) if e.ttft_s is not None) for room in (plain, cached)]
    assert usd[1] < 0.5 * usd[0]
    assert ttft[1] < 0.5 * ttft[0]


def test_a_conversation_stays_where_it_is_warm() -> None:
    """Once conversations are known to go on, each turn goes where the last one went, and reads all of it."""
    room = run_virtual(talks(CACHE))
    at: dict[str, str] = {}
    moved = read_all = 0
    later = calls(room)[60:]
    for call in later:
        name = call.attempt.request.prompt.last_user.split()[0]
        moved += at.get(name, call.attempt.deployment.name) != call.attempt.deployment.name
        at[name] = call.attempt.deployment.name
        read_all += call.cached_tokens >= call.input_tokens - 280
    assert moved == 0
    assert read_all == len(later)


async def crowded(background: int) -> list[str]:
    """Where the turns of a conversation go: two alone, then two while others decode where it is warm."""
    room = Room([MODEL], (region(1, CACHE), region(2, CACHE)), PROMISE)
    for number in range(8):
        await converse(room, f"w{number}", 3, 2000, lambda: 5.0)
    said = [("system", text("system", 2000)), ("user", text("mine", 100))]
    went = [(await room.ask(said, max_tokens=200)).receipt.deployment]
    others = [
        asyncio.ensure_future(room.ask([("user", text(f"o{i}", 4000))], model=went[0], max_tokens=200))
        for i in range(background)
    ]
    await asyncio.sleep(0.2)
    said += [("assistant", text("answer", 80)), ("user", text("more", 100))]
    went.append((await room.ask(said, max_tokens=200)).receipt.deployment)
    await asyncio.gather(*others)
    return went


@pytest.mark.parametrize(("background", "stays"), [(1, True), (400, False)])
def test_it_leaves_when_the_load_is_worth_more(background: int, stays: bool) -> None:
    """Beside one other call the conversation stays where it is warm; beside 400 long prompts, which would keep its
    first token past the promise, it goes to the other region."""
    first, second = run_virtual(crowded(background))
    assert (first == second) is stays


def test_what_the_service_evicts_early_is_noticed() -> None:
    """The double forgets everything: the next call reads nothing, is billed so, and what it wrote is read again."""

    async def scene() -> Room:
        room = Room([MODEL], (region(1, CACHE),), PROMISE)
        said = [("system", text("system", 2000)), ("user", text("hello", 10))]
        for forget in (False, False, False, True, False):
            if forget:
                room.world.cache._until.clear()
            await room.ask(said, max_tokens=50)
        return room

    done = calls(run_virtual(scene()))
    assert [bool(call.cached_tokens) for call in done] == [False, True, True, False, True]
    assert done[3].cache_written_tokens >= 2000


def test_deployments_without_a_cache_are_left_as_they_were() -> None:
    """No `cache`: the prompt is not read for cuts, and no cache point goes out."""

    async def scene() -> Room:
        room = Room([MODEL], (region(1, None),), RequestClass("all"))
        await room.ask([("system", text("system", 2000)), ("user", "hello")], max_tokens=50)
        return room

    room = run_virtual(scene())
    assert [call.attempt.cache_after for call in calls(room)] == [()]
    assert "cachePoint" not in str(room.world.calls[0].params)


def test_the_decision_says_what_it_expects_to_read() -> None:
    """Of the region where the prefix is warm and of no other, and the call there is the cheaper by that much."""
    room = run_virtual(talks(CACHE, count=6))
    decision = list(room.of(DecisionMade))[-1].decision
    warm = next(c for c in decision.candidates if c.deployment == decision.chosen)
    cold = next(c for c in decision.candidates if c.deployment != decision.chosen)
    assert warm.terms.cached_tokens > cold.terms.cached_tokens
    saved = (warm.terms.cached_tokens - cold.terms.cached_tokens) * 2.7e-6
    assert cold.terms.cost_usd - warm.terms.cost_usd == pytest.approx(saved)
    assert warm.terms.ttft_s < cold.terms.ttft_s
