"""The decision log as it lies on disk, and how it is read.

`decisions.jsonl` is being written; `decisions-00000001.jsonl.gz` and so on are older, oldest first. One JSON
object a line, `record` and `version` first. A `decision` is the pick with its evidence as it was made;
`attempt` (a call that did not complete), `check`, `outcome`, `feedback` and `judged` follow when they happen and are
joined by decision id on reading. Records are only ever appended, so a crash can spoil no more than the last line, which
is left out. No prompt and no answer is in any of them.
"""

from __future__ import annotations

import gzip
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from os import SEEK_END, fstat
from os.path import samestat
from pathlib import Path
from typing import BinaryIO, cast

import msgspec
from msgspec import Struct

from router.domain.decision import Decision
from router.domain.errors import RouterError
from router.domain.events import SENDER

VERSION = 1
CURRENT = "decisions.jsonl"
ARCHIVES = "decisions-*.jsonl*"


class Record(Struct, frozen=True, tag_field="record", tag=str.lower):
    """Base of the records; `version` says which schema a line was written under."""


class DecisionRecord(Record, frozen=True, tag="decision"):
    """One pick, as it was made."""

    version: int
    decision: Decision


class AttemptRecord(Record, frozen=True, tag="attempt"):
    """A call that failed or was cancelled."""

    version: int
    decision_id: str
    deployment: str
    number: int
    ending: str
    code: str | None
    first_token_s: float | None
    output_tokens: int
    cost_usd: float
    at: float = 0.0
    cost_source: str = ""


class OutcomeRecord(Record, frozen=True, tag="outcome"):
    """How the request of a decision ended."""

    version: int
    decision_id: str
    at: float
    status: str
    code: str | None
    deployment: str
    model: str
    tier: str
    attempts: int
    ttft_s: float | None
    tpot_s: float | None
    e2e_s: float
    queue_s: float
    overhead_s: float
    input_tokens: int
    output_tokens: int
    cost_usd: float
    baseline_cost_usd: float
    met: tuple[tuple[str, bool], ...]
    slo_met: bool
    answer_cost_usd: float | None = None
    """What of `cost_usd` the call cost that answered; the others have a record of their own."""
    cost_source: str = ""
    """Where the prices are from that make `cost_usd`; empty where nothing was paid."""


class FeedbackRecord(Record, frozen=True, tag="feedback"):
    """A quality in [0,1], told at wall time `at` by the sender or by a judge; a judge was asked with `propensity`."""

    version: int
    decision_id: str
    quality: float
    at: float
    source: str = SENDER
    propensity: float | None = None


class JudgedRecord(Record, frozen=True, tag="judged"):
    """An answer that was drawn, with `propensity`, to be judged, and what came of it: `domain.events.AnswerJudged` has
    the words. `call_id` and `account` are empty where no call was made."""

    version: int
    decision_id: str
    judge: str
    verdict: str
    quality: float | None
    propensity: float
    cost_usd: float
    at: float
    call_id: str = ""
    account: str = ""


class CheckRecord(Record, frozen=True, tag="check"):
    """What the checks said of the answer of a decision before it was sent: pass or fail by check, in order, and
    P(adequate) before and after. `escalated`: it was made again, by a decision of its own with which the outcome is;
    `propensity` is the probability of that, or of sending it where it was sent."""

    version: int
    decision_id: str
    deployment: str
    grades: tuple[tuple[str, str], ...]
    p_adequate_before: float
    p_adequate_after: float
    escalated: bool
    propensity: float = 1.0


AnyRecord = DecisionRecord | AttemptRecord | OutcomeRecord | FeedbackRecord | CheckRecord | JudgedRecord
_DECODER = msgspec.json.Decoder(AnyRecord)
_DECISION = b'{"record":"decision",'


class Logged(Struct, frozen=True):
    """A decision and what became of it; `outcome` is `None` while it runs, or if a crash cut it off."""

    decision: Decision
    attempts: tuple[AttemptRecord, ...] = ()
    outcome: OutcomeRecord | None = None
    feedback: tuple[FeedbackRecord, ...] = ()
    check: CheckRecord | None = None
    judged: JudgedRecord | None = None


def _ignore(_path: Path, _line: int) -> None:
    """Leave a line out without a word."""


def decision_folder(state: Path) -> Path:
    """Where the log lies in the state directory."""
    return state / "decisions"


def log_files(folder: Path) -> tuple[Path, ...]:
    """The files of a log, oldest first; an archive that was being compressed is named once."""
    archives = {path.name.partition(".")[0]: path for path in sorted(folder.glob(ARCHIVES)) if _is_log(path)}
    current = folder / CURRENT
    return (*(archives[name] for name in sorted(archives)), *((current,) if current.exists() else ()))


def find_log(log: Path) -> tuple[Path, ...]:
    """The files of what a person names: a state directory, its folder of decisions, or one file of them."""
    if log.is_file():
        return (log,)
    files = log_files(decision_folder(log)) or log_files(log)
    if not files:
        raise RouterError(f"{log}: no decision log here; name the daemon's state directory, or a decisions*.jsonl file")
    return files


