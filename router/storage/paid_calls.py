"""What calls have cost since a moment, read back from the decision log: what a checkpoint does not know of.

Only files written since then are read, and of their lines only what is needed. A call that was decided and never ended
was cut off by the crash and may have been paid: it counts with the cost that its decision expected.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

from router.core.spending.account import DAY_S
from router.core.spending.spending import Paid, Spending
from router.storage.decision_records import log_files, open_log, read_lines

_LOOK_BACK_S = 3600.0
"""How far before the day the log is read for the decisions of calls that ended in it."""

log = structlog.get_logger("router.paid_calls")


class _Terms(Struct):
    cost_usd: float


class _Candidate(Struct):
    deployment: str
    terms: _Terms


class _Decision(Struct):
    id: str
    request_class: str
    at: float
    chosen: str
    candidates: list[_Candidate] = []


class _Line(Struct):
    """The part of any record that tells of a call."""

    record: str
    decision: _Decision | None = None
    decision_id: str = ""
    at: float = 0.0
    cost_usd: float = 0.0
    answer_cost_usd: float | None = None
    call_id: str = ""
    account: str = ""


_DECODER = msgspec.json.Decoder(_Line)


def recover_spending(spending: Spending, folder: Path, saved_at: float, *, at: float) -> None:
    """Count what calls of the running day cost after a checkpoint of wall time `saved_at`, so that a crash gives no
    budget back. Nothing is read where no class has one."""
    if not spending.is_needed:
        return
    calls = calls_since(folder, max(saved_at, at - at % DAY_S - _LOOK_BACK_S))
    recovered_usd = spending.recover(calls, at=at)
    log.info("spending_recovered", calls=len(calls), recovered_usd=recovered_usd)


def calls_since(folder: Path, since_at: float) -> list[Paid]:
    """Every call that ended after wall time `since_at`, in the order of the log, and then those that were decided since
    and never ended."""
    decided: dict[str, Paid] = {}
    ended: list[Paid] = []
    for line in _lines(folder, since_at):
        if line.record == "decision" and line.decision is not None:
            decision = line.decision
            decided[decision.id] = Paid(decision.id, decision.request_class, _expected_usd(decision), decision.at)
        elif line.record in ("attempt", "outcome"):
            known = decided.pop(line.decision_id, None)
            if line.at > since_at:
                name = None if known is None else known.request_class
                ended.append(Paid(line.decision_id, name, _cost_usd(line), line.at))
        elif line.record == "judged" and line.account and line.at > since_at:
            ended.append(Paid(line.call_id, line.account, line.cost_usd, line.at))
    return [*ended, *(call for call in decided.values() if call.at >= since_at)]


def _cost_usd(line: _Line) -> float:
    """Of the one call of the record's decision. An outcome of an older log tells the sum of the request alone."""
    if line.record == "outcome" and line.answer_cost_usd is not None:
        return line.answer_cost_usd
    return line.cost_usd


def _expected_usd(decision: _Decision) -> float:
    return next((c.terms.cost_usd for c in decision.candidates if c.deployment == decision.chosen), 0.0)


def _lines(folder: Path, since_at: float) -> Iterator[_Line]:
    for listed in log_files(folder):
        path = listed if listed.exists() else listed.with_name(listed.name + ".gz")
        if path.stat().st_mtime < since_at:
            continue
        with open_log(path) as file:
            for _, text in read_lines(path, file):
                try:
                    yield _DECODER.decode(text)
                except msgspec.DecodeError:
                    continue
