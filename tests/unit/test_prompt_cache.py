"""Which prefixes are worth having kept by a service, which are believed to be kept, and where prompts are cut."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from router.control.prompt_cache import PromptCache, pays
from router.domain.aws.prefix import Cut
from router.domain.aws.terms import CacheTerms
from router.domain.deployment import Price
from router.wire.openai.prefix import cuts_of

PRICE = Price(3.0, 15.0, cache_read_usd_per_mtok=0.3, cache_write_usd_per_mtok=3.75)
CLASS = "chat"


def cuts(*texts: str, tokens: int = 2000) -> tuple[Cut, ...]:
    """A system prompt, and one cut after each further text; `tokens` each."""
    found, digest = [], b""
    for number, text in enumerate(texts):
        digest += text.encode()
        found.append(Cut(number, tokens * (number + 1), digest))
    return tuple(found)


def asked(cache: PromptCache, found: tuple[Cut, ...], now: float) -> tuple[int, ...]:
    """A request that begins so comes, goes out, and is answered as the cache expects."""
    cache.see(found, CLASS, now=now)
    points = cache.points(found, CLASS, PRICE, now=now)
    cache.on_kept(found, points, now=now)
    return points


@pytest.mark.parametrize(("p_again", "worth"), [(0.21, False), (0.22, True), (0.9, True), (1.0, True), (0.0, False)])
def test_a_prefix_is_written_from_the_break_even_on(p_again: float, worth: bool) -> None:
    """Writing costs 0.75 more a million, a read saves 2.70: it takes 0.278 reads, which is p / (1 - p) at p = 0.217."""
    assert pays(PRICE, p_again) is worth


def test_a_cache_that_cannot_be_trusted_must_save_more() -> None:
    """Where half of what should be kept is not, it takes 0.556 reads: p = 0.357."""
    assert not pays(PRICE, 0.35, trust=0.5)
    assert pays(PRICE, 0.36, trust=0.5)


def test_what_costs_nothing_to_write_is_written() -> None:
    """Without prices of its own the cache is free, and makes the first token sooner."""
    assert pays(Price(3.0, 15.0), 0.0)


def test_a_system_prompt_that_comes_again_is_cut_off_and_one_shot_prompts_are_not() -> None:
    """Every request has the same system prompt and another question: the cut is after the system prompt, never after
    the question."""
    cache = PromptCache(CacheTerms())
    for number in range(20):
        assert asked(cache, cuts("system", f"question {number}"), 10.0 * number) == (0,)


def test_prompts_that_never_come_again_are_not_written() -> None:
    """Each with a system prompt of its own: after some that were never asked for again, nothing is cut."""
    cache = PromptCache(CacheTerms())
    points = [asked(cache, cuts(f"system {n}", "question"), 60.0 * n) for n in range(30)]
    assert points[0] == (0,)
    assert points[-1] == ()


def test_too_rarely_is_never() -> None:
    """The same prompt every six minutes is forgotten by the service each time: it stops being written."""
    cache = PromptCache(CacheTerms(ttl_s=300.0))
    assert [asked(cache, cuts("system", "q"), 360.0 * n) for n in range(30)][-1] == ()


def test_a_conversation_is_cut_after_its_last_turn() -> None:
    """As conversations of the class go on, each turn reads the turn before and writes its own."""
    cache = PromptCache(CacheTerms())
    points: list[tuple[int, ...]] = []
    for talk in range(12):
        said = ["system"]
        for turn in range(3):
            said.append(f"{talk} {turn}")
            points.append(asked(cache, cuts(*said), 100.0 * talk + 20.0 * turn))
    assert points[-2:] == [(0, 1, 2), (0, 2, 3)]


def test_no_more_points_than_allowed_and_the_longest_kept_among_them() -> None:
    """Of a long conversation at most so many cuts are marked: what is kept, what is new, and then the system prompt."""
    cache = PromptCache(CacheTerms(max_points=3))
    said = ["system"]
    for number in range(12):
        asked(cache, cuts("system", f"other {number}"), 0.5 * number)
    for turn in range(8):
        said.append(f"turn {turn}")
        points = asked(cache, cuts(*said), 10.0 + 10.0 * turn)
    assert points == (0, 7, 8)


def test_short_prefixes_are_not_cut() -> None:
    """Under the fewest tokens that the model takes there is no point, and nothing is remembered."""
    cache = PromptCache(CacheTerms(min_tokens=1024))
    for number in range(5):
        assert asked(cache, cuts("system", "q", tokens=500), float(number)) == ()


def test_what_was_written_is_expected_until_it_is_forgotten() -> None:
    """2,000 tokens for five minutes from the last use on."""
    cache, found = PromptCache(CacheTerms(ttl_s=300.0)), cuts("system", "q")
    assert cache.expected(found, now=0.0) == 0.0
    asked(cache, found, 0.0)
    asked(cache, found, 200.0)
    assert cache.expected(found, now=499.0) == pytest.approx(4000.0)
    assert cache.expected(found, now=501.0) == 0.0


def test_a_prefix_evicted_early_is_believed_less() -> None:
    """The service reads nothing of what should be kept and writes it anew: it is kept again, and trusted less."""
    cache, found = PromptCache(CacheTerms()), cuts("system", "q")
    for number in range(3):
        asked(cache, found, float(number))
    before = cache.expected(found, now=3.0)
    cache.on_told(found, (0, 1), expected=True, read=0, written=4000)
    assert 0.6 * before < cache.expected(found, now=3.0) < 0.9 * before


def test_a_service_that_keeps_nothing_is_not_believed() -> None:
    """Neither read nor written: the prefix is not kept."""
    cache, found = PromptCache(CacheTerms()), cuts("system", "q")
    points = asked(cache, found, 0.0)
    cache.on_told(found, points, expected=False, read=0, written=0)
    assert cache.expected(found, now=1.0) == 0.0


def body(*messages: tuple[str, str], **fields: Any) -> bytes:
    return msgspec.json.encode({"messages": [{"role": r, "content": c} for r, c in messages], **fields})


def test_a_prompt_can_be_cut_after_the_system_prompt_and_after_each_message() -> None:
    """36 letters are 10 tokens, and a message has 4 besides."""
    letters = "x" * 36
    found = cuts_of(body(("system", letters), ("user", letters), ("assistant", letters)))
    assert [(c.messages, c.tokens) for c in found] == [(0, 14), (1, 28), (2, 42)]
    assert [c.messages for c in cuts_of(body(("user", letters)))] == [1]


def test_a_longer_prompt_begins_with_the_same_prefixes() -> None:
    """The next turn's prompt has the digests of the turn before; another system prompt or other tools have none of
    them."""
    turn = cuts_of(body(("system", "s"), ("user", "a")))
    later = cuts_of(body(("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c")))
    assert [c.digest for c in later[:2]] == [c.digest for c in turn]
    tools = [{"type": "function", "function": {"name": "f"}}]
    for other in (body(("system", "t"), ("user", "a")), body(("system", "s"), ("user", "a"), tools=tools)):
        assert not {c.digest for c in cuts_of(other)} & {c.digest for c in turn}


def test_a_body_that_cannot_be_read_is_not_cut() -> None:
    """Nonsense has no prefixes."""
    assert cuts_of(b"") == cuts_of(b'{"messages": 7}') == ()
