"""What was asked for, and when: calls out of a decision log or a trace.

A call counts as demand of the model that answered it. What was refused, or sent to another model because this one was
full, is not in a log as demand of this one.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from msgspec import Struct

from router.control.newsvendor import Floats
from router.domain.errors import RouterError, WorkloadError
from router.sim.workload import Arrival, read_workload
from router.storage.decision_records import OutcomeRecord, find_log, open_log, read_lines, read_record

MOST_DAYS = 2 * 366
_DAY_S = 86_400.0


class Calls(Struct, frozen=True):
    """Wall time in seconds and tokens of each call, in order of time. `whole_start`: the record begins at the start of
    a minute, as a trace does; a log begins somewhere in it."""

    at_s: Floats
    input_tokens: Floats
    output_tokens: Floats
    whole_start: bool

    @property
    def digest(self) -> str:
        """SHA-256 over time (to the millisecond) and tokens of every call."""
        table = np.column_stack((np.rint(self.at_s * 1e3), self.input_tokens, self.output_tokens)).astype("<i8")
        return hashlib.sha256(table.tobytes()).hexdigest()


class Read(Struct, frozen=True):
    """Calls and where they came from; `notes` are what a reader should know of them."""

    kind: str
    name: str
    calls: Calls
    notes: tuple[str, ...] = ()


class _Gathered:
    """Columns as they grow."""

    def __init__(self) -> None:
        self.at, self.input, self.output = array("d"), array("d"), array("d")

    def add(self, at_s: float, input_tokens: float, output_tokens: float) -> None:
        self.at.append(at_s)
        self.input.append(input_tokens)
        self.output.append(output_tokens)

    def calls(self, where: str, *, whole_start: bool) -> Calls:
        """In order of time; raises `RouterError` where the times cannot be."""
        at, given, made = (np.frombuffer(column, dtype=np.float64) for column in (self.at, self.input, self.output))
        if not np.isfinite(at).all():
            raise RouterError(f"{where}: a time that is no number")
        days = float(np.ptp(at)) / _DAY_S
        if days > MOST_DAYS:
            raise RouterError(f"{where}: spans {days:,.0f} days; at most {MOST_DAYS}: is a clock wrong in it?")
        order = np.argsort(at, kind="stable")
        return Calls(at[order], given[order], made[order], whole_start)


def read_trace(path: Path, *, model: str, starts_s: float) -> Read:
    """A workload file as demand of one model: `arrival_s` 0 is wall time `starts_s`. Raises `WorkloadError`."""
    gathered = _Gathered()
    for row in read_workload(path).arrivals:
        gathered.add(starts_s + row.at_s, row.input_tokens, _length(row, model))
    if not gathered.at:
        raise WorkloadError(f"{path}: no request in it")
    calls = gathered.calls(str(path), whole_start=True)
    return Read("trace", path.name, calls)


def _length(row: Arrival, model: str) -> float:
    """Tokens of this model's answer; for a model that was not recorded, the mean of those that were."""
    tokens = row.output_tokens
    if isinstance(tokens, dict):
        return tokens.get(model, sum(tokens.values()) / max(1, len(tokens)))
    return tokens


def read_log(log: Path, *, model: str | None) -> tuple[Read, str]:
    """A decision log, its rotated files among it, as demand of one model, and the name of that model. Without a name
    it is the one model that answered; raises `RouterError` where that does not say which."""
    gathered: dict[str, _Gathered] = {}
    unread: list[str] = []
    _each_answer(log, gathered, unread.append)
    counts = Counter({name: len(found.at) for name, found in gathered.items()})
    told = ", ".join(f"{name} ({count})" for name, count in counts.most_common())
    if not counts:
        raise RouterError(f"{log}: no answered request in this log")
    if model is None and len(counts) > 1:
        raise RouterError(f"{log}: several models answered: say which with --model. There are: {told}")
    name = model or next(iter(counts))
    if name not in gathered:
        raise RouterError(f"{log}: `{name}` answered nothing here. There are: {told}")
    notes = [f"{len(unread)} lines of the log could not be read, the first is {unread[0]}"] if unread else []
    calls = gathered[name].calls(str(log), whole_start=False)
    return Read("log", log.resolve().name or str(log), calls, tuple(notes)), name


def _each_answer(log: Path, into: dict[str, _Gathered], unread: Callable[[str], None]) -> None:
    """Outcomes by model, file after file; a decision is long and says nothing of tokens that came, so it is passed."""
    with ExitStack() as stack:
        try:
            files = [(path, stack.enter_context(open_log(path))) for path in find_log(log)]
        except OSError as error:
            raise RouterError(f"{log}: {error.strerror or error}") from None
        for path, file in files:
            for number, line in read_lines(path, file, lambda p, n: unread(f"{p}:{n}")):
                if not line.startswith(_OUTCOME):
                    if not line.startswith(_RECORD):
                        unread(f"{path}:{number}")
                    continue
                record = read_record(line)
                if not isinstance(record, OutcomeRecord):
                    unread(f"{path}:{number}")
                elif record.model and (record.status == "completed" or record.output_tokens):
                    gathered = into.setdefault(record.model, _Gathered())
                    gathered.add(record.at - record.e2e_s, record.input_tokens, record.output_tokens)


_RECORD = b'{"record":"'
_OUTCOME = _RECORD + b'outcome",'
