"""What a model's answers were seen to cost, as a forecast by prompt, kept behind an artefact's arrays.

Log cost is a ridge regression on the standardised dense features of the prompt: on real outcomes they tell half of its
variance, nearly all of it by how long the kind of answer is. The forecast stands at the end of the file:

    artefact      as `artefact` writes it
    section       JSON: models, centre and scale of the features, weights by model
    4 bytes       length of the section, little endian
    8 bytes       b"RTRCOSTS"

A file without it is an artefact that knows no costs.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from router.complexity.estimator import best_match
from router.complexity.evaluate import request_of
from router.complexity.outcomes import LEAST_ROWS, Example
from router.complexity.trained import CLIP, DENSE, TrainedEstimator
from router.domain.errors import RouterError

MAGIC: Final = b"RTRCOSTS"
_RIDGE: Final = 30.0
"""Rows' worth of evidence that a feature tells nothing. Chosen by the error on rows left out."""
_LEAST_USD: Final = 1e-9
_MAX_MODELS: Final = 64
_MAX_BYTES: Final = 1 << 20

Array = NDArray[np.float64]


class CostForecast(Struct, frozen=True, forbid_unknown_fields=True):
    """`weights` by model: the intercept, then one for each dense feature (DENSE,) as centred, scaled and clipped."""

    models: tuple[str, ...]
    center: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]

    def of(self, models: Sequence[str]) -> Array | None:
        """Weights of these models, shape (M, 1 + DENSE); `None` unless all of them are known."""
        found = [best_match(model, self.models) for model in models]
        known = [self.weights[self.models.index(name)] for name in found if name is not None]
        return np.array(known) if len(known) == len(models) else None

    def log_usd(self, dense: Array, weights: Array) -> tuple[float, ...]:
        """Log of the cost in USD that each model is expected to have for a prompt."""
        return tuple((weights[:, 0] + weights[:, 1:] @ _standard(dense, self.center, self.scale)).tolist())


def fit_costs(examples: Sequence[Example], estimator: TrainedEstimator) -> CostForecast | None:
    """The forecast for every model with the costs of enough prompts; `None` where there is none."""
    priced: dict[str, list[tuple[int, float]]] = {}
    for row, example in enumerate(examples):
        for model, seen in example.outcomes.items():
            if seen.cost_usd is not None:
                priced.setdefault(model, []).append((row, math.log(max(seen.cost_usd, _LEAST_USD))))
    priced = {model: cells for model, cells in priced.items() if len(cells) >= LEAST_ROWS}
    if not priced:
        return None
    needed = sorted({row for cells in priced.values() for row, _ in cells})
    dense = np.array([estimator.dense(request_of(examples[row].prompt))[0] for row in needed])
    center, spread = dense.mean(axis=0), dense.std(axis=0)
    scale = np.where(spread > _LEAST_USD, spread, 1.0)
    table = dict(zip(needed, _standard(dense, center, scale), strict=True))
    weights = []
    for cells in priced.values():
        x = np.array([table[row] for row, _ in cells])
        y = np.array([cost for _, cost in cells])
        slopes = np.linalg.solve(x.T @ (x - x.mean(axis=0)) + _RIDGE * np.eye(DENSE), x.T @ (y - y.mean()))
        weights.append((float(y.mean() - x.mean(axis=0) @ slopes), *slopes.tolist()))
    return CostForecast(tuple(priced), tuple(center.tolist()), tuple(scale.tolist()), tuple(weights))


def _standard(dense: Array, center: Sequence[float] | Array, scale: Sequence[float] | Array) -> Array:
    z: Array = np.clip((dense - np.asarray(center)) / np.asarray(scale), -CLIP, CLIP)
    return z


def attach(artefact: bytes, forecast: CostForecast | None) -> bytes:
    """The file of an artefact and what calls cost."""
    if forecast is None:
        return artefact
    section = msgspec.json.encode(forecast)
    return artefact + section + struct.pack("<I", len(section)) + MAGIC


def detach(data: bytes) -> tuple[bytes, CostForecast | None]:
    """The artefact in a file, and what calls cost, if it tells; `RouterError` where that part is damaged."""
    if not data.endswith(MAGIC) or len(data) < len(MAGIC) + 4:
        return data, None
    end = len(data) - len(MAGIC) - 4
    (length,) = struct.unpack_from("<I", data, end)
    if length > min(end, _MAX_BYTES):
        raise _wrong("its length is not that of a section")
    try:
        found = msgspec.json.decode(data[end - length : end], type=CostForecast)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(str(error)) from None
    rows = (found.center, found.scale, *found.weights)
    sizes = [DENSE, DENSE, *(1 + DENSE for _ in found.weights)]
    if [len(row) for row in rows] != sizes or not 0 < len(found.models) == len(found.weights) <= _MAX_MODELS:
        raise _wrong("it was fitted on other features than this program computes; train again")
    if not all(math.isfinite(value) for row in rows for value in row) or min(found.scale) <= 0.0:
        raise _wrong("it holds what no fit has")
    return data[: end - length], found


def _wrong(why: str) -> RouterError:
    return RouterError(f"not a usable artefact: its costs: {why}", code="invalid_artefact")
