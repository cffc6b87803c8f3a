"""The parts of what was learned, by the words that an operator uses for them, and what may be done to them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from router.domain.events import Event


class Part(StrEnum):
    """`quality`: how far a model's estimate is off. `lengths`: how long its answers are. `latency`: how a deployment's
    steps are shaped, and how far predictions are off. `ceilings`: learned `max_tokens`. `checks`: what a check of an
    answer is worth. `prices`: what the quality floors and the capacity of deployments cost at the moment."""

    QUALITY = "quality"
    LENGTHS = "lengths"
    LATENCY = "latency"
    CEILINGS = "ceilings"
    CHECKS = "checks"
    PRICES = "prices"


FREEZABLE: Final = (Part.QUALITY, Part.CHECKS, Part.LENGTHS, Part.CEILINGS, Part.LATENCY)
"""Prices are not learned once and for all: they pace promises, and one that stands still keeps none."""
FROZEN_BY_DEFAULT: Final = FREEZABLE[:-1]
"""A router whose latency is frozen cannot see that a server has become slow: it has to be asked for by name."""
PORTABLE: Final = FREEZABLE
"""What an import takes unless told otherwise: prices belong to the promises and the load of where they come from."""


class LearnedReset(Event, frozen=True):
    """Parts of what was learned were forgotten, for some models and classes where these are named."""

    parts: tuple[str, ...]
    models: tuple[str, ...]
    classes: tuple[str, ...]
    rows: int
    at: float


class LearnedImported(Event, frozen=True):
    """What was learned elsewhere was taken up. `source` is the id of the checkpoint it comes from."""

    source: str
    parts: tuple[str, ...]
    models: tuple[str, ...]
    at: float


class LearningFrozen(Event, frozen=True):
    """From here on nothing is learned of the parts in `frozen`; of none where it is empty."""

    frozen: tuple[str, ...]
    at: float


class BeliefsWidened(Event, frozen=True):
    """What is believed of these models was learned against another artefact (digest `old`) than the one that estimates
    now: they are believed less."""

    old: str
    new: str
    models: tuple[str, ...]
    at: float
