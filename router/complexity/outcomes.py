"""What each model would have scored on a prompt: read, judged, and turned into what a head learns.

An answer is adequate when its quality is at least 0.5 where truth is 0 or 1, else at least the quality of a reference
model where one is named. One file of outcomes is one world: models are compared, and tiers found, inside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from router.complexity.artefact import File
from router.domain.deployment import Tier
from router.domain.errors import RouterError

_FORM: Final = 'a line is {"prompt": "...", "source": "...", "outcomes": {"MODEL": {"quality": 0 to 1}}}'
LEAST_ROWS: Final = 50
"""Fewer outcomes than this make no head."""

Array = NDArray[np.float64]
_Cell = tuple[int, int, float, float]
"""Row of the data, number of its file, quality, adequacy."""


class Observed(Struct, frozen=True):
    """How one model did on one prompt."""

    quality: float
    cost_usd: float | None = None
    output_tokens: int | None = None


class Example(Struct, frozen=True):
    """One prompt and what each model would have scored on it. A router sees `prompt` only."""

    prompt: str
    outcomes: dict[str, Observed]
    source: str = ""
    id: str = ""


def read_outcomes(lines: Iterable[bytes], name: str) -> tuple[Example, ...]:
    """Examples from JSON lines; `RouterError` names the file and line that is wrong."""
    decoder = msgspec.json.Decoder(Example)
    examples = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            example = decoder.decode(line)
        except msgspec.ValidationError as error:
            raise _broken(name, number, f"{error}; {_FORM}") from None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _broken(name, number, f"not one JSON object on one line ({error}); {_FORM}") from None
        wrong = _wrong(example)
        if wrong is not None:
            raise _broken(name, number, wrong)
        examples.append(example)
    if not examples:
        raise RouterError(f"{name}: no outcomes; {_FORM}", code="invalid_outcomes")
    return tuple(examples)


def _wrong(example: Example) -> str | None:
    """What no type says of a row: what is wrong with it, and what would be right."""
    if not example.outcomes:
        return "outcomes is empty: name at least one model and its quality"
    for model, seen in example.outcomes.items():
        if not 0.0 <= seen.quality <= 1.0:
            return f"quality of {model} is {seen.quality:g}, not in [0, 1]"
        if seen.cost_usd is not None and not 0.0 <= seen.cost_usd < math.inf:
            return f"cost_usd of {model} is {seen.cost_usd:g}: give USD, 0 or more, or leave it out"
        if seen.output_tokens is not None and seen.output_tokens < 0:
            return f"output_tokens of {model} is {seen.output_tokens}: give 0 or more, or leave it out"
    return None


def _broken(name: str, number: int, why: str) -> RouterError:
    return RouterError(f"{name}:{number}: {why}", code="invalid_outcomes")


def adequacy(examples: Sequence[Example], reference: str | None) -> list[dict[str, bool]]:
    """Which models' answers were adequate, by example: quality >= 0.5 in sources where truth is 0 or 1, and where there
    is no reference to match; else at least the quality of `reference` on the same prompt."""
    graded = graded_sources(examples)
    verdicts = []
    for example in examples:
        judge = None if reference is None or example.source not in graded else example.outcomes.get(reference)
        bar = 0.5 if judge is None else judge.quality
        verdicts.append({model: seen.quality >= bar for model, seen in example.outcomes.items()})
    return verdicts


def graded_sources(examples: Sequence[Example]) -> frozenset[str]:
    """The sources where truth is finer than right or wrong: some outcome is neither 0 nor 1."""
    return frozenset(
        example.source
        for example in examples
        if any(seen.quality not in (0.0, 1.0) for seen in example.outcomes.values())
    )


class Source(Struct, frozen=True):
    """One file of outcomes, read."""

    file: File
    examples: tuple[Example, ...]


class Subject(Struct, frozen=True):
    """What one head learns: rows of the data (n,), quality and adequacy there, in [0,1]."""

    model: str | None
    tier: Tier | None
    rows: NDArray[np.int64]
    quality: Array
    adequate: Array
    files: tuple[int, ...]

    @property
    def name(self) -> str:
        """For tables."""
        return self.model if self.model is not None else f"tier: {self.tier}"


def subjects_of(sources: Sequence[Source], small: Sequence[str], large: Sequence[str]) -> list[Subject]:
    """Every model with at least `LEAST_ROWS` rows, then the tiers, each the mean of its models row by row;
    a tier that one model stands for shares its head."""
    cells: dict[str, list[_Cell]] = {}
    tiers: dict[Tier, list[_Cell]] = {tier: [] for tier in Tier}
    first = 0
    for number, source in enumerate(sources):
        verdicts = adequacy(source.examples, large[0] if len(large) == 1 else None)
        members = _tiers_of(source.examples, small, large)
        for row, (example, verdict) in enumerate(zip(source.examples, verdicts, strict=True), start=first):
            for model, seen in example.outcomes.items():
                cells.setdefault(model, []).append((row, number, seen.quality, float(verdict[model])))
            for tier, models in members.items():
                there = [model for model in models if model in verdict]
                if there:
                    quality = sum(example.outcomes[model].quality for model in there) / len(there)
                    share = sum(verdict[model] for model in there) / len(there)
                    tiers[tier].append((row, number, quality, share))
        first += len(source.examples)
    subjects = [_subject(cell, model=model) for model, cell in cells.items() if len(cell) >= LEAST_ROWS]
    if not subjects:
        raise RouterError(f"no model has {LEAST_ROWS} outcomes or more", code="invalid_outcomes")
    for tier, cell in tiers.items():
        alone = next((i for i, s in enumerate(subjects) if s.model and cells[s.model] == cell and s.tier is None), None)
        if alone is not None:
            subjects[alone] = msgspec.structs.replace(subjects[alone], tier=tier)
        elif len(cell) >= LEAST_ROWS:
            subjects.append(_subject(cell, tier=tier))
    return subjects


def _tiers_of(examples: Sequence[Example], small: Sequence[str], large: Sequence[str]) -> dict[Tier, list[str]]:
    """Which models of a file stand for which tier."""
    scores: dict[str, list[float]] = {}
    for example in examples:
        for model, seen in example.outcomes.items():
            scores.setdefault(model, []).append(seen.quality)
    if small or large:
        return {Tier.SMALL: [m for m in scores if m in small], Tier.LARGE: [m for m in scores if m in large]}
    means = {model: sum(q) / len(q) for model, q in scores.items()}
    middle = (min(means.values()) + max(means.values())) / 2.0
    return {Tier.SMALL: [m for m in means if means[m] < middle], Tier.LARGE: [m for m in means if means[m] >= middle]}


def _subject(cell: list[_Cell], *, model: str | None = None, tier: Tier | None = None) -> Subject:
    rows, files, quality, adequate = zip(*cell, strict=True)
    return Subject(model, tier, np.array(rows), np.array(quality), np.array(adequate), tuple(sorted(set(files))))
