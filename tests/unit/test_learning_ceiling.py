"""The learned max_tokens: it covers what models write, rises where answers are cut, and is hard to mislead."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest

from router.domain.events import CeilingUpdate
from router.domain.slo import Ceiling
from router.learning.ceiling import Ceilings
from router.learning.length import LengthModel

CLASS, MODEL = "chat", "llama-3.1-8b"


class Writer:
    """A model whose answers have log-normal lengths, under the ceiling that is learned from them."""

    def __init__(self, median: float, sigma: float, terms: Ceiling, *, seed: int = 0) -> None:
        self.median, self.sigma, self.terms = median, sigma, terms
        self.ceilings = Ceilings()
        self.moves: list[CeilingUpdate] = []
        self._rng = Random(seed)

    def now(self) -> int:
        """The ceiling in force."""
        return self.ceilings.tokens(CLASS, MODEL, self.terms)

    def write(self, answers: int) -> float:
        """The share of them that was cut."""
        cut = 0
        for _ in range(answers):
            wanted = max(1, round(self.median * math.exp(self.sigma * self._rng.gauss(0, 1))))
            most = self.now()
            cut += wanted > most
            self.observe(min(wanted, most), cut=wanted > most)
        return cut / answers

    def observe(self, tokens: int, *, cut: bool = False) -> None:
        """One answer."""
        moved = self.ceilings.observe(CLASS, MODEL, self.terms, tokens, cut=cut)
        if moved is not None:
            self.moves.append(moved)


def p97(median: float, sigma: float) -> float:
    """Of a log-normal distribution."""
    return median * math.exp(1.8808 * sigma)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("median", "sigma", "start"), [(200, 0.3, 1024), (150, 0.5, 256), (150, 0.5, 4096), (1500, 0.5, 256)]
)
def test_it_comes_to_the_p97_plus_a_fifth(median: float, sigma: float, start: int, seed: int) -> None:
    """From above and from far below, where nearly every answer was cut at first and none told how long it would be."""
    writer = Writer(median, sigma, Ceiling(start), seed=seed)
    writer.write(6000)
    assert writer.now() == pytest.approx(1.2 * p97(median, sigma), rel=0.2)
    assert writer.write(3000) <= 0.02


def test_it_stays_where_it_starts_until_there_is_evidence() -> None:
    """31 answers change nothing; it rises from 32 on, and sinks only after 100."""
    writer = Writer(1, 0.0, Ceiling(1000))
    for _ in range(31):
        writer.observe(10)
    assert writer.now() == 1000
    for _ in range(68):
        writer.observe(10)
    assert writer.now() == 1000
    for _ in range(100):
        writer.observe(10)
    assert writer.now() < 20
    cut = Writer(1, 0.0, Ceiling(1000))
    for _ in range(32):
        cut.observe(1000, cut=True)
    assert cut.now() == 1500


def test_only_worthwhile_moves_are_told() -> None:
    """Each changes the ceiling by more than a tenth, says from where to where, and why."""
    writer = Writer(600, 0.8, Ceiling(256), seed=4)
    writer.write(8000)
    assert 5 < len(writer.moves) < 40
    assert all(abs(m.new_tokens - m.old_tokens) > 0.09 * m.old_tokens for m in writer.moves)
    assert [m.old_tokens for m in writer.moves] == [256, *(m.new_tokens for m in writer.moves[:-1])]
    assert (writer.moves[0].request_class, writer.moves[0].model) == (CLASS, MODEL)
    assert writer.moves[0].truncated_ratio > 0.5
    assert "cut off" in writer.moves[0].reason


def test_answers_that_get_longer_are_let_grow_within_a_few_hundred() -> None:
    """Three times the length, and soon hardly any is cut again."""
    writer = Writer(150, 0.5, Ceiling(1024))
    writer.write(3000)
    writer.median = 450.0
    assert writer.write(300) > 0.1
    assert writer.write(2000) < 0.03


def test_answers_that_get_shorter_lower_it_in_time() -> None:
    """What was long fades by half every thousand answers."""
    writer = Writer(600, 0.4, Ceiling(1024))
    writer.write(2000)
    writer.median = 150.0
    writer.write(8000)
    assert writer.now() < 2 * p97(150, 0.4)


@pytest.mark.parametrize(
    ("terms", "expected"), [(Ceiling(256, 200, 300), 200), (Ceiling(4096, 2000, 5000), 2000), (Ceiling(64, 16, 90), 90)]
)
def test_it_stays_between_its_bounds(terms: Ceiling, expected: int) -> None:
    """However short the answers are, or however long they would be."""
    writer = Writer(20 if expected != 90 else 5000, 0.3, terms)
    writer.write(1000)
    assert writer.now() == expected


def test_new_bounds_and_a_new_start_hold_at_once() -> None:
    """The terms come with each call; what was learned is kept inside them."""
    writer = Writer(150, 0.5, Ceiling(1024))
    assert writer.ceilings.tokens(CLASS, MODEL, Ceiling(77)) == 77
    writer.write(2000)
    learned = writer.now()
    assert writer.ceilings.tokens(CLASS, MODEL, Ceiling(77)) == learned
    assert writer.ceilings.tokens(CLASS, MODEL, Ceiling(77, most_tokens=100)) == 100


def test_a_stricter_class_gets_a_higher_ceiling() -> None:
    """Where the allowed share of cut answers is far below what the p97 plus a fifth leaves."""
    usual, strict = (Writer(300, 0.8, Ceiling(1024, truncated_ratio=share)) for share in (0.02, 0.002))
    usual.write(8000)
    strict.write(8000)
    assert strict.now() > 1.4 * usual.now()
    assert strict.write(3000) < 0.006


def test_answers_cut_by_a_ceiling_that_has_risen_since_do_not_raise_it_again() -> None:
    """Calls that were under way when it rose come in late; what is measured is the ceiling in force."""
    writer = Writer(1, 0.0, Ceiling(100))
    for _ in range(32):
        writer.observe(100, cut=True)
    assert writer.now() == 150
    for _ in range(64):
        writer.observe(100, cut=True)
    assert writer.now() == 150


def test_models_and_classes_are_learned_apart() -> None:
    """A verbose model does not lift the ceiling of a terse one."""
    writer = Writer(2000, 0.3, Ceiling(256))
    writer.write(1000)
    assert writer.now() > 2000
    assert writer.ceilings.tokens(CLASS, "other", writer.terms) == 256
    assert writer.ceilings.tokens("other", MODEL, writer.terms) == 256


def test_a_checkpoint_goes_on_where_it_was() -> None:
    """The ceiling is the same, and so is every later move."""
    writer = Writer(300, 0.7, Ceiling(256), seed=9)
    writer.write(1501)
    again = Writer(300, 0.7, Ceiling(256))
    again.ceilings.restore(writer.ceilings.state())
    assert again.now() == writer.now()
    rng = Random(3)
    for _ in range(2000):
        tokens = round(500 * math.exp(0.7 * rng.gauss(0, 1)))
        writer.observe(tokens)
        again.observe(tokens)
    assert again.now() == pytest.approx(writer.now(), rel=0.11)


def _cut_short(rows: list[float]) -> list[float]:
    return rows[:-1]


def _negative(rows: list[float]) -> list[float]:
    return [*rows[:-1], -1.0]


def _huge(rows: list[float]) -> list[float]:
    return [1e300, *rows[1:]]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_cut_short, "out of range"),
        (_negative, "out of range"),
        (_huge, "out of range"),
        (lambda rows: rows[:2], "not enough values"),
    ],
)
def test_a_spoiled_checkpoint_is_refused(spoil: Callable[[list[float]], list[float]], says: str) -> None:
    """And nothing of it is taken up."""
    writer = Writer(300, 0.7, Ceiling(256))
    writer.write(500)
    before, state = writer.now(), writer.ceilings.state()
    with pytest.raises(ValueError, match=says):
        writer.ceilings.restore({key: spoil(rows) for key, rows in state.items()})
    assert writer.now() == before


def test_what_is_kept_stays_small() -> None:
    """However many answers of however many lengths: bins, not answers."""
    writer = Writer(1000, 2.0, Ceiling(16384))
    writer.write(20_000)
    (rows,) = writer.ceilings.state().values()
    assert len(rows) < 3 * 600


def test_the_p97_of_lengths_for_what_is_reserved() -> None:
    """More than the mean before any answer; then 97 of 100 stay under it; never above a bound."""
    lengths, rng = LengthModel(), Random(2)
    assert lengths.p97("a", "m", None) > lengths.expect("a", "m", None)
    seen = [max(1, round(200 * math.exp(0.4 * rng.gauss(0, 1)))) for _ in range(3000)]
    for number, tokens in enumerate(seen):
        lengths.observe("a", "m", tokens, now=float(number) * 0.01)
    under = sum(tokens <= lengths.p97("a", "m", None) for tokens in seen) / len(seen)
    assert under == pytest.approx(0.97, abs=0.01)
    assert lengths.p97("a", "m", 300) == 300.0


def test_a_cut_answer_stands_for_those_that_went_further() -> None:
    """Half of the answers are cut at 100, by a bound of an earlier day. Of those that were not, one in twenty is 400
    long and a single one 5000: so would the others have been."""
    writer = Writer(1, 0.0, Ceiling(1000))
    for _ in range(200):
        writer.observe(100, cut=True)
    for number in range(216):
        writer.observe(5000 if number == 50 else 400 if number % 20 == 0 else 150)
    assert writer.now() == pytest.approx(480, rel=0.05)
