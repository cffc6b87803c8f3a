"""Answers kept for a while in memory: the least recently used goes first, by class and by bytes over all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import count

from msgspec import Struct

from router.domain.outcome import Receipt, Usage
from router.domain.slo import CacheTerms

SIZE_BYTES = 64 * 2**20
"""Most that all kept answers take together."""
ENTRY_BYTES = 1024
"""What one takes besides its text: key, receipt, counts and their places in the tables."""


class Answer(Struct, frozen=True):
    """A finished answer: the choices of the whole response, and the receipt of the request that it was made for.
    `model` is that of the deployment which made it, `p_adequate` how likely it was to be good enough."""

    choices: bytes
    usage: Usage
    receipt: Receipt
    model: str
    finish_reason: str
    p_adequate: float | None

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        return len(self.choices) + ENTRY_BYTES


class _Kept:
    __slots__ = ("answer", "expires", "used")

    def __init__(self, answer: Answer, expires: float, used: int) -> None:
        self.answer, self.expires, self.used = answer, expires, used


class Answers:
    """The answers of every class, by key. `now` gives monotonic seconds."""

    def __init__(self, now: Callable[[], float], *, size_bytes: int = SIZE_BYTES) -> None:
        self._now = now
        self._limit_bytes = size_bytes
        self._classes: dict[str, OrderedDict[bytes, _Kept]] = {}
        self._uses = count()
        self.size_bytes = 0

    def __len__(self) -> int:
        return sum(len(kept) for kept in self._classes.values())

    def get(self, request_class: str, key: bytes) -> Answer | None:
        """The answer kept under a key, unless its time is over."""
        answers = self._classes.get(request_class)
        kept = None if answers is None else answers.get(key)
        if answers is None or kept is None:
            return None
        if kept.expires <= self._now():
            self.forget(request_class, key)
            return None
        kept.used = next(self._uses)
        answers.move_to_end(key)
        return kept.answer

    def put(self, request_class: str, key: bytes, answer: Answer, terms: CacheTerms) -> None:
        """Keep an answer in place of any under the same key. One larger than all may take together is not kept."""
        self.forget(request_class, key)
        if answer.size_bytes > self._limit_bytes:
            return
        kept = self._classes.setdefault(request_class, OrderedDict())
        kept[key] = _Kept(answer, self._now() + terms.ttl_s, next(self._uses))
        self.size_bytes += answer.size_bytes
        while len(kept) > terms.max_entries:
            self.forget(request_class, next(iter(kept)))
        while self.size_bytes > self._limit_bytes:
            self.forget(*self._oldest())

    def forget(self, request_class: str, key: bytes) -> None:
        """Drop what is kept under a key, if anything is."""
        kept = self._classes.get(request_class)
        gone = None if kept is None else kept.pop(key, None)
        if gone is None:
            return
        self.size_bytes -= gone.answer.size_bytes
        if not kept:
            del self._classes[request_class]

    def _oldest(self) -> tuple[str, bytes]:
        firsts = ((name, next(iter(kept.items()))) for name, kept in self._classes.items())
        name, (key, _) = min(firsts, key=lambda first: first[1][1].used)
        return name, key
