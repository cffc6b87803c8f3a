"""Whether predictions hold, and whether the controller is let tune: what keeps automatic changes from doing harm."""

from __future__ import annotations

from router.domain.events import Event


class PredictionsScored(Event, frozen=True):
    """Calls since the last tick whose latency came out inside the 90 % interval predicted for it, over it or under it.
    `what`: ttft, tpot. `ratio` is the share inside of the last few hundred."""

    deployment: str
    what: str
    inside: int
    over: int
    under: int
    ratio: float


class CoverageChanged(Event, frozen=True):
    """The 90 % intervals of a prediction have held too little or too much for long (`new`: narrow, wide), or hold again
    (`holds`). `ratio` is the share inside."""

    deployment: str
    what: str
    old: str
    new: str
    ratio: float
    reason: str


class TuningChanged(Event, frozen=True):
    """Limits and prices were set back to where they last did well and are held there (`new`: frozen), or move again
    (`free`). `restored` is what was set back, by name, with the value that was taken back and the one in force."""

    request_class: str
    old: str
    new: str
    reason: str
    restored: tuple[tuple[str, float, float], ...] = ()


class KnowledgeChanged(Event, frozen=True):
    """How much is known of a deployment: fresh, ledger (only what we sent ourselves), conservative (nothing was heard
    for long: taken for slower than it looks), blind (nobody knows: the fixed order of the class holds)."""

    deployment: str
    old: str
    new: str
    age_s: float
    reason: str
