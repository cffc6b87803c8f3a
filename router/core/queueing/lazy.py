"""A heap whose dead are buried when they come to the top, or when they are most of it."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

_FEW = 64

T = TypeVar("T")


class LazyHeap(Generic[T]):
    """Items by a key; `is_live` says of a key and its item whether they still count. Push and look are O(log n), over
    many, and it never holds more than twice the items that count, and a few."""

    __slots__ = ("_bury_at", "_heap", "_is_live", "_pushed")

    def __init__(self, is_live: Callable[[float, T], bool]) -> None:
        self._is_live = is_live
        self._heap: list[tuple[float, int, T]] = []
        self._pushed = 0
        self._bury_at = _FEW

    def push(self, key: float, item: T) -> None:
        """Have this too."""
        self._pushed += 1
        if len(self._heap) >= self._bury_at:
            self._heap = [row for row in self._heap if self._is_live(row[0], row[2])]
            heapify(self._heap)
            self._bury_at = 2 * len(self._heap) + _FEW
        heappush(self._heap, (key, self._pushed, item))

    def least(self) -> tuple[float, T] | None:
        """Least key that counts, and its item; of equal keys the one that came first."""
        heap = self._heap
        while heap:
            key, _, item = heap[0]
            if self._is_live(key, item):
                return key, item
            heappop(heap)
        return None
