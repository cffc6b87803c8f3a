"""How many tokens must an answer be allowed, so that hardly any is cut off?

By class and model: the p97 of the lengths that were seen plus 20 %, or the length that the allowed share of cut answers
outlives where that is more. An answer that was cut tells only that it is at least so long, so lengths are read by the
product-limit estimator (Kaplan and Meier, JASA 1958): a cut answer counts among those at risk up to where it was cut,
and what it might have been is learned from those that went further. Lengths are kept in bins whose edges grow by a
constant factor, so that a quantile is off by 2 % at most, as in DDSketch (Masson, Rim and Lee, VLDB 2019); they fade by
half every 1000 answers, so that a class that sleeps forgets nothing.

Where more answers than allowed are cut under the present ceiling, by two standard errors of a share, it rises by half.
It moves only on evidence, only by more than 10 %, and downwards later than upwards. It is a ceiling, not a target:
models that stop by themselves are as long with it as without, and what it changes is what a call reserves of budgets
and of a server's token quota.
"""

from __future__ import annotations

import math

from router.domain.events import CeilingUpdate
from router.domain.slo import Ceiling

_OUTLIVING = 0.03
_HEADROOM = 1.2
_RISE = 1.5
_WORTHWHILE = 1.1
_LOOK_EVERY = 32
"""Answers between two looks, and so the least evidence of a move and the shortest time between two."""
_FIRM = 100
"""Answers under the present ceiling before it sinks."""
_ERRORS = 2.0
_HALF_LIFE = 1000.0
_GROWTH = 2.0 ** (1.0 / _HALF_LIFE)
_HEAVIEST = 1e9
_ERROR = 0.02
_BASE = (1.0 + _ERROR) / (1.0 - _ERROR)
_LOG_BASE = math.log(_BASE)
_LAST_BIN = 600
_MAX_KEYS = 4096
_NONE = 1e-9
"""Of the weight of an answer: what rounding may leave of nothing."""


class _Lengths:
    """What was seen of one class and model. `ended` and `cut` are weights by bin; a new answer weighs `fresh`, which
    grows, in place of the others fading (forward decay: Cormode et al., ICDE 2009)."""

    __slots__ = ("cut", "cut_now", "ended", "fresh", "since_look", "tokens", "watched")

    def __init__(self) -> None:
        self.tokens: int | None = None
        """The ceiling that was learned."""
        self.watched = 0.0
        """Answers under the present ceiling, and how many of them it cut."""
        self.cut_now = 0.0
        self.since_look = 0
        self.fresh = 1.0
        self.ended: dict[int, float] = {}
        self.cut: dict[int, float] = {}

    def add(self, tokens: int, *, cut: bool) -> None:
        """One answer."""
        side = self.cut if cut else self.ended
        index = min(math.ceil(math.log(max(tokens, 1)) / _LOG_BASE), _LAST_BIN)
        side[index] = side.get(index, 0.0) + self.fresh
        self.fresh *= _GROWTH
        if self.fresh > _HEAVIEST:
            self._rescale()

    def watch(self, *, cut: bool) -> None:
        """One answer under the present ceiling."""
        if self.watched >= _HALF_LIFE:
            self.watched, self.cut_now = 0.5 * self.watched, 0.5 * self.cut_now
        self.watched += 1.0
        self.cut_now += cut

    def outlived_by(self, share: float) -> float:
        """The least length that at most this share of the answers goes beyond; the longest seen where that is not
        known yet."""
        at_risk = sum(self.ended.values()) + sum(self.cut.values())
        least = _NONE * self.fresh
        going_on, last = 1.0, 0
        for index in sorted(self.ended.keys() | self.cut.keys()):
            ended, last = self.ended.get(index, 0.0), index
            going_on *= max(1.0 - ended / max(at_risk, least), 0.0)
            at_risk -= ended + self.cut.get(index, 0.0)
            if going_on <= share:
                break
        return 2.0 * _BASE**last / (_BASE + 1.0)

    def moved(self, tokens: int) -> None:
        """Another ceiling holds from here on."""
        self.tokens, self.watched, self.cut_now = tokens, 0.0, 0.0

    def state(self) -> list[float]:
        """Ceiling (0 for none), answers and cut ones under it, then bin, ended and cut for each bin."""
        rows = [float(self.tokens or 0), self.watched, self.cut_now]
        for index in sorted(self.ended.keys() | self.cut.keys()):
            sides = (side.get(index, 0.0) / self.fresh for side in (self.ended, self.cut))
            rows += [float(index), *(round(weight, 6) for weight in sides)]
        return rows

    @classmethod
    def of(cls, state: list[float]) -> _Lengths:
        """Back from a checkpoint; raises `ValueError` where it is not one."""
        tokens, watched, cut_now, *rows = state
        if len(rows) % 3 or min(state) < 0.0 or max(state) > _HEAVIEST:
            raise ValueError("the lengths of a ceiling are out of range")
        self = cls()
        self.tokens = int(tokens) or None
        self.watched = min(watched, _HALF_LIFE)
        self.cut_now = min(cut_now, self.watched)
        for at in range(0, len(rows), 3):
            index = min(int(rows[at]), _LAST_BIN)
            self.ended[index], self.cut[index] = rows[at + 1], rows[at + 2]
        return self

    def _rescale(self) -> None:
        for side in (self.ended, self.cut):
            kept = {i: w / self.fresh for i, w in side.items() if w > _NONE * self.fresh}
            side.clear()
            side.update(kept)
        self.fresh = 1.0


