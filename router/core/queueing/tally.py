"""How many wait of each class or tenant, and how long the longest has."""

from __future__ import annotations

from collections import Counter, deque

from router.core.queueing.fair import Entry

_FEW = 64

Row = tuple[str, int, float]


class Tally:
    """Names with those who wait for room under them; nothing is kept of a name under which nobody waits."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._since: dict[str, deque[tuple[float, Entry]]] = {}
        self._patient_since: dict[int, float] = {}

    def begin(self, name: str, entry: Entry, now: float) -> None:
        """Its patience begins; `now` never goes back."""
        self.counts[name] += 1
        rows = self._since.setdefault(name, deque())
        if len(rows) > 2 * self.counts[name] + _FEW:
            rows = self._since[name] = deque(row for row in rows if self._counts(row))
        rows.append((now, entry))
        self._patient_since[entry.number] = now

    def end(self, name: str, entry: Entry) -> None:
        """It waits for room no longer."""
        del self._patient_since[entry.number]
        self.counts[name] -= 1
        if not self.counts[name]:
            del self.counts[name], self._since[name]

    def _counts(self, row: tuple[float, Entry]) -> bool:
        return self._patient_since.get(row[1].number) == row[0]

    def oldest_s(self, name: str, now: float) -> float:
        """How long the longest has waited; 0 where nobody does."""
        rows = self._since.get(name)
        while rows and not self._counts(rows[0]):
            rows.popleft()
        return now - rows[0][0] if rows else 0.0

    def longest_s(self, now: float) -> float:
        """How long the longest of all has waited; 0 where nobody does."""
        return max((self.oldest_s(name, now) for name in self._since), default=0.0)

    def rows(self, now: float, most: int) -> tuple[Row, ...]:
        """Name, number and age of those with most waiting, at most so many names."""
        return tuple((name, count, self.oldest_s(name, now)) for name, count in self.counts.most_common(most))
