"""A named way of deciding: filters, a scorer and a picker."""

from __future__ import annotations

from msgspec import Struct

from router.routing.filters import REACHABLE, STANDARD, Filter
from router.routing.pickers import Best, Picker
from router.routing.scorers import Scorer, utilities


class Profile(Struct, frozen=True):
    """`paced` says whether limits, quotas and capacity prices hold; the baselines go without."""

    name: str
    filters: tuple[Filter, ...]
    scorer: Scorer
    picker: Picker
    paced: bool = True


def standard() -> Profile:
    """The router's own."""
    return Profile("standard", STANDARD, utilities, Best())


def baseline(picker: Picker) -> Profile:
    """A picker with nothing around it."""
    return Profile(picker.name, REACHABLE, utilities, picker, paced=False)
