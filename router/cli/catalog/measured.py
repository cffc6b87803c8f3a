"""Latencies to start from: those of a decision log, else those that the deployment's latency profile gives."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from router.domain.deployment import Deployment
from router.domain.errors import RouterError
from router.domain.view import Load
from router.learning.latency import LatencyModel
from router.learning.variants.predict import Times
from router.storage.decision_records import OutcomeRecord, find_log, open_log, read_lines, read_record

MOST_CALLS = 50_000
_INPUT_TOKENS, _OUTPUT_TOKENS = 1000, 200
_BUSY = 16
"""Calls at once that a profile is asked about where nothing was measured."""
_OUTCOME = b'{"record":"outcome",'


class Start(Struct, frozen=True):
    """Calls and where they come from."""

    calls: tuple[Times, ...]
    told: str
    is_measured: bool


def start(deployment: Deployment, log: Path | None) -> Start:
    """From a log where one is given; raises `RouterError` where the deployment answered nothing in it."""
    if log is None:
        return _profiled(deployment)
    calls = tuple(deque(_answers(log, deployment.name), maxlen=MOST_CALLS))
    if not calls:
        raise RouterError(f"{log}: `{deployment.name}` answered nothing here; leave --log out to go by its profile")
    return Start(calls, f"measured over {len(calls):,} answers in {log}", is_measured=True)


def _answers(log: Path, name: str) -> Iterator[Times]:
    for path in find_log(log):
        with open_log(path) as file:
            for _, line in read_lines(path, file):
                record = read_record(line) if line.startswith(_OUTCOME) else None
                if isinstance(record, OutcomeRecord) and record.deployment == name and record.status == "completed":
                    yield Times(record.ttft_s, record.tpot_s, record.e2e_s)


def _profiled(deployment: Deployment) -> Start:
    """One call beside fifteen others, of a usual size: a figure to begin with, and no quantile."""
    step = deployment.step
    if step is None:
        raise RouterError(f"`{deployment.name}` takes batches and has no latency profile: give --log")
    context = _BUSY * (_INPUT_TOKENS + _OUTPUT_TOKENS / 2)
    load = Load(_BUSY - 1, 0, 0, context)
    ttft_s, tpot_s = LatencyModel(step).predict(load, _INPUT_TOKENS, _OUTPUT_TOKENS, 0.0)
    told = (
        f"by the latency profile ({step.source}): {_BUSY} calls at once, {_INPUT_TOKENS} tokens in, {_OUTPUT_TOKENS} "
        "out; the median, since nothing was measured"
    )
    return Start((Times(ttft_s, tpot_s, ttft_s + tpot_s * (_OUTPUT_TOKENS - 1)),), told, is_measured=False)
