"""What would an offer have cost on days that it was not chosen on, and how sure is that?

Units that were chosen on a record look better on it than they are. So each fold is paid for with the units that the
other folds would have chosen, and the interval is that of folds drawn again (Efron's bootstrap, 1979, by whole days, as
the minutes of a day are not independent). It knows nothing of what changes from one month to the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from router.control.newsvendor import Floats
from router.sim.capacity.offers import Held, Market, Offer

RESAMPLES = 1000
_UNIT_RESAMPLES = 400
_INSIDE = (2.5, 97.5)


class Span(Struct, frozen=True):
    """A figure and its 95 % interval."""

    mean: float
    low: float
    high: float


class Proved(Struct, frozen=True):
    """An offer with the units that are best on the whole record. `chosen_usd_per_hour` is their cost on it;
    `usd_per_hour` and `saving_ratio` (against nothing reserved) are those of folds that had no say."""

    offer: Offer
    held: Held
    chosen_usd_per_hour: float
    usd_per_hour: Span
    saving_ratio: Span


def prove(market: Market, offers: Sequence[Offer], *, rng: np.random.Generator) -> tuple[Proved, ...]:
    """By leaving out one fold after the other. The folds that are drawn again are the same for all offers."""
    table, folds = market.table, len(market.table.paid_usd)
    cost = np.empty((len(offers), folds))
    for fold in range(folds):
        others = market.without(fold)
        for number, offer in enumerate(offers):
            cost[number, fold] = market.usd(offer, market.best(offer, others))[fold]
    drawn, hours = _draws(rng, folds, RESAMPLES), table.minutes.sum(axis=1) / 60.0
    found = []
    for offer, usd in zip(offers, cost, strict=True):
        held = market.best(offer, market.all)
        found.append(
            Proved(
                offer=offer,
                held=held,
                chosen_usd_per_hour=float(market.usd(offer, held).sum() / hours.sum()),
                usd_per_hour=_span(float(usd.sum() / hours.sum()), (drawn @ usd) / (drawn @ hours)),
                saving_ratio=_span(
                    float(_saved(usd.sum(), table.paid_usd.sum())), _saved(drawn @ usd, drawn @ table.paid_usd)
                ),
            )
        )
    return tuple(found)


def units_drawn(market: Market, proved: Proved, *, rng: np.random.Generator) -> tuple[Span, ...]:
    """Units of each block (of the base, where there are no blocks), and where they would lie on folds drawn again."""
    weights = _draws(rng, len(market.table.paid_usd), _UNIT_RESAMPLES)
    seen = market.redrawn_units(proved.offer, proved.held, weights).astype(np.float64)
    return tuple(_span(float(units), drawn) for units, drawn in zip(market.units(proved.held), seen.T, strict=True))


def _draws(rng: np.random.Generator, folds: int, times: int) -> Floats:
    """How often each fold is drawn, a row for each time."""
    return rng.multinomial(folds, np.full(folds, 1.0 / folds), size=times).astype(np.float64)


def _saved(cost: Floats | float, alone: Floats | float) -> Floats:
    """Share of the on-demand money that is saved; 0 of nothing."""
    paid = np.asarray(alone, dtype=np.float64)
    return np.divide(paid - cost, paid, out=np.zeros_like(paid), where=paid > 0.0)


def _span(mean: float, drawn: Floats) -> Span:
    low, high = np.percentile(drawn, _INSIDE).tolist()
    return Span(mean, low, high)
