"""Which estimators there are."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from router.complexity.artefact import Artefact, digest, load
from router.complexity.costs import detach
from router.complexity.estimator import Estimator
from router.complexity.heuristic import HeuristicEstimator
from router.complexity.trained import TrainedEstimator

PRIOR: Final = "prior.artefact"
"""The shipped artefact: package data beside this file."""


def load_estimator(data: bytes) -> TrainedEstimator:
    """The estimator in an artefact's bytes; raises `RouterError` (code `invalid_artefact`)."""
    return TrainedEstimator(load_artefact(data).model)


def load_artefact(data: bytes) -> Artefact:
    """The model and its lineage in a file's bytes, what it says of costs left aside; `RouterError` as above."""
    artefact, costs = detach(data)
    loaded = load(artefact)
    return loaded if costs is None else replace(loaded, model=replace(loaded.model, digest=digest(data)))


def shipped_prior() -> TrainedEstimator:
    """The shipped artefact with all its heads. The import system reads it, as it reads the code it belongs to."""
    data = pkgutil.get_data("router.complexity", PRIOR)
    assert data is not None
    return load_estimator(data)


def default_estimator() -> TrainedEstimator:
    """The shipped prior by tier: what is known before anything is known of the deployments' own models."""
    return shipped_prior().serving(())


ESTIMATORS: Final[dict[str, Callable[[], Estimator]]] = {
    "heuristic": HeuristicEstimator,
    "prior": default_estimator,
}
"""Those that need no file, by name. The conformance suite runs over all of them."""