class Ceilings:
    """Learned `max_tokens` by class and model. The terms come with each call, so that an edit of them holds at once."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[str, str], _Lengths] = {}
        self.frozen = False
        """Nothing is learned while it is."""

    def tokens(self, request_class: str, model: str, terms: Ceiling) -> int:
        """The ceiling in force."""
        known = self._by_key.get((request_class, model))
        learned = None if known is None else known.tokens
        return _within(terms, terms.start_tokens if learned is None else learned)

    def observe(
        self, request_class: str, model: str, terms: Ceiling, output_tokens: int, *, cut: bool
    ) -> CeilingUpdate | None:
        """One answer that ended by itself, or was cut by the ceiling of its call; the move where the ceiling moves."""
        if self.frozen:
            return None
        known = self._by_key.get((request_class, model))
        if known is None:
            if len(self._by_key) >= _MAX_KEYS:
                return None
            known = self._by_key[request_class, model] = _Lengths()
        known.add(output_tokens, cut=cut)
        old = _within(terms, terms.start_tokens if known.tokens is None else known.tokens)
        if not cut or output_tokens >= old:
            known.watch(cut=cut)
        known.since_look += 1
        if known.since_look < _LOOK_EVERY:
            return None
        known.since_look = 0
        share = known.cut_now / known.watched if known.watched else 0.0
        new, reason = _look(known, terms, old, share)
        if old / _WORTHWHILE <= new <= old * _WORTHWHILE:
            return None
        known.moved(new)
        return CeilingUpdate(request_class, model, old, new, share, reason)

    def learned(self) -> dict[tuple[str, str], int]:
        """The ceilings that have moved from where they started, by class and model."""
        return {key: known.tokens for key, known in self._by_key.items() if known.tokens is not None}

    def state(self) -> dict[str, list[float]]:
        """What a checkpoint keeps."""
        return {f"{name}\t{model}": known.state() for (name, model), known in self._by_key.items()}

    def restore(self, state: dict[str, list[float]]) -> None:
        """Take up a checkpoint; raises `ValueError` where it is not one."""
        found: dict[tuple[str, str], _Lengths] = {}
        for key, rows in state.items():
            name, _, model = key.partition("\t")
            found[name, model] = _Lengths.of(rows)
        self._by_key = found


def _look(known: _Lengths, terms: Ceiling, old: int, share: float) -> tuple[int, str]:
    """Where the ceiling should stand, and why."""
    allowed = terms.truncated_ratio
    needed = max(_HEADROOM * known.outlived_by(_OUTLIVING), known.outlived_by(allowed))
    new = _within(terms, math.ceil(needed))
    error = math.sqrt(allowed * (1.0 - allowed) / max(known.watched, 1.0))
    if known.watched >= _LOOK_EVERY and share > allowed + _ERRORS * error:
        return max(new, _within(terms, math.ceil(_RISE * old))), "more answers are cut off than the class allows"
    if new < old and known.watched < _FIRM:
        return old, ""
    return new, "answers are longer" if new > old else "answers are shorter"


def _within(terms: Ceiling, tokens: int) -> int:
    return min(max(tokens, terms.least_tokens), terms.most_tokens)
