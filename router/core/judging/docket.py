"""Verdicts on their way: who spoke first, who goes before whom, and how far they are apart."""

from __future__ import annotations

from collections import OrderedDict
from heapq import heappop, heappush
from math import isfinite

from msgspec import Struct
from msgspec.structs import replace

from router.core.evidence import Remembered
from router.domain.events import JudgeCompared
from router.domain.slo import Judge

ADEQUATE = 0.5
"""Quality from which on an answer is adequate, as feedback is taken."""
_MOST = 10_000
_MEMORY = 200.0
"""Comparisons that the figures of a judge stand for."""


class Verdict(Struct, frozen=True):
    """What a judge said, when it counts, and with what probability its decision was drawn."""

    decision_id: str
    quality: float
    propensity: float


class _Entry(Struct, frozen=True):
    """One answer that a judge was asked about. `told` is the sender's word, `known` what the verdict has taught."""

    judge: str
    request_class: str
    propensity: float
    quality: float | None = None
    told: float | None = None
    known: Remembered | None = None


class Docket:
    """Answers that are being judged, oldest forgotten first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._waiting: list[tuple[float, str]] = []
        self._compared: list[JudgeCompared] = []
        self._agreement: dict[str, list[float]] = {}

    def expect(self, decision_id: str, judge: Judge, name: str, request_class: str) -> None:
        """A judge is about to be asked; `name` is the deployment."""
        self._entries[decision_id] = _Entry(name, request_class, judge.share_ratio)
        if len(self._entries) > _MOST:
            self._entries.popitem(last=False)

    def forget(self, decision_id: str) -> None:
        """There will be no verdict."""
        self._entries.pop(decision_id, None)

    def on_verdict(self, decision_id: str, quality: float, *, due: float) -> None:
        """The judge spoke. Its verdict counts from `due` on, unless the sender has spoken or speaks before that."""
        entry = self._entries.get(decision_id)
        if entry is None:
            return
        self._entries[decision_id] = entry = replace(entry, quality=quality)
        if entry.told is not None:
            self._compare(decision_id, entry, entry.told)
        else:
            heappush(self._waiting, (due, decision_id))

    def due(self, now: float) -> list[Verdict]:
        """The verdicts that count now. Each is given out once."""
        ready: list[Verdict] = []
        while self._waiting and self._waiting[0][0] <= now:
            _, decision_id = heappop(self._waiting)
            entry = self._entries.get(decision_id)
            if entry is not None and entry.quality is not None:
                ready.append(Verdict(decision_id, entry.quality, entry.propensity))
        return ready

    def on_taught(self, decision_id: str, known: Remembered) -> None:
        """A verdict has been learned from: what it taught of is kept for a sender who speaks later."""
        entry = self._entries.get(decision_id)
        if entry is not None:
            self._entries[decision_id] = replace(entry, known=known)

    def on_told(self, decision_id: str, quality: float) -> tuple[Remembered | None, bool]:
        """The sender spoke. Where a verdict has been learned from already: what it taught of, and whether the sender
        says otherwise; only then is there more to learn."""
        entry = self._entries.get(decision_id)
        if entry is None or entry.told is not None:
            return None, False
        if entry.quality is None:
            self._entries[decision_id] = replace(entry, told=quality)
            return None, False
        self._compare(decision_id, entry, quality)
        return entry.known, _agree(entry.quality, quality) < 1.0

    def _compare(self, decision_id: str, entry: _Entry, told: float) -> None:
        judged = entry.quality
        assert judged is not None
        del self._entries[decision_id]
        row = self._agreement.setdefault(entry.judge, [0.0, 0.0, 0.0])
        row[0] += 1.0
        share = 1.0 / min(row[0], _MEMORY)
        row[1] += share * (judged - told - row[1])
        row[2] += share * (_agree(judged, told) - row[2])
        figures = (int(row[0]), row[1], row[2])
        self._compared.append(JudgeCompared(entry.request_class, entry.judge, decision_id, judged, told, *figures))

    def compared(self) -> list[JudgeCompared]:
        """Comparisons since this was last asked."""
        found, self._compared = self._compared, []
        return found

    def state(self) -> dict[str, list[float]]:
        """What a checkpoint keeps, by judge: comparisons, mean difference, share agreed."""
        return {judge: row.copy() for judge, row in self._agreement.items()}

    def restore(self, state: dict[str, list[float]]) -> None:
        """Take up a checkpoint; raises `ValueError` where it is not one."""
        rows: dict[str, list[float]] = {}
        for judge, (compared, difference, agreed) in state.items():
            if not all(map(isfinite, (compared, difference, agreed))):
                raise ValueError("what is known of a judge is not finite")
            rows[judge] = [max(compared, 0.0), min(max(difference, -1.0), 1.0), min(max(agreed, 0.0), 1.0)]
        self._agreement = rows


def _agree(judged: float, told: float) -> float:
    return float((judged >= ADEQUATE) == (told >= ADEQUATE))
