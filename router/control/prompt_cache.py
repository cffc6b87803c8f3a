"""Which prefixes does a service keep for us, and which is it worth having kept?

A prefix that is read again costs `read` a token instead of `input`; to have it kept costs `write`. With p the
probability that it is asked for again before the service forgets it, each time as likely as the last, it is read
`p / (1 - p)` times for one write. So it is written where

    (write - input) < p / (1 - p) * (input - read),

which at the usual 1.25 and 0.1 of the input price is from p = 0.22 on. p is a Beta estimate: what became of this very
prefix, around what usually becomes of prefixes of its habit (the class, and whether it ends in the system prompt, in
the first turn, or later). A prefix that nobody asked for in time is counted as such and forgotten.

What was written or read is believed to be kept for the time to live; what the service then says it read corrects that,
and how far the belief can be trusted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import pairwise

from router.domain.aws.prefix import Cut
from router.domain.aws.terms import CacheTerms
from router.domain.deployment import Price

_MOST = 50_000
"""Prefixes remembered, the longest unused forgotten first."""
_OWN_WEIGHT = 1.0
"""Of what is usual for the habit, in sightings of the prefix itself."""
_HABIT_WEIGHT, _HABIT_MEMORY = 4.0, 200.0
_TRUST_WEIGHT, _TRUST_MEMORY = 4.0, 50.0
_P_MAX = 0.98


class End(StrEnum):
    """Where a prefix ends."""

    SYSTEM = "system"
    FIRST = "first"
    """With the only message so far."""
    LATER = "later"
    """With the last message of a conversation."""
    WITHIN = "within"


_PRIOR = {End.SYSTEM: 0.5, End.FIRST: 0.1, End.LATER: 0.4, End.WITHIN: 0.4}
Habit = tuple[str, End]


class _Share:
    """A share of yes that forgets."""

    __slots__ = ("_memory", "no", "yes")

    def __init__(self, prior: float, weight: float, memory: float) -> None:
        self.yes, self.no, self._memory = prior * weight, (1.0 - prior) * weight, memory

    def add(self, *, yes: bool) -> None:
        kept = 1.0 - 1.0 / self._memory
        self.yes, self.no = kept * self.yes + yes, kept * self.no + (not yes)

    @property
    def mean(self) -> float:
        return self.yes / (self.yes + self.no)


class _Prefix:
    """`again` counts the times that it was asked for again in time; `until` is when the service forgets it."""

    __slots__ = ("again", "habit", "seen", "until")

    def __init__(self, habit: Habit, seen: float) -> None:
        self.habit, self.seen = habit, seen
        self.again, self.until = 0, 0.0


def pays(price: Price, p_again: float, trust: float = 1.0) -> bool:
    """Whether a token is worth writing that is asked for again with this probability each time."""
    plain = price.input_usd_per_mtok
    read = plain if price.cache_read_usd_per_mtok is None else price.cache_read_usd_per_mtok
    write = plain if price.cache_write_usd_per_mtok is None else price.cache_write_usd_per_mtok
    p = min(p_again, _P_MAX)
    return write - plain <= trust * p / (1.0 - p) * (plain - read)


class PromptCache:
    """What one account has kept of one model in one region."""

    def __init__(self, terms: CacheTerms) -> None:
        self.terms = terms
        self._known: OrderedDict[bytes, _Prefix] = OrderedDict()
        self._habits: dict[Habit, _Share] = {}
        self._trust = _Share(1.0, _TRUST_WEIGHT, _TRUST_MEMORY)

    def see(self, cuts: Sequence[Cut], habit: str, *, now: float) -> None:
        """A request of a class begins with all these."""
        self._expire(now)
        known = self._known
        for cut, end in self._ends(cuts):
            prefix = known.get(cut.digest)
            if prefix is None:
                known[cut.digest] = _Prefix((habit, end), now)
                continue
            prefix.again += 1
            self._habit(prefix.habit).add(yes=True)
            prefix.habit, prefix.seen = (habit, end), now
            known.move_to_end(cut.digest)

    def read(self, cuts: Sequence[Cut], *, now: float) -> Cut | None:
        """The longest that is believed to be kept."""
        for cut in reversed(cuts):
            prefix = self._known.get(cut.digest)
            if prefix is not None and prefix.until > now:
                return cut
        return None

    def expected(self, cuts: Sequence[Cut], *, now: float) -> float:
        """Tokens that will be read instead of computed."""
        cut = self.read(cuts, now=now)
        return 0.0 if cut is None else cut.tokens * self._trust.mean

    def p_again(self, cut: Cut, habit: Habit) -> float:
        """Probability that a prefix is asked for again before it is forgotten."""
        prefix = self._known.get(cut.digest)
        again = 0 if prefix is None else prefix.again
        return (again + _OWN_WEIGHT * self._habit(habit).mean) / (again + _OWN_WEIGHT)

    def points(self, cuts: Sequence[Cut], habit: str, price: Price, *, now: float) -> tuple[int, ...]:
        """Where to cut the prompt of a request that was seen: after the longest prefix that is kept, so that it is
        read; after the longest that is worth writing; and, as far as there are places left, where other requests begin
        to differ, the most shared first."""
        ends = list(self._ends(cuts))
        kept = self.read(cuts, now=now)
        trust = self._trust.mean
        worth = [cut for cut, end in ends if pays(price, self.p_again(cut, (habit, end)), trust)]
        longest = worth[-1] if worth else None
        chosen = {cut.messages for cut in (kept, longest) if cut is not None}
        if longest is not None:
            chosen |= set(self._branches(cuts, longest)[: self.terms.max_points - len(chosen)])
        return tuple(sorted(chosen))

    def on_kept(self, cuts: Sequence[Cut], points: Sequence[int], *, now: float) -> None:
        """The service has computed or read what comes before these points."""
        for cut in cuts:
            prefix = self._known.get(cut.digest) if cut.messages in points else None
            if prefix is not None:
                prefix.seen, prefix.until = now, now + self.terms.ttl_s
                self._known.move_to_end(cut.digest)

    def on_told(self, cuts: Sequence[Cut], points: Sequence[int], *, expected: bool, read: int, written: int) -> None:
        """What the service says it read and wrote: where neither, it keeps nothing of it."""
        if expected:
            self._trust.add(yes=read > 0)
        if read or written:
            return
        for cut in cuts:
            if cut.messages in points and (prefix := self._known.get(cut.digest)) is not None:
                prefix.until = 0.0

    def _ends(self, cuts: Sequence[Cut]) -> Iterator[tuple[Cut, End]]:
        """The cuts that are long enough, and where each ends."""
        last = len(cuts) - 1
        for index, cut in enumerate(cuts):
            if cut.tokens < self.terms.min_tokens:
                continue
            if cut.messages == 0:
                yield cut, End.SYSTEM
            elif index < last:
                yield cut, End.WITHIN
            else:
                yield cut, End.FIRST if cut.messages == 1 else End.LATER

    def _branches(self, cuts: Sequence[Cut], longest: Cut) -> list[int]:
        """Cuts before the longest after which fewer requests go on alike, the greatest loss first."""
        counts = [
            (cut.messages, prefix.again)
            for cut, _ in self._ends(cuts)
            if cut.messages <= longest.messages and (prefix := self._known.get(cut.digest)) is not None
        ]
        lost = [(a - b, cut) for (cut, a), (_, b) in pairwise(counts) if a > b + 1]
        return [cut for _, cut in sorted(lost, reverse=True)]

    def _habit(self, habit: Habit) -> _Share:
        found = self._habits.get(habit)
        if found is None:
            found = self._habits[habit] = _Share(_PRIOR[habit[1]], _HABIT_WEIGHT, _HABIT_MEMORY)
        return found

    def _expire(self, now: float) -> None:
        """What was not asked for in time is not asked for again; nor is what there is no place for."""
        known = self._known
        while known:
            digest, prefix = next(iter(known.items()))
            is_late = now - prefix.seen > self.terms.ttl_s
            if not is_late and len(known) <= _MOST:
                return
            del known[digest]
            if is_late:
                self._habit(prefix.habit).add(yes=False)
