"""Who changed what, when and why: one JSON object a line in `history.jsonl`, for people and for audits.

Two shares are bounded apart, so that what the controller moves often (limits, prices, learned ceilings) never pushes
out what people changed (policies, their rollouts, budgets). A line is appended whole; one that a crash cut is skipped
by whoever reads, and closed off by whoever writes next. When a share has outgrown its bound the file is written anew
beside itself and renamed.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from time import time

import msgspec
import structlog

from router.domain.events import Event, PolicySource
from router.storage.history_entries import ENTRIES, OFTEN, Entry, entry_of, read_history, started
from router.storage.lines import ends_whole

ENTRIES_MAX = 10_000
_SLACK = 4
"""A share may outgrow its bound by one part in so many before the file is written anew."""


class History:
    """A subscriber of the telemetry sink. `entries` bounds each of the two shares; a thread of its own writes."""

    name = "history"

    def __init__(self, path: Path, *, entries: int = ENTRIES_MAX, wall: Callable[[], float] = time) -> None:
        self._wall = wall
        self._batch: list[Entry] = []
        self._batches: SimpleQueue[list[Entry] | None] = SimpleQueue()
        self._file = _File(path, entries)
        self._thread = Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    def handlers(self) -> dict[type[Event], Callable[..., None]]:
        """The events that are changes."""
        return dict.fromkeys(ENTRIES, self._on)

    def begin(self, digest: str, source: PolicySource) -> None:
        """The router has started with this policy, which may have changed while it was down."""
        self._batch.append(started(digest, source, self._wall()))

    def flush(self) -> None:
        """Hand what was gathered to the writer."""
        if self._batch:
            self._batches.put(self._batch)
            self._batch = []

    def close(self) -> None:
        """Write what is left and end the thread; blocks until it has."""
        self.flush()
        self._batches.put(None)
        self._thread.join()

    def _on(self, event: Event) -> None:
        self._batch.append(entry_of(event, self._wall()))

    def _run(self) -> None:
        self._file.guarded(self._file.open)
        while (batch := self._batches.get()) is not None:
            self._file.guarded(partial(self._file.append, batch))


class _File:
    """The file, used by the writer's thread alone. A disk that refuses is said once; its entries are lost."""

    def __init__(self, path: Path, entries: int) -> None:
        self._path, self._entries = path, entries
        self._counts: Counter[bool] = Counter()
        self._is_told = False

    def guarded(self, step: Callable[[], None]) -> None:
        """Do it, or say that the disk refuses."""
        try:
            step()
        except OSError as error:
            if not self._is_told:
                structlog.get_logger("router.history").error("history_failed", error=str(error))
            self._is_told = True

    def open(self) -> None:
        """Count what is there."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.with_suffix(".new").unlink(missing_ok=True)
        self._counts = Counter(entry.what in OFTEN for entry in read_history(self._path))
        self._trim()

    def append(self, entries: list[Entry]) -> None:
        """Write whole lines, after closing off one that was cut; and the file anew where a share has outgrown its
        bound."""
        with self._path.open("ab") as file:
            if file.tell() and not ends_whole(self._path):
                file.write(b"\n")
            file.write(b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries))
        self._counts.update(entry.what in OFTEN for entry in entries)
        self._trim()

    def _trim(self) -> None:
        most = self._entries + max(self._entries // _SLACK, 1)
        if max(self._counts.values(), default=0) <= most:
            return
        kept = {share: deque[tuple[int, Entry]](maxlen=self._entries) for share in (False, True)}
        for number, entry in enumerate(read_history(self._path)):
            kept[entry.what in OFTEN].append((number, entry))
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            for _, entry in sorted((*kept[False], *kept[True]), key=lambda pair: pair[0]):
                file.write(msgspec.json.encode(entry) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        self._counts = Counter({share: len(entries) for share, entries in kept.items()})
