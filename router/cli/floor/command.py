"""Promise, choose, look: re-splits of the rows that an artefact was evaluated on."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from rich.table import Table

from router.cli.report.write import Evaluated
from router.complexity.assessment.rows import Rows, rows_of
from router.domain.errors import RouterError
from router.learning.guarantee import Floats, Promise, resplit
from router.stats.binomial import clopper_pearson


class Asked(Struct, frozen=True):
    """What is promised, on how many rows it is calibrated, and how often the rows are split."""

    epsilon: float
    calibrate: int
    resplits: int
    seed: int


class Spread(Struct, frozen=True):
    """Mean over the re-splits, and where 95 % of them lie; of a share, its Clopper-Pearson interval."""

    mean: float
    low: float
    high: float


class Kept(Struct, frozen=True):
    """How the promise did on the rows that were not calibrated on."""

    held_ratio: Spread
    large_share: Spread
    loss: Spread
    pgr: Spread


class Floor(Struct, frozen=True):
    """`net`: what small does better than large makes up for what it does worse. `losses`: only the latter counts."""

    epsilon: float
    confidence: float
    calibrated_on: int
    tested_on: int
    resplits: int
    net: Kept
    losses: Kept


def refuse_online(floor_loss: float | None) -> None:
    """A stream has no calibration sample: `RouterError` where one is asked to keep a promise."""
    if floor_loss is not None:
        raise RouterError("--floor-loss looks at a frozen artefact: leave out --online")


def promised(done: Evaluated, asked: Asked) -> Floor:
    """Re-split the evaluated rows; `RouterError` where too few are left to look at."""
    examples = [example for source in done.sources for example in source.examples]
    rows = rows_of(examples, done.said, small=done.small, large=done.large)
    ahead = len(rows.gain) - asked.calibrate
    if ahead < 1:
        raise RouterError(
            f"--recalibrate {asked.calibrate} leaves none of the {len(rows.gain)} rows to look at: take fewer"
        )
    promise = Promise(asked.epsilon, ahead=ahead)
    net, losses = (_kept(rows, promise, asked, losses_only=only) for only in (False, True))
    return Floor(promise.epsilon, promise.confidence, asked.calibrate, ahead, asked.resplits, net, losses)


def _kept(rows: Rows, promise: Promise, asked: Asked, *, losses_only: bool) -> Kept:
    """Where only losses count the score is P(small is not adequate and large is), taken as independent."""
    score, loss = rows.score, rows.gain
    if losses_only:
        score, loss = (1.0 - rows.expected[:, 0]) * rows.expected[:, 1], np.maximum(rows.gain, 0.0)
    seen = resplit(score, rows.gain, loss, promise, calibrate=asked.calibrate, times=asked.resplits, seed=asked.seed)
    held = int((seen.loss <= promise.epsilon).sum())
    share = Spread(held / asked.resplits, *clopper_pearson(held, asked.resplits))
    return Kept(share, _spread(seen.large_share), _spread(seen.loss), _spread(seen.pgr))


def _spread(values: Floats) -> Spread:
    low, high = np.quantile(values, (0.025, 0.975)).tolist()
    return Spread(float(values.mean()), low, high)


def floor_table(floor: Floor) -> Table:
    """A row for each way to count."""
    table = Table(
        title=f"Lose at most {floor.epsilon:g} against large, with {floor.confidence:.0%} confidence",
        caption=f"{floor.resplits} re-splits: calibrated on {floor.calibrated_on} rows, seen on the other "
        f"{floor.tested_on}; the rows must not have trained the artefact",
    )
    table.add_column("counted")
    for name in ("held", "95 %", "to large", "lost", "PGR"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, kept in (("losses and gains", floor.net), ("losses only", floor.losses)):
        held = kept.held_ratio
        table.add_row(
            name,
            f"{held.mean:.1%}",
            f"{held.low:.3f} to {held.high:.3f}",
            f"{kept.large_share.mean:.1%} ({kept.large_share.low:.2f} to {kept.large_share.high:.2f})",
            f"{kept.loss.mean:.4f}",
            f"{kept.pgr.mean:.3f}",
        )
    return table
