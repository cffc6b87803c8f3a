"""What must be known before an advice is believed, in plain sentences; an empty list is no praise."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from router.sim.capacity.advice import Advice, Terms
from router.sim.capacity.minutes import Minutes
from router.sim.capacity.offers import Commitment

_ENOUGH_DAYS = 14.0
_DAYS = {Commitment.ONE_MONTH: 30.0, Commitment.SIX_MONTHS: 182.0}
_LONG_GAP_MINUTES = 24 * 60
_MANY_TOO_LARGE = 0.01


def notes(minutes: Minutes, terms: Terms, advice: Advice) -> tuple[str, ...]:
    """In order of weight."""
    found = (_thin, _sure, _long, _dear, _flat, _joined)
    said = [text for one in found for text in one(advice, terms)]
    return (*said, *_too_large(minutes, advice), *_gap(minutes))


def lasted(hours: float) -> str:
    """How long a record is."""
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"


def _thin(advice: Advice, _terms: Terms) -> Iterator[str]:
    days, span = advice.hours / 24, lasted(advice.hours)
    if days < 2:
        yield (
            f"Thin: {span} of demand. The intervals are of parts of one stretch and know nothing of how days differ; "
            "bring two weeks or more before money is committed"
        )
    elif days < _ENOUGH_DAYS:
        yield f"Thin: {span} of demand, less than two weeks: a weekly pattern cannot be told from chance"


def _sure(advice: Advice, _terms: Terms) -> Iterator[str]:
    saving = advice.best.saving_ratio
    if advice.buys and saving.low <= 0.0:
        yield (
            f"The saving cannot be told from none: its 95 % interval goes from {saving.low:.1%} to {saving.high:.1%} "
            "of what all on demand costs"
        )


def _long(advice: Advice, _terms: Terms) -> Iterator[str]:
    term, days = advice.best.offer.base, advice.hours / 24
    if term in _DAYS and advice.base_units and days < _DAYS[term]:
        known = (
            ""
            if advice.demand_break_even is None
            else (f"; it pays as long as demand stays above {advice.demand_break_even:.0%} of what was seen")
        )
        yield f"A commitment of {term.replace('-', ' ')} on {lasted(advice.hours)} of demand{known}"


def _dear(advice: Advice, _terms: Terms) -> Iterator[str]:
    if advice.critical_ratio and min(advice.critical_ratio.values()) >= 1.0:
        least = min(advice.critical_ratio.values())
        yield f"A unit in full use costs {least:.2f} times what its tokens cost on demand: none can pay at these prices"


def _flat(advice: Advice, terms: Terms) -> Iterator[str]:
    if terms.pattern is None and advice.pattern == "flat" and Commitment.NONE in terms.hourly_usd:
        yield "No units by hours: every hour of a day must have been seen on two days"


def _joined(advice: Advice, terms: Terms) -> Iterator[str]:
    if advice.lot != terms.lot:
        most = f"the busiest minute needs over a thousand lots of {terms.lot}"
        yield f"Units are counted in steps of {advice.lot}: {most}"


def _too_large(minutes: Minutes, advice: Advice) -> Iterator[str]:
    most = max(one.units.mean for one in advice.held)
    share = minutes.larger_than(most)
    if advice.buys and share > _MANY_TOO_LARGE:
        yield (
            f"{share:.0%} of the on-demand money is for calls larger than a full minute of {most:.0f} units: they go "
            "on demand whatever is free, which is counted"
        )


def _gap(minutes: Minutes) -> Iterator[str]:
    first, length = minutes.longest_gap()
    if length >= _LONG_GAP_MINUTES:
        at = datetime.fromtimestamp(first * 60, UTC).strftime("%Y-%m-%d %H:%M")
        yield f"No call for {length / 60:.0f} hours from {at} UTC on, counted as no demand: was the router off?"
