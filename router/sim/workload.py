"""What arrives, and what would each model have made of it? Workloads of CSV or JSON lines, plain or gzipped.

Columns `arrival_s,input_tokens,output_tokens`, and where present `class`, `tenant`, `deadline_s` (from arrival),
`session`, `prompt_id`, `prompt`, `quality.MODEL` (truth in [0,1]) and `estimate.MODEL` (a recorded estimator's
P(adequate)). JSON lines have the same keys; there `output_tokens` may be `{MODEL: n}`, `quality` and `estimate`
objects. Other columns are ignored. The controller sees requests and recorded estimates, never the truth.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Iterator, Mapping
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from router.backends.simulated import SimulatedAnswer
from router.domain.errors import WorkloadError
from router.domain.request import Prompt, Request, RequestId

NonNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Tokens = Annotated[int, Meta(ge=0)]
_OBJECTS = ("quality", "estimate", "output_tokens")
_ADEQUATE = 0.5
SOURCE = "workload"
"""`Request.source` of all rows."""


class Arrival(Struct, frozen=True, rename={"at_s": "arrival_s", "request_class": "class"}):
    """One row. `output_tokens` by model where models differ."""

    at_s: NonNegative
    input_tokens: Tokens
    output_tokens: Tokens | dict[str, Tokens]
    request_class: str | None = None
    tenant: str | None = None
    deadline_s: NonNegative | None = None
    session: str | int | None = None
    prompt: str | None = None
    quality: dict[str, Share] = {}
    estimate: dict[str, Share] = {}


class Workload(Struct, frozen=True):
    """Rows in order of arrival. The id of a request is the number of its row, from 0."""

    arrivals: tuple[Arrival, ...]

    def over(self, *, load: float = 1.0, for_s: float | None = None) -> Workload:
        """Every arrival time divided by `load`; then only what arrives before `for_s`."""
        scaled = (msgspec.structs.replace(row, at_s=row.at_s / load) for row in self.arrivals)
        return Workload(tuple(row for row in scaled if for_s is None or row.at_s < for_s))

    def request(self, number: int, *, now: float, at: float) -> Request:
        """Row `number` as it arrives at monotonic `now` and wall time `at`."""
        row = self.arrivals[number]
        text = row.prompt or ""
        return Request(
            id=RequestId(str(number)),
            arrived=now,
            at=at,
            prompt=Prompt(last_user=text, chars=len(text)),
            input_tokens=row.input_tokens,
            source=SOURCE,
            tenant=row.tenant or "default",
            request_class=row.request_class,
            deadline=None if row.deadline_s is None else now + row.deadline_s,
            attributes=() if row.session is None else (("session", str(row.session)),),
        )

    def estimates(self, request_id: str) -> Mapping[str, float]:
        """P(adequate) by model as a recorded estimator gave it; empty where there is none."""
        return self.arrivals[int(request_id)].estimate

    @property
    def has_prompts(self) -> bool:
        """Whether any row has a prompt, so that a trained estimator has something to read."""
        return any(row.prompt for row in self.arrivals)


class WorkloadTruth:
    """The truth of a workload: `router.backends.simulated.Truth`, and the quality of each answer."""

    def __init__(self, workload: Workload) -> None:
        self._rows = workload.arrivals
        values = chain.from_iterable(row.quality.values() for row in self._rows)
        self.binary = all(value in (0.0, 1.0) for value in values)

    def answer(self, request: Request, model: str) -> SimulatedAnswer:
        """The recorded length; for a model that was not recorded, the mean of those that were."""
        tokens = self._rows[int(request.id)].output_tokens
        if isinstance(tokens, dict):
            known = tokens.get(model)
            tokens = round(sum(tokens.values()) / max(1, len(tokens))) if known is None else known
        return SimulatedAnswer(tokens)

    def quality(self, request_id: str, model: str) -> float | None:
        """The true quality of a model's answer; `None` where it was not recorded."""
        return self._rows[int(request_id)].quality.get(model)

    def adequate(self, request_id: str, model: str, *, reference: str | None = None) -> bool | None:
        """At least 0.5 where truth is 0 or 1, else at least the quality of the reference model."""
        quality = self.quality(request_id, model)
        standard = None if self.binary or reference is None else self.quality(request_id, reference)
        if quality is None:
            return None
        return quality >= (_ADEQUATE if standard is None else standard)


def read_workload(path: Path) -> Workload:
    """Read a file of any of the forms; raises `WorkloadError` with file, line and field."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as raw:
            lines = TextIOWrapper(raw, encoding="utf-8-sig", newline="")
            is_csv = ".csv" in path.suffixes
            rows = list((_csv_rows if is_csv else _json_rows)(str(path), lines))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise WorkloadError(f"{path}: {error}") from None
    return Workload(tuple(sorted(rows, key=lambda row: row.at_s)))


def _csv_rows(file: str, lines: Iterable[str]) -> Iterator[Arrival]:
    table = csv.reader(lines)
    header = next(table, [])
    for number, values in enumerate(table, start=2):
        if len(values) != len(header):
            raise WorkloadError(f"{file}:{number}: {len(values)} fields, the header has {len(header)}")
        yield _arrival(f"{file}:{number}", {k: v for k, v in zip(header, values, strict=True) if v != ""})


def _json_rows(file: str, lines: Iterable[str]) -> Iterator[Arrival]:
    decode = msgspec.json.Decoder(dict[str, object]).decode
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                fields = decode(line)
            except msgspec.DecodeError as error:
                raise WorkloadError(f"{file}:{number}: {error}") from None
            yield _arrival(f"{file}:{number}", fields)


def _arrival(where: str, fields: Mapping[str, object]) -> Arrival:
    """Join `quality.MODEL` columns to objects, and check."""
    joined: dict[str, object] = {}
    for key, value in fields.items():
        head, dot, model = key.partition(".")
        if dot and head in _OBJECTS:
            inner = joined.setdefault(head, {})
            if isinstance(inner, dict):
                inner[model] = value
        else:
            joined[key] = value
    try:
        return msgspec.convert(joined, Arrival, strict=False)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        field = f"{path.rstrip('`')}: " if path else ""
        raise WorkloadError(f"{where}: {field}{problem}") from None
