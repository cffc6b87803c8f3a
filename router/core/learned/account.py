"""What is known, for people: what is believed of each model, how fast each deployment is, what promises cost."""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct

from router.core.controller import Controller
from router.core.learned.lineage import Lineage
from router.core.snapshot import Snapshot
from router.domain.errors import RouterError
from router.learning.belief import CENTRE, Belief
from router.learning.ceiling import Ceilings
from router.learning.latency import LatencyModel
from router.learning.length import LengthModel
from router.learning.quality import QualityModel
from router.learning.verify.evidence import CheckModel
from router.stats.normal import sigmoid

_SHAPE = ("base", "per_sequence", "per_context_token", "per_prefill_token")


class Shift(Struct, frozen=True):
    """How far log odds are off for a use case, beside what is off for the whole model."""

    mean: float
    sd: float


class Quality(Struct, frozen=True):
    """Of a request that a model is estimated to answer well with probability `estimated`, `believed` is what is
    believed, and `low` to `high` one standard deviation about it. `shift` is that in log odds, with two slopes that
    make it more or less for easier requests. `fallen` counts answers since the model fell from what it was; `None`
    where a checkpoint does not tell."""

    seen: int
    estimated: float
    believed: float
    low: float
    high: float
    shift: Shift
    slopes: tuple[float, float]
    dispersion: float
    fallen: int | None
    use_cases: dict[str, Shift]


class Lengths(Struct, frozen=True):
    """Output tokens: the mean, and what 97 of 100 answers stay under."""

    mean_tokens: float
    p97_tokens: float


class Grade(Struct, frozen=True):
    """A grade of a check: the share of answers that get it, and how many times likelier a good answer gets it."""

    share: float
    likelihood_ratio: float


class OfModel(Struct, frozen=True):
    """What is known of a model. By class: `lengths` (of all classes under the empty name), `ceilings` in tokens. By
    check and grade: `checks`."""

    quality: Quality | None
    lengths: dict[str, Lengths]
    ceilings: dict[str, int]
    checks: dict[str, dict[str, Grade]]


class OfDeployment(Struct, frozen=True):
    """What is known of a deployment. `shape`: times what was expected of it, from `samples` token gaps. Predictions
    are off by the factor `ttft_bias` and `tpot_bias`, give or take `..._sigma` in logs. `slowness` is momentary, and
    only a running router knows it."""

    model: str
    samples: int
    shape: dict[str, float]
    ttft_bias: float
    ttft_sigma: float
    tpot_bias: float
    tpot_sigma: float
    slowness: float | None
    capacity_price: float


class Account(Struct, frozen=True):
    """`floors` are prices by class, or by class and side of a rollout. From the sources of feedback in `unheard`
    nothing is learned at the moment, since what they tell has drifted."""

    lineage: Lineage | None
    frozen: tuple[str, ...]
    models: dict[str, OfModel]
    deployments: dict[str, OfDeployment]
    floors: dict[str, float]
    unheard: tuple[str, ...] = ()


def account(known: Snapshot, controller: Controller | None = None) -> Account:
    """What a checkpoint says; with the controller that it was just taken of, also what no checkpoint keeps. Raises
    `RouterError` (`invalid_checkpoint`)."""
    unheard = () if controller is None else controller.drift.unheard
    try:
        models, deployments = _models(known, controller), _deployments(known, controller)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise RouterError(f"the checkpoint cannot be read: {error}", code="invalid_checkpoint") from error
    return Account(known.lineage, known.frozen, models, deployments, known.floors, unheard)


def _models(known: Snapshot, controller: Controller | None) -> dict[str, OfModel]:
    qualities, lengths, ceilings, checks = QualityModel(), LengthModel(), Ceilings(), CheckModel()
    qualities.restore(known.qualities)
    lengths.restore(known.lengths)
    ceilings.restore(known.ceilings)
    checks.restore(known.checks)
    live = None if controller is None else controller.qualities.beliefs()
    beliefs = qualities.beliefs() if live is None else live
    by_length: dict[str, dict[str, Lengths]] = {}
    for key in known.lengths:
        name, _, model = key.partition("\t")
        mean, p97 = lengths.expect(name, model, None), lengths.p97(name, model, None)
        by_length.setdefault(model, {})[name] = Lengths(round(mean, 1), round(p97, 1))
    by_ceiling: dict[str, dict[str, int]] = {}
    for (name, model), tokens in ceilings.learned().items():
        by_ceiling.setdefault(model, {})[name] = tokens
    by_check = _checks(checks.state())
    names = beliefs.keys() | by_length.keys() | by_ceiling.keys() | by_check.keys()
    return {
        name: OfModel(
            _quality(beliefs[name], is_live=live is not None) if name in beliefs else None,
            by_length.get(name, {}),
            by_ceiling.get(name, {}),
            by_check.get(name, {}),
        )
        for name in sorted(names)
    }


def _quality(belief: Belief, *, is_live: bool) -> Quality:
    whole, kinds = belief.state()
    shift, sd = whole[0], math.sqrt(whole[3])
    low, believed, high = (round(sigmoid(CENTRE + x), 4) for x in (shift - sd, shift, shift + sd))
    return Quality(
        seen=belief.seen,
        estimated=round(sigmoid(CENTRE), 4),
        believed=believed,
        low=low,
        high=high,
        shift=_shift(shift, sd),
        slopes=(round(whole[1], 4), round(whole[2], 4)),
        dispersion=round(belief.dispersion, 4),
        fallen=belief.fallen if is_live else None,
        use_cases={kind: _shift(mean, math.sqrt(variance)) for kind, (mean, variance) in sorted(kinds.items())},
    )


def _shift(mean: float, sd: float) -> Shift:
    return Shift(round(mean, 4), round(sd, 4))


def _checks(rows: Mapping[str, list[float]]) -> dict[str, dict[str, dict[str, Grade]]]:
    found: dict[str, dict[str, dict[str, Grade]]] = {}
    totals: dict[tuple[str, str], float] = {}
    for key, row in rows.items():
        model, check, _ = key.split("\t")
        totals[model, check] = totals.get((model, check), 0.0) + row[2]
    for key, row in rows.items():
        model, check, grade = key.split("\t")
        told = Grade(round(row[2] / totals[model, check], 4), round(math.exp(row[0]), 3))
        found.setdefault(model, {}).setdefault(check, {})[grade] = told
    return found


def _deployments(known: Snapshot, controller: Controller | None) -> dict[str, OfDeployment]:
    live = {} if controller is None else {str(n): m.latency for n, m in controller.fleet.members.items()}
    return {
        name: _deployment(model, state, live.get(name), known.capacity.get(name, 0.0))
        for name, (model, state) in sorted(known.latency.items())
    }


def _deployment(
    model: str, state: Mapping[str, list[float]], live: LatencyModel | None, capacity_price: float
) -> OfDeployment:
    ttft_mean, ttft_variance, tpot_mean, tpot_variance = state["spread"]
    return OfDeployment(
        model=model,
        samples=int(state["samples"][0]),
        shape={name: round(times, 4) for name, times in zip(_SHAPE, state["theta"], strict=True)},
        ttft_bias=round(math.exp(ttft_mean), 4),
        ttft_sigma=round(math.sqrt(ttft_variance), 4),
        tpot_bias=round(math.exp(tpot_mean), 4),
        tpot_sigma=round(math.sqrt(tpot_variance), 4),
        slowness=None if live is None else round(live.multiplier, 4),
        capacity_price=round(capacity_price, 6),
    )
