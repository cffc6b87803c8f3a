"""What late first tokens say of the room that a server has."""

from __future__ import annotations

import math
from random import Random

from router.control.limits import FirstToken, Room, Taken, TokenLimit
from router.domain.events import LimitUpdate

IN_TIME_S, LATE_S, PREDICTED_S = 0.1, 1.5, 0.1


def room_that_was_in_time(*, is_advice: bool = False) -> Room:
    """As it filled up, first tokens came when they were predicted."""
    room = Room("large", is_advice=is_advice)
    for i in range(1, 31):
        assert room.observe_first_token(FirstToken(IN_TIME_S, PREDICTED_S, 1.0, i, 1000.0 * i), now=0.1 * i) is None
    return room


def late(calls: int, tokens: float, slower: float = 1.0) -> FirstToken:
    return FirstToken(LATE_S, PREDICTED_S, slower, calls, tokens)


def test_as_many_tokens_every_time_are_a_full_memory() -> None:
    """Calls differ by a tenth and tokens by a hundredth: the memory holds the most of them."""
    room, rng, held = room_that_was_in_time(), Random(1), None
    for i in range(20):
        held = room.observe_first_token(late(rng.randint(36, 46), rng.uniform(39_500, 40_000)), now=10.0 + i)
    assert held is not None
    assert 39_500 < held <= 40_000
    assert room.calls == math.inf


def test_as_many_calls_every_time_are_all_its_sequences() -> None:
    """Tokens differ: it is told once as a change of the limit on calls, and lifted as time passes at it."""
    room, rng = room_that_was_in_time(), Random(1)
    for i in range(20):
        assert room.observe_first_token(late(40, rng.uniform(30_000, 50_000)), now=10.0 + i) is None
    assert room.calls == 40
    assert room.beat(40, now=30.0) == LimitUpdate("large", "in_flight", 40.0, 40.0, "full")
    for i in range(300):
        assert room.beat(40, now=30.0 + 0.1 * i) is None
    assert room.calls > 44


def test_what_is_only_advised_holds_nobody() -> None:
    """It is said, and marked as advice."""
    room = room_that_was_in_time(is_advice=True)
    for i in range(20):
        room.observe_first_token(late(40, 1000.0 * i), now=10.0 + i)
    assert room.calls == math.inf
    assert room.beat(40, now=30.0) == LimitUpdate("large", "in_flight", 40.0, 40.0, "full", True)


def test_a_server_that_is_late_at_every_load_is_not_full() -> None:
    """A prior that does not fit, at the steadiest load there is: never in time, whatever it holds."""
    room = Room("large")
    for i in range(500):
        assert room.observe_first_token(late(40, 40_000.0), now=0.5 * i) is None
    assert room.calls == math.inf


def test_one_call_at_a_time_says_nothing_of_room() -> None:
    """A gateway that is late now and then, with the same prompt each time."""
    room = room_that_was_in_time()
    for i in range(100):
        assert room.observe_first_token(late(1, 500.0), now=10.0 + i) is None
    assert room.calls == math.inf


def test_lateness_that_comes_with_any_number_of_calls_is_not_room() -> None:
    """Calls come and go by chance, a hundred at once in the mean; every other first token is late."""
    rng, room = Random(1), room_that_was_in_time()
    for i in range(2000):
        calls = round(rng.gauss(100.0, 10.0))
        tokens = rng.gauss(1000.0 * calls, 8000.0)
        waited_s = LATE_S if i % 2 else IN_TIME_S
        assert room.observe_first_token(FirstToken(waited_s, PREDICTED_S, 1.0, calls, tokens), now=10 + 0.5 * i) is None
    assert room.calls == math.inf


def test_a_slow_server_is_not_full() -> None:
    """Its tokens are late as well."""
    room = room_that_was_in_time()
    for i in range(100):
        assert room.observe_first_token(late(40, 40_000.0, slower=2.0), now=10.0 + i) is None
    assert room.calls == math.inf


def test_a_server_tells_how_large_its_memory_is() -> None:
    """30,000 tokens of ours take up three quarters of it; a share too small to read says nothing, and a number that
    the operator wrote stays the most there is."""
    idle, limit, stated = TokenLimit("idle", None), TokenLimit("large", None), TokenLimit("large", 20_000)
    idle.tell(500.0, 0.01)
    assert idle.value is None
    for one in (limit, stated):
        one.tell(30_000.0, 0.75)
    assert limit.value == 40_000.0
    assert limit.beat(30, 30_000.0, now=1.0) == LimitUpdate("large", "tokens", 40_000.0, 40_000.0, "telemetry")
    assert stated.value == 20_000
    assert stated.beat(30, 30_000.0, now=1.0) is None


def test_what_was_taken_beside_as_many_is_not_refused_for_their_number() -> None:
    """Nothing is known at first; then the most that was taken, of which half is left after five minutes."""
    taken = Taken()
    assert max(taken.beside(now=0.0)) < 0.0
    taken.observe(40, 9_000.0, now=10.0)
    taken.observe(5, 20_000.0, now=10.0)
    assert taken.beside(now=10.0) == (40.0, 20_000.0)
    assert taken.beside(now=310.0) == (20.0, 10_000.0)