def read_record(line: bytes) -> AnyRecord | None:
    """One line; `None` if it is torn, or of a schema this version does not know."""
    try:
        record = _DECODER.decode(line)
    except msgspec.DecodeError:
        return None
    return record if record.version == VERSION else None


def read_decisions(paths: Iterable[Path], *, skipped: Callable[[Path, int], None] = _ignore) -> Iterator[Logged]:
    """Every decision in the order made, joined with its outcome and feedback wherever in `paths` those are.

    Two passes over open files, so that a rotation in between changes nothing: first what followed the
    decisions, which is small, then the decisions. `skipped` is told the file and the line number (from 1) of
    what cannot be read.
    """
    aftermath = _Aftermath()
    with ExitStack() as stack:
        files = [(path, stack.enter_context(open_log(path))) for path in paths]
        for path, file in files:
            for number, line in read_lines(path, file, skipped):
                if not line.startswith(_DECISION) and not aftermath.add(read_record(line)):
                    skipped(path, number)
        for path, file in files:
            file.seek(0)
            for number, line in read_lines(path, file, _ignore):
                if not line.startswith(_DECISION):
                    continue
                record = read_record(line)
                if isinstance(record, DecisionRecord):
                    yield aftermath.join(record.decision)
                else:
                    skipped(path, number)


def read_last(paths: Sequence[Path], decisions: int) -> list[Logged]:
    """The last so many decisions, in the order made; no older file is read than they lie in."""
    recent: list[Path] = []
    found = 0
    for path in reversed(paths):
        if found >= decisions:
            break
        recent.insert(0, path)
        with open_log(path) as file:
            found += sum(line.startswith(_DECISION) for _, line in read_lines(path, file))
    return list(deque(read_decisions(recent), maxlen=decisions))


class _Aftermath:
    """What followed the decisions, by decision id."""

    def __init__(self) -> None:
        self._attempts: defaultdict[str, list[AttemptRecord]] = defaultdict(list)
        self._outcomes: dict[str, OutcomeRecord] = {}
        self._feedback: defaultdict[str, list[FeedbackRecord]] = defaultdict(list)
        self._checks: dict[str, CheckRecord] = {}
        self._judged: dict[str, JudgedRecord] = {}

    def add(self, record: AnyRecord | None) -> bool:
        """Keep a record; false if it is not one that follows a decision."""
        match record:
            case AttemptRecord():
                self._attempts[record.decision_id].append(record)
            case OutcomeRecord():
                self._outcomes[record.decision_id] = record
            case FeedbackRecord():
                self._feedback[record.decision_id].append(record)
            case CheckRecord():
                self._checks[record.decision_id] = record
            case JudgedRecord():
                self._judged[record.decision_id] = record
            case _:
                return False
        return True

    def join(self, decision: Decision) -> Logged:
        """The decision with all that is kept under its id; what the sender told stands before a judge's verdict."""
        return Logged(
            decision,
            tuple(self._attempts.get(decision.id, ())),
            self._outcomes.get(decision.id),
            tuple(sorted(self._feedback.get(decision.id, ()), key=lambda told: told.source != SENDER)),
            self._checks.get(decision.id),
            self._judged.get(decision.id),
        )


def follow_records(folder: Path, *, wait: Callable[[], None]) -> Iterator[AnyRecord]:
    """Records as they are written from now on, across rotations; `wait` is called while there are none.

    The file is held open, so it is read to its end even after it was rotated away.
    """
    path = folder / CURRENT
    file = _newer(path, None)
    if file is not None:
        file.seek(0, SEEK_END)
    torn = b""
    try:
        while True:
            newer = _newer(path, file)
            text = b"" if file is None else torn + file.read()
            whole, _, torn = text.rpartition(b"\n")
            yield from filter(None, map(read_record, whole.splitlines()))
            if newer is not None:
                if file is not None:
                    file.close()
                file, torn = newer, b""
            elif not whole:
                wait()
    finally:
        if file is not None:
            file.close()


def _newer(path: Path, file: BinaryIO | None) -> BinaryIO | None:
    """The file now at `path`, opened, unless it is the one already open or there is none."""
    try:
        found = path.open("rb")
    except FileNotFoundError:
        return None
    if file is not None and samestat(fstat(found.fileno()), fstat(file.fileno())):
        found.close()
        return None
    return found


def _is_log(path: Path) -> bool:
    return path.name.endswith((".jsonl", ".jsonl.gz"))


def open_log(path: Path) -> BinaryIO:
    """A file of a log, unpacked."""
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def read_lines(
    path: Path, file: BinaryIO, skipped: Callable[[Path, int], None] = _ignore
) -> Iterator[tuple[int, bytes]]:
    """Its lines that are not empty, by number from 1, as far as they can be unpacked."""
    number = 0
    try:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error):
        skipped(path, number + 1)
