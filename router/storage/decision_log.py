"""Writes the decision log: gathers events on the loop, encodes and appends them on a thread of its own.

Nothing here is waited for by a request. A queue that is full (the disk is slower than the traffic) and a disk
that refuses lose records, which are counted in `lost`. Files are rotated by size, compressed, and the oldest
removed.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from time import time
from typing import BinaryIO

import msgspec
import structlog

from router.domain.events import (
    CACHE,
    JUDGE,
    AnswerJudged,
    AttemptEnded,
    CascadeChecked,
    DecisionMade,
    Event,
    FeedbackReceived,
    RequestEnded,
)
from router.domain.outcome import Ending
from router.storage.decision_records import (
    ARCHIVES,
    CURRENT,
    VERSION,
    AttemptRecord,
    CheckRecord,
    DecisionRecord,
    FeedbackRecord,
    JudgedRecord,
    OutcomeRecord,
    Record,
)
from router.storage.lines import ends_whole


class DecisionLog:
    """A subscriber of the telemetry sink that keeps every decision under `folder`.

    `max_bytes` is the size a file is rotated at, `keep` how many old ones stay, `max_waiting` how many events
    may wait for the disk.
    """

    name = "decision_log"

    def __init__(self, folder: Path, *, max_bytes: int = 64 << 20, keep: int = 16, max_waiting: int = 50_000) -> None:
        self.folder = folder
        self._max_waiting = max_waiting
        self._batch: list[Event] = []
        self._taken = 0
        self._refused = 0
        self._batches: SimpleQueue[list[Event] | None] = SimpleQueue()
        self._files = _Files(folder, max_bytes, keep)
        self._thread = Thread(target=self._run, name="decision-log", daemon=True)
        self._thread.start()

    @property
    def written(self) -> int:
        """Records that reached the file."""
        return self._files.written

    @property
    def lost(self) -> int:
        """Records lost to a full queue or a refusing disk."""
        return self._refused + self._files.lost

    def handlers(self) -> dict[type[Event], Callable[..., None]]:
        """The events that are kept."""
        return {
            DecisionMade: self._batch.append,
            RequestEnded: self._on_ended,
            FeedbackReceived: self._on_feedback,
            AttemptEnded: self._on_attempt,
            CascadeChecked: self._batch.append,
            AnswerJudged: self._batch.append,
        }

    def flush(self) -> None:
        """Hand the batch to the writer."""
        if not self._batch:
            return
        if self._taken - self._files.seen + len(self._batch) > self._max_waiting:
            self._refused += len(self._batch)
        else:
            self._taken += len(self._batch)
            self._batches.put(self._batch.copy())
        self._batch.clear()

    def close(self) -> None:
        """Write what is left and end the thread; blocks until it is on its way to the disk."""
        self.flush()
        self._batches.put(None)
        self._thread.join()

    def _on_attempt(self, event: AttemptEnded) -> None:
        """What was asked of a judge has a record of its own, and is no call of the decision."""
        if event.outcome.ending is not Ending.COMPLETED and event.outcome.attempt.request.source != JUDGE:
            self._batch.append(event)

    def _on_ended(self, event: RequestEnded) -> None:
        """An answer from the cache is no outcome of the decision that made it: that one has its own."""
        if event.deployment != CACHE:
            self._batch.append(event)

    def _on_feedback(self, event: FeedbackReceived) -> None:
        if event.known:
            self._batch.append(event)

    def _run(self) -> None:
        self._files.tidy()
        while (batch := self._batches.get()) is not None:
            self._files.append(batch)
        self._files.close()


class _Files:
    """The files, used by the writer's thread alone; the counters are read by others."""

    def __init__(self, folder: Path, max_bytes: int, keep: int) -> None:
        self._folder, self._max_bytes, self._keep = folder, max_bytes, keep
        self._path = folder / CURRENT
        self._file: BinaryIO | None = None
        self._encoder = msgspec.json.Encoder()
        folder.mkdir(parents=True, exist_ok=True)
        self.seen = self.written = self.lost = 0
        self._said = False

    def append(self, batch: list[Event]) -> None:
        """Encode and write one batch; rotate when the file has grown enough."""
        try:
            file = self._file = self._file or self._open()
            file.write(b"".join(self._encoded(batch)))
            file.flush()
        except OSError as error:
            self._failed(error)
            self.lost += len(batch)
            self.close()
        else:
            self.written += len(batch)
            self._rotate(file.tell())
        self.seen += len(batch)

    def close(self) -> None:
        """Close the current file."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                self._failed(error)

    def tidy(self) -> None:
        """Finish what a crash in the middle of a rotation left, and remove the oldest archives."""
        try:
            self._tidy()
        except OSError as error:
            self._failed(error)

    def _tidy(self) -> None:
        for leftover in self._folder.glob("*.tmp"):
            leftover.unlink(missing_ok=True)
        for plain in sorted(self._folder.glob("decisions-*.jsonl")):
            _compress(plain)
        archives = sorted(self._folder.glob(ARCHIVES))
        for old in archives[: max(0, len(archives) - self._keep)]:
            old.unlink(missing_ok=True)

    def _encoded(self, batch: list[Event]) -> Iterator[bytes]:
        for event in batch:
            yield self._encoder.encode(_RECORDS[type(event)](event))
            yield b"\n"

    def _open(self) -> BinaryIO:
        file = self._path.open("ab")
        if file.tell() and not ends_whole(self._path):
            file.write(b"\n")
        return file

    def _rotate(self, size: int) -> None:
        if size < self._max_bytes:
            return
        self.close()
        last = max((_number(path) for path in self._folder.glob(ARCHIVES)), default=0)
        try:
            self._path.rename(self._folder / f"decisions-{last + 1:08d}.jsonl")
            self._tidy()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        if not self._said:
            structlog.get_logger().error("decision_log_failed", error=repr(error))
        self._said = True


def _decision(event: DecisionMade) -> Record:
    return DecisionRecord(VERSION, event.decision)


def _feedback(event: FeedbackReceived) -> Record:
    return FeedbackRecord(VERSION, event.decision_id, event.quality, time(), event.source, event.propensity)


def _attempt(event: AttemptEnded) -> Record:
    outcome, request = event.outcome, event.outcome.attempt.request
    return AttemptRecord(
        version=VERSION,
        decision_id=outcome.attempt.decision_id,
        deployment=outcome.attempt.deployment.name,
        number=outcome.attempt.number,
        ending=outcome.ending.value,
        code=outcome.error_code,
        first_token_s=event.first_token_s,
        output_tokens=outcome.output_tokens,
        cost_usd=outcome.cost_usd,
        cost_source=outcome.cost_source if outcome.cost_usd else "",
        at=request.at + (outcome.ended - request.arrived),
    )


def _outcome(event: RequestEnded) -> Record:
    return OutcomeRecord(
        version=VERSION,
        decision_id=event.decision_id,
        at=event.at,
        status=event.status,
        code=event.code,
        deployment=event.deployment,
        model=event.model,
        tier=event.tier,
        attempts=event.attempts,
        ttft_s=event.ttft_s,
        tpot_s=event.tpot_s,
        e2e_s=event.e2e_s,
        queue_s=event.queue_s,
        overhead_s=event.overhead_s,
        input_tokens=event.input_tokens,
        output_tokens=event.output_tokens,
        cost_usd=event.cost_usd,
        baseline_cost_usd=event.baseline_cost_usd,
        met=event.met,
        slo_met=event.slo_met,
        answer_cost_usd=event.answer_cost_usd,
        cost_source=event.cost_source,
    )


def _check(event: CascadeChecked) -> Record:
    return CheckRecord(
        version=VERSION,
        decision_id=event.decision_id,
        deployment=event.deployment,
        grades=event.grades,
        p_adequate_before=event.p_adequate_before,
        p_adequate_after=event.p_adequate_after,
        escalated=event.escalated,
        propensity=event.propensity,
    )


def _judged(event: AnswerJudged) -> Record:
    return JudgedRecord(
        version=VERSION,
        decision_id=event.decision_id,
        judge=event.judge,
        verdict=event.verdict,
        quality=event.quality,
        propensity=event.propensity,
        cost_usd=event.cost_usd,
        at=event.at,
        call_id=event.call_id,
        account=event.account if event.call_id else "",
    )


_RECORDS: dict[type[Event], Callable[..., Record]] = {
    DecisionMade: _decision,
    RequestEnded: _outcome,
    AttemptEnded: _attempt,
    FeedbackReceived: _feedback,
    CascadeChecked: _check,
    AnswerJudged: _judged,
}


def _number(path: Path) -> int:
    digits = path.name.removeprefix("decisions-").partition(".")[0]
    return int(digits) if digits.isdigit() else 0


def _compress(plain: Path) -> None:
    packed = plain.with_name(plain.name + ".gz")
    unfinished = plain.with_name(plain.name + ".gz.tmp")
    if not packed.exists():
        with plain.open("rb") as source, gzip.open(unfinished, "wb", compresslevel=6) as target:
            shutil.copyfileobj(source, target)
        unfinished.replace(packed)
    plain.unlink(missing_ok=True)
