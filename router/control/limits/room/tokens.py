"""How many tokens may a deployment hold at once, contexts and waiting prompts together?

A server keeps the context of every sequence in memory (the KV cache); calls differ in length, so a number of calls says
little of it. The bound is what the operator wrote, or is learned from the signs of a full memory: a refusal with fewer
calls in flight than it has taken before but more tokens than ever; calls that stand still for many gaps while others go
on, which is what a server does that puts sequences off (vLLM calls it preemption); prompts that are let in late
(`late`). A server that tells the used share of its memory needs to give none of them.
"""

from __future__ import annotations

import math

from router.control.limits.ceiling import Ceiling
from router.control.limits.stand import TOKENS
from router.domain.events import LimitUpdate
from router.stats.ewma import Ewma

_MOST, _FEWER = 0.9, 0.8
"""Of the most tokens, and of the most calls, that it has taken."""
_LEAST_TOLD, _TOLD_SHARE = 0.3, 0.1
"""A used share that is worth reading, and how far one reading moves what is known."""
_WORTH_TELLING = 0.05
_FORGET = 0.9995
"""What is left of either after a heartbeat without as many: half after about two minutes."""
_STALL_TIMES, _STALL_S = 8.0, 1.0
"""A piece of an answer that takes so many times as long as usual, and this long, stood still."""
_USUAL_HALF_LIFE_S = 5.0
_TOGETHER_S = 10.0
_OTHERS = 5
"""Pieces at the usual pace between two that stood still: the others went on."""


class TokenLimit:
    """The bound on tokens of one deployment; `None` where nothing is known of it."""

    __slots__ = (
        "_ceiling",
        "_deployment",
        "_most_calls",
        "_most_tokens",
        "_others",
        "_owed",
        "_said",
        "_stalled",
        "_told",
        "_usual",
        "is_advice",
        "stated",
    )

    def __init__(self, deployment: str, stated: int | None, *, is_advice: bool = False) -> None:
        self._deployment = deployment
        self.stated, self.is_advice = stated, is_advice
        self._ceiling = Ceiling()
        self._most_calls = self._most_tokens = 0.0
        self._usual: Ewma | None = None
        self._stalled: float | None = None
        self._others = 0
        self._told: float | None = None
        """Size of the server's memory by its telemetry, in tokens of ours."""
        self._said: float | None = stated
        self._owed: LimitUpdate | None = None

    @property
    def value(self) -> float | None:
        """Tokens that may be held: where it is only advised, what is stated."""
        if self.is_advice or (self._told is None and self._ceiling.value == math.inf):
            return self.stated
        return self._learned

    @property
    def _learned(self) -> float | None:
        learned = self._ceiling.value
        if self._told is not None:
            learned = min(learned, self._told)
        if math.isinf(learned):
            return self.stated
        return learned if self.stated is None else min(learned, self.stated)

    def beat(self, calls: int, tokens: float, *, now: float) -> LimitUpdate | None:
        """What it holds at a heartbeat; says how the bound has moved since the last."""
        self._ceiling.beat(tokens, now=now)
        self._most_calls = max(calls, _FORGET * self._most_calls)
        self._most_tokens = max(tokens, _FORGET * self._most_tokens)
        owed, self._owed = self._owed, None
        return owed

    def on_refused(self, calls: int, tokens: float, *, now: float) -> bool:
        """A call was refused beside so many others; whether their tokens are what it was refused for."""
        if calls > _FEWER * self._most_calls or not self._is_full(tokens):
            return False
        self._cut(tokens, "refused", now=now)
        return True

    def observe_gap(self, gap_s: float, window_s: float, tokens: float, *, now: float) -> None:
        """A piece of an answer took `window_s`, `gap_s` a token, while `tokens` were held."""
        usual = self._usual
        if usual is None:
            self._usual = Ewma(_USUAL_HALF_LIFE_S, mean=gap_s)
            return
        if gap_s < _STALL_TIMES * usual.mean or window_s < _STALL_S:
            usual.update(gap_s, now=now)
            self._others += 1
            return
        before, self._stalled = self._stalled, now
        others, self._others = self._others, 0
        is_again = before is not None and now - before < _TOGETHER_S and others >= _OTHERS
        if is_again and self._is_full(tokens):
            self._cut(tokens, "calls stood still", now=now)

    def on_full(self, held: float) -> None:
        """The server was seen to hold so many tokens, and no more."""
        self._ceiling.on_full(held)
        self._tell_move(held, "full")

    def tell(self, held: float, used_ratio: float) -> None:
        """Telemetry as of when `held` tokens of ours, and nobody else's, took up this share of the server's memory. A
        small share tells no size, only that it is no smaller than that."""
        if held <= 0.0 or (used_ratio < _LEAST_TOLD and held <= _LEAST_TOLD * (self._told or math.inf)):
            return
        size = held / max(used_ratio, _LEAST_TOLD)
        self._told = size if self._told is None else self._told + _TOLD_SHARE * (size - self._told)
        self._tell_move(size, "telemetry")

    def on_untold(self) -> None:
        """The server tells its load no more: what it told is tried again as carefully as any ceiling."""
        if self._told is not None:
            self._ceiling.on_full(min(self._told, self._ceiling.value))
            self._told = None

    def _tell_move(self, seen: float, reason: str) -> None:
        after = self._learned or 0.0
        if self._said is None or abs(after - self._said) > _WORTH_TELLING * self._said:
            self._say(seen if self._said is None else self._said, reason)

    def _is_full(self, tokens: float) -> bool:
        return tokens > 0.0 and tokens >= _MOST * self._most_tokens

    def _cut(self, tokens: float, reason: str, *, now: float) -> None:
        old = self._learned
        self._ceiling.on_refused(tokens, now=now)
        self._say(tokens if old is None else old, reason)

    def _say(self, before: float, reason: str) -> None:
        self._said = self._learned or 0.0
        self._owed = LimitUpdate(self._deployment, TOKENS, before, self._said, reason, self.is_advice)
