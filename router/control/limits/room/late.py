"""When is a server full although it is quick? Prompts wait before it while tokens come as fast as ever.

A server takes a prompt in when its memory has room for the context and a sequence is free; until then the prompt waits
and slows nobody down. So first tokens much later than the load explains, beside answers that keep their pace, show what
the server held when it took each in: about as many tokens every time where memory is full, as many calls where
sequences are. What differs less from one to the next is what there is no more of.

A server that is late for another reason (a prior that does not fit it, a gateway before it) is late at every load: so
what it holds when it is late must differ less than chance explains, and it must have been in time with less.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence

from msgspec import Struct

from router.control.limits.ceiling import Ceiling
from router.control.limits.stand import REQUESTS
from router.domain.events import LimitUpdate

_LATE_TIMES, _LATE_S = 3.0, 0.1
"""So many times what was predicted, and this long: predictions are not as far off as that."""
_USUAL_PACE = 1.6
"""A server that decodes so many times slower than its shape is slow, not full."""
_MEMORY_S, _IN_TIME_MEMORY_S = 60.0, 300.0
_LEAST, _LEAST_S, _LEAST_CALLS = 8, 5.0, 3.0
"""So many late first tokens, over at least this time, beside so many calls in the mean, are believed."""
_ALIKE, _OF_CHANCE = 0.05, 0.3
"""Relative spread up to which what was held counts as the same, and as a part of that of calls that come by chance (one
over the root of their number). Of a full memory it is some .015 in tokens, and .08 in calls, where chance has .14."""
_LESS, _IN_TIME = 0.9, 8
"""So many first tokens must have come in time with at most this part of what is held when they are late."""
_WORTH_TELLING = 0.05
_APART_S = 0.25
"""First tokens that come closer together tell the same: one of them is kept, or a busy server would never be looked at
for long enough."""
_SEEN, _KEPT = 32, 1200


class FirstToken(Struct, frozen=True, gc=False):
    """One first token: how long it took and was predicted to take, how many times slower than its shape the server
    decodes, and the calls and tokens that have been taken in, this call among them."""

    waited_s: float
    predicted_s: float
    slower: float
    calls: int
    tokens: float


class Room:
    """How many calls one deployment takes in, where that is seen; what it says of tokens is for `TokenLimit`."""

    __slots__ = ("_calls", "_deployment", "_in_time", "_late", "_owed", "_said", "is_advice", "least")

    def __init__(self, deployment: str, *, least: float = 1.0, is_advice: bool = False) -> None:
        self._deployment, self.is_advice = deployment, is_advice
        self.least = least
        """The operator's lower bound."""
        self._calls = Ceiling()
        self._late: deque[tuple[float, FirstToken]] = deque(maxlen=_SEEN)
        self._in_time: deque[tuple[float, FirstToken]] = deque(maxlen=_KEPT)
        self._owed: LimitUpdate | None = None
        self._said = 0
        """The bound that was told last."""

    @property
    def calls(self) -> float:
        """Calls that may be in flight; infinite where nothing is known, or it is only advised."""
        return math.inf if self.is_advice else max(self._calls.value, self.least)

    def beat(self, calls: int, *, now: float) -> LimitUpdate | None:
        """Calls in flight at a heartbeat; says how the bound has moved since the last."""
        self._calls.beat(calls, now=now)
        owed, self._owed = self._owed, None
        return owed

    def observe_first_token(self, first: FirstToken, *, now: float) -> float | None:
        """Learns from a late one. Gives the tokens that the server holds and no more, where memory is full."""
        if first.waited_s < _LATE_TIMES * first.predicted_s + _LATE_S:
            _keep(self._in_time, first, now)
            return None
        if first.slower > _USUAL_PACE:
            return None
        late = self._late
        if not _keep(late, first, now):
            return None
        _forget(late, now - _MEMORY_S)
        if len(late) < _LEAST or now - late[0][0] < _LEAST_S:
            return None
        _forget(self._in_time, now - _IN_TIME_MEMORY_S)
        return self._judge([one for _, one in late], [one for _, one in self._in_time])

    def _judge(self, late: Sequence[FirstToken], in_time: Sequence[FirstToken]) -> float | None:
        calls, tokens = [one.calls for one in late], [one.tokens for one in late]
        beside = sum(calls) / len(calls)
        by_calls, by_tokens = _spread(calls), _spread(tokens)
        if beside < _LEAST_CALLS or min(by_calls, by_tokens) > min(_ALIKE, _OF_CHANCE / math.sqrt(beside)):
            return None
        if by_tokens <= by_calls:
            held = max(tokens)
            return held if _were_with_less(held, (one.tokens for one in in_time)) else None
        most = max(calls)
        if _were_with_less(most, (one.calls for one in in_time)):
            self._fill(most)
        return None

    def _fill(self, held: int) -> None:
        old = self._calls.value
        self._calls.on_full(held)
        if max(abs(old - held), abs(self._said - held)) > _WORTH_TELLING * held:
            self._said, new = held, max(held, self.least)
            before = new if math.isinf(old) else max(old, self.least)
            self._owed = LimitUpdate(self._deployment, REQUESTS, before, new, "full", self.is_advice)


def _keep(seen: deque[tuple[float, FirstToken]], first: FirstToken, now: float) -> bool:
    if seen and now - seen[-1][0] < _APART_S:
        return False
    seen.append((now, first))
    return True


def _forget(seen: deque[tuple[float, FirstToken]], before: float) -> None:
    while seen and seen[0][0] < before:
        seen.popleft()


def _were_with_less(held: float, in_time: Iterable[float]) -> bool:
    return sum(one <= _LESS * held for one in in_time) >= _IN_TIME


def _spread(held: Sequence[float]) -> float:
    """Standard deviation over the mean."""
    mean = sum(held) / len(held)
    return math.sqrt(sum((x - mean) ** 2 for x in held) / len(held)) / mean if mean > 0.0 else math.inf
