"""Answers kept for a while: by time, by number in a class, by bytes over all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.domain.outcome import Receipt, Usage
from router.domain.slo import CacheTerms
from router.runtime.answers import ENTRY_BYTES, Answer, Answers

RECEIPT = Receipt("d", "small", "m", "p", 1, 0.001, 0.0)
LONG = CacheTerms(1e9)


def answer(size: int = 0) -> Answer:
    return Answer(b"x" * size, Usage(1, 1), RECEIPT, "m", "stop", None)


def store(size_bytes: int = 10**9) -> Answers:
    return Answers(lambda: 0.0, size_bytes=size_bytes)


def test_bytes_are_bounded_over_all_classes() -> None:
    """The least recently used of any class goes first."""
    kept = store(3 * (100 + ENTRY_BYTES))
    kept.put("one", b"a", answer(100), LONG)
    kept.put("two", b"b", answer(100), LONG)
    assert kept.get("one", b"a") is not None
    kept.put("two", b"c", answer(100), LONG)
    kept.put("two", b"d", answer(100), LONG)
    assert kept.get("two", b"b") is None
    assert all(kept.get(*place) is not None for place in (("one", b"a"), ("two", b"c"), ("two", b"d")))
    assert kept.size_bytes == 3 * (100 + ENTRY_BYTES)


def test_an_answer_too_large_for_all_is_not_kept() -> None:
    """And pushes nothing out, but for an older one under its own key."""
    kept = store(2 * ENTRY_BYTES)
    kept.put("one", b"a", answer(1), LONG)
    kept.put("one", b"b", answer(2 * ENTRY_BYTES), LONG)
    assert kept.get("one", b"a") is not None
    assert kept.get("one", b"b") is None


def test_an_answer_takes_the_place_of_an_older_one() -> None:
    """Its time and its size count anew."""
    now = [0.0]
    kept = Answers(lambda: now[0])
    kept.put("one", b"a", answer(100), CacheTerms(10.0))
    now[0] = 9.0
    kept.put("one", b"a", answer(50), CacheTerms(10.0))
    assert kept.size_bytes == 50 + ENTRY_BYTES
    now[0] = 18.9
    assert kept.get("one", b"a") is not None
    now[0] = 19.0
    assert kept.get("one", b"a") is None
    assert (len(kept), kept.size_bytes) == (0, 0)


def test_classes_keep_their_answers_apart() -> None:
    """The same key in two classes is two answers, and the bound of one is not that of the other."""
    kept = store()
    kept.put("one", b"a", answer(1), CacheTerms(9.0, max_entries=1))
    kept.put("two", b"a", answer(2), LONG)
    kept.put("two", b"b", answer(2), LONG)
    kept.put("one", b"b", answer(1), CacheTerms(9.0, max_entries=1))
    assert kept.get("one", b"a") is None
    assert kept.get("two", b"a") == answer(2)


steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "get", "wait", "forget"]),
        st.sampled_from(["one", "two"]),
        st.integers(0, 5),
        st.integers(0, 3000),
    ),
    max_size=60,
)


@given(steps)
def test_no_sequence_breaks_the_bounds(sequence: list[tuple[str, str, int, int]]) -> None:
    """After any step: the bytes are the sum of what is kept and within the bound, no class is over its number, and
    nothing is given past its time."""
    now = [0.0]
    kept, bound, terms = Answers(lambda: now[0], size_bytes=8000), 8000, CacheTerms(10.0, max_entries=3)
    put_at: dict[tuple[str, bytes], tuple[float, Answer]] = {}
    for what, name, number, size in sequence:
        key = bytes([number])
        if what == "put":
            kept.put(name, key, answer(size), terms)
            put_at[(name, key)] = (now[0], answer(size))
        elif what == "wait":
            now[0] += size / 500
        elif what == "forget":
            kept.forget(name, key)
            put_at.pop((name, key), None)
        else:
            found = kept.get(name, key)
            if found is not None:
                at, put = put_at[(name, key)]
                assert found == put
                assert now[0] < at + terms.ttl_s
        assert 0 <= kept.size_bytes <= bound
        assert len(kept) <= 6
    for place in [(name, bytes([n])) for name in ("one", "two") for n in range(6)]:
        kept.forget(*place)
    assert (len(kept), kept.size_bytes) == (0, 0)
