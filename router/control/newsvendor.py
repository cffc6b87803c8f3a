"""How much capacity is worth reserving, when what it does not serve is bought on demand?

The newsvendor's question (Arrow, Harris and Marschak, "Optimal inventory policy", Econometrica 19, 1951): a unit costs
the same whether it is used or not, and one more of them pays as long as the on-demand money that it saves is more than
its price. Tokens in and tokens out both bind: a minute needs `n = max(in / unit in, out / unit out)` units, and C units
serve the share `min(1, C / n)` of it, in the mix that came. A unit in full use for that minute thus takes over
`v = usd / n` of on-demand money. C units take over `sum v min(n, C)`, which is concave in C, so that the best C is the
least one with

    mean(v [n > C]) <= price of a unit a minute.

Where every minute has the same mix v is the same number, and this is the textbook's P(D > C) = k: k is the price of a
unit over the on-demand price of what a fully used unit serves.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from router.domain.deployment import Price, TokenQuota

Floats = NDArray[np.float64]


class Need(Struct, frozen=True):
    """Demand minute by minute: units that would serve all of it, and what all of it costs on demand (USD)."""

    units: Floats
    usd: Floats

    @property
    def usd_per_unit(self) -> Floats:
        """On-demand USD that a unit in full use takes over in each minute; 0 where nothing is asked for."""
        return np.divide(self.usd, self.units, out=np.zeros_like(self.usd), where=self.units > 0.0)


def need(input_tokens: Floats, output_tokens: Floats, unit: TokenQuota, price: Price) -> Need:
    """Of tokens a minute, in units of `unit`, at the on-demand `price`."""
    units = np.maximum(input_tokens / unit.input_tokens_per_min, output_tokens / unit.output_tokens_per_min)
    usd = (input_tokens * price.input_usd_per_mtok + output_tokens * price.output_usd_per_mtok) * 1e-6
    return Need(units, usd)


def taken_usd(demand: Need, held: float | Floats, *, factor: float = 1.0) -> Floats:
    """On-demand USD that `held` units take over in each minute, were demand `factor` times what it is."""
    taken: Floats = demand.usd_per_unit * np.minimum(demand.units * factor, held)
    return taken


def best_units(demand: Need, unit_usd_per_min: float) -> float:
    """The least number of units, not rounded, at which the mean cost is least; of no minutes it is 0."""
    order = np.argsort(demand.units)
    steps = np.concatenate(([0.0], demand.units[order]))
    value = demand.usd_per_unit[order]
    above = np.concatenate((np.cumsum(value[::-1])[::-1], [0.0]))
    bought = unit_usd_per_min * len(value)
    return float(steps[np.argmax(above <= bought)])


def critical_ratio(demand: Need, unit_usd_per_min: float) -> float | None:
    """Price of a unit over the on-demand price of what it serves in full use, at the mean mix; also the least share of
    its time for which a unit must be in full use to pay. `None` where nothing that costs money was asked for."""
    usd = float(demand.usd.sum())
    return unit_usd_per_min * float(demand.units.sum()) / usd if usd > 0.0 else None
