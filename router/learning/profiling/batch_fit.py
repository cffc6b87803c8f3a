"""What does a batch cost? `base + per_item*n` out of batches of several sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from router.domain.deployment import BatchProfile
from router.learning.profiling.calls import Level
from router.stats.non_negative import non_negative

_LEAST_ROWS = 4


class BatchFit(Struct, frozen=True):
    """`off_ratio` is how far half of the batches are off at most."""

    batch: BatchProfile
    rows: int
    off_ratio: float


def fit_batch(levels: Sequence[Level]) -> BatchFit | None:
    """Figures of a batch; `None` where fewer than four went well or all had one size."""
    taken = [(s.items, s.latency_s) for level in levels for s in level.samples if s.code is None and s.latency_s > 0.0]
    if len(taken) < _LEAST_ROWS or len({items for items, _ in taken}) < 2:
        return None
    items, took_s = np.asarray(taken, dtype=float).T
    x = np.stack((1.0 / took_s, items / took_s), axis=1)
    theta = non_negative(x, np.ones(len(taken)))
    base_s, per_item_s = theta.tolist()
    return BatchFit(BatchProfile(base_s, per_item_s), len(taken), float(np.median(np.abs(1.0 - x @ theta))))
