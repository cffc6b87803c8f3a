"""Unit and prices: what the options say, and for the rest what the policy says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from msgspec import Struct

from router.domain.deployment import Deployment, Kind, Lane, Price, TokenQuota
from router.domain.errors import PolicyError, RouterError
from router.policy.compile import compile_policy
from router.policy.prices.book import PriceBook, price_book
from router.policy.prices.listed import plain
from router.policy.written import read
from router.runtime.reload.price_files import price_files
from router.runtime.reload.reading import read_directory
from router.settings import load_settings
from router.sim.capacity.offers import Commitment

_UNIT = "--unit-input and --unit-output"
_ON_DEMAND = "--on-demand-input and --on-demand-output"
_HOURLY = "--hourly-usd, --hourly-usd-1m or --hourly-usd-6m"


class Options(Struct, frozen=True):
    """What was said of unit and prices; `hourly_usd` holds the commitments that have a price."""

    policies: Path | None = None
    model: str | None = None
    deployment: str | None = None
    deployment_units: int = 1
    unit_input: float | None = None
    unit_output: float | None = None
    hourly_usd: dict[Commitment, float] = {}
    on_demand_input: float | None = None
    on_demand_output: float | None = None


class Priced(Struct, frozen=True):
    """What one unit takes and costs, what tokens cost on demand, and of which model (`None`: whichever answered)."""

    model: str | None
    deployment: str | None
    region: str | None
    unit: TokenQuota
    on_demand: Price
    hourly_usd: dict[Commitment, float]


class _Fleet(Struct, frozen=True):
    """The policy's deployments, and its price lists: of models that it may have no deployment of."""

    where: Path
    deployments: Sequence[Deployment]
    prices: PriceBook


def priced(options: Options) -> Priced:
    """Options win over the policy, which is read only where they leave something open. Raises `RouterError`."""
    _check_finite(options)
    told = _both("unit", options.unit_input, options.unit_output)
    paid = _both("on-demand", options.on_demand_input, options.on_demand_output)
    if told and paid and options.hourly_usd and options.deployment is None:
        return Priced(options.model, None, None, TokenQuota(*told), Price(*paid), options.hourly_usd)
    fleet = _fleet(options.policies)
    own = _provisioned(fleet, options, needed=not (told and options.hourly_usd))
    model = options.model or (None if own is None else own.model)
    hourly = options.hourly_usd or ({} if own is None else {Commitment.NONE: _each(own.price.hourly_usd, options)})
    return Priced(
        model=model,
        deployment=None if own is None else own.group,
        region=None if own is None else own.address.region,
        unit=TokenQuota(*told) if told else _unit(own, options),
        on_demand=Price(*paid) if paid else _on_demand(fleet, model),
        hourly_usd=hourly,
    )


def _check_finite(options: Options) -> None:
    flags = {
        "--unit-input": options.unit_input,
        "--unit-output": options.unit_output,
        "--on-demand-input": options.on_demand_input,
        "--on-demand-output": options.on_demand_output,
        "--hourly-usd": options.hourly_usd.get(Commitment.NONE),
        "--hourly-usd-1m": options.hourly_usd.get(Commitment.ONE_MONTH),
        "--hourly-usd-6m": options.hourly_usd.get(Commitment.SIX_MONTHS),
    }
    for flag, value in flags.items():
        if value is not None and not math.isfinite(value):
            raise RouterError(f"{flag}: expected a number, got {value}")


def _both(name: str, given: float | None, made: float | None) -> tuple[float, float] | None:
    if (given is None) != (made is None):
        missing = "output" if made is None else "input"
        raise RouterError(f"--{name}-input and --{name}-output go together: add --{name}-{missing}")
    return None if given is None or made is None else (given, made)


def _fleet(policies: Path | None) -> _Fleet:
    where = policies or load_settings().policies
    try:
        documents = read_directory(where)
    except PolicyError:
        if policies is not None or where.is_dir():
            raise
        message = f"no policy directory {where} here: name one with --policies, or give all of"
        raise RouterError(f"{message} {_UNIT}, {_HOURLY}, {_ON_DEMAND}") from None
    files = price_files(documents)
    deployments = compile_policy(documents, price_files=files).deployments
    return _Fleet(where, deployments, price_book(read(documents).sources, files, []))


def _provisioned(fleet: _Fleet, options: Options, *, needed: bool) -> Deployment | None:
    """The deployment that tells the unit; replicas are alike, so the first of them."""
    there = {d.group: d for d in reversed(fleet.deployments) if d.kind is Kind.PROVISIONED}
    named = options.deployment
    if named is not None:
        found = next((d for d in fleet.deployments if named in (d.name, d.group) and d.group in there), None)
        if found is None:
            raise RouterError(f"{fleet.where}: `{named}` is no provisioned deployment; there are: {_listed(there)}")
        if options.model not in (None, found.model):
            raise RouterError(f"`{named}` serves {found.model}, not {options.model}: leave one of them out")
        return found
    fitting = [d for d in there.values() if options.model in (None, d.model)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting and needed:
        names = _listed({d.group: d for d in fitting})
        raise RouterError(f"{fleet.where}: several provisioned deployments: say which with --deployment: {names}")
    if needed:
        whose = "" if options.model is None else f" of {options.model}"
        raise RouterError(
            f"{fleet.where}: no provisioned deployment{whose} that would tell the unit: give {_UNIT} (tokens a "
            f"minute), and {_HOURLY}"
        )
    return None


def _listed(deployments: dict[str, Deployment]) -> str:
    return ", ".join(f"{group} ({d.model})" for group, d in sorted(deployments.items())) or "none"


def _unit(own: Deployment | None, options: Options) -> TokenQuota:
    if own is None or own.quota is None:
        raise RouterError(f"what does one unit take? Give {_UNIT} (tokens a minute)")
    quota = own.quota
    return TokenQuota(_each(quota.input_tokens_per_min, options), _each(quota.output_tokens_per_min, options))


def _each(total: float, options: Options) -> float:
    return total / options.deployment_units


def _on_demand(fleet: _Fleet, model: str | None) -> Price:
    """Of the cheapest deployment that sells this model's tokens, those of lanes that are cheap because they are slow
    only where there is no other; else of the price lists: the policy's own, its file, what is shipped for Bedrock."""
    if model is None:
        raise RouterError(f"whose on-demand price? Name the model with --model, or give {_ON_DEMAND}")
    there = [d for d in fleet.deployments if d.model == model and d.kind is not Kind.PROVISIONED]
    sold = [d.price for d in there if d.lane is Lane.DEFAULT] or [d.price for d in there]
    if sold:
        return min(sold, key=lambda price: price.input_usd_per_mtok + price.output_usd_per_mtok)
    row = fleet.prices.on_bedrock(model)
    if row is None:
        raise RouterError(
            f"{fleet.where}: no on-demand price of {model}{_meant(model, fleet.prices)}: give {_ON_DEMAND} (USD per "
            "million tokens)"
        )
    return row.rates[Lane.DEFAULT].price(row.source)


def _meant(model: str, prices: PriceBook) -> str:
    near = get_close_matches(plain(model), [n for n in prices.names() if prices.on_bedrock(n)], n=3, cutoff=0.6)
    return f"; there is one of {', '.join(near)}" if near else ""
