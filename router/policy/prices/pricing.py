"""The price of a deployment, and of what it may be served as instead."""

from __future__ import annotations

from typing import NamedTuple

from router.domain.aws.terms import Latency
from router.domain.deployment import LANE_OF, Kind, Lane, Price, ServedPrice
from router.policy.aws.job import price_factor
from router.policy.prices.book import OWN, PriceBook, own_rate
from router.policy.prices.listed import OPTIMIZED, Listed, Rate, is_prompt_router
from router.policy.schema.fleet import DeploymentSpec, PriceSpec
from router.policy.schema.json import suggestion

_ORDINARY = Lane.DEFAULT.value
_STANDARD = Latency.STANDARD.value
_SPECIAL = frozenset({Lane.PRIORITY.value, Lane.FLEX.value, Lane.RESERVED.value, OPTIMIZED})
"""What the service may give something else for."""


class Priced(NamedTuple):
    """What calls cost as asked for, and as they may be served instead."""

    price: Price
    served: tuple[ServedPrice, ...] = ()


def asked(spec: DeploymentSpec) -> str:
    """What a deployment asks for: a service tier, or `optimized` latency. An endpoint that takes batches is no service
    tier."""
    if spec.aws is not None and spec.aws.latency is Latency.OPTIMIZED:
        return OPTIMIZED
    return _ORDINARY if spec.kind is Kind.BATCH else (spec.lane or LANE_OF[spec.kind]).value


def priced(spec: DeploymentSpec, book: PriceBook) -> Priced | None:
    """Own price, else that of the first list that knows the model; `None` where none does. What is paid by the hour has
    free tokens unless it says otherwise."""
    wanted, lists, own = asked(spec), book.lists(spec), _own(spec)
    if own is not None:
        rate, source, rest = own.times(spec.price_factor), OWN, lists
    elif (found := _first(spec, lists, wanted)) is not None:
        rate, source, rest = found
    else:
        return None
    kept_s = 0.0 if spec.aws is None or spec.aws.cache is None else spec.aws.cache.ttl
    price = rate.price(source, hourly_usd=spec.hourly_usd or 0.0, kept_s=kept_s)
    if is_prompt_router(spec.target or ""):
        choices = {name: row.rates[_ORDINARY].price(row.source, kept_s=kept_s) for name, row in book.choices().items()}
        return Priced(price, tuple(ServedPrice(name, choice) for name, choice in choices.items()))
    if wanted not in _SPECIAL:
        return Priced(price)
    if own is not None and "price_factor" in spec.model_fields_set:
        ordinary = own.price(OWN, kept_s=kept_s)
    elif (row := next(iter(rest), None)) is not None:
        ordinary = row.rates[_ORDINARY].price(row.source, kept_s=kept_s)
    else:
        return Priced(price)
    return Priced(price, tuple(ServedPrice(served, ordinary) for served in (_ORDINARY, _STANDARD)))


def _own(spec: DeploymentSpec) -> Rate | None:
    if spec.price_usd_per_mtok is not None:
        return own_rate(spec.price_usd_per_mtok)
    is_paid_by_the_hour = spec.kind is Kind.PROVISIONED or (spec.backend == "sagemaker" and spec.hourly_usd is not None)
    return own_rate(PriceSpec(input=0.0, output=0.0)) if is_paid_by_the_hour else None


def _first(spec: DeploymentSpec, lists: list[Listed], wanted: str) -> tuple[Rate, str, list[Listed]] | None:
    """The rate in the first list that has one, where it is from, and the lists in which the ordinary one is found. A
    factor that is written, or a price that is the policy's own, is taken as it stands."""
    for i, row in enumerate(lists):
        if row.source == OWN or "price_factor" in spec.model_fields_set:
            rest = lists[i:] if "price_factor" in spec.model_fields_set else lists[i + 1 :]
            return row.rates[_ORDINARY].times(price_factor(spec)), row.source, rest
        if (rate := row.rates.get(wanted)) is not None:
            return rate, row.source, lists[i:]
    return None


def no_price(spec: DeploymentSpec, book: PriceBook) -> str:
    """What to do about a deployment without a price."""
    wanted = asked(spec)
    if (rows := book.lists(spec)) and wanted not in rows[0].rates:
        return (
            f"no price of `{spec.model}` asked for as {wanted} is known ({rows[0].source}): give `price_usd_per_mtok` "
            "here, or `price_factor`, what that is multiplied by"
        )
    if spec.backend == "sagemaker":
        return "no price: give `hourly_usd`, what the instances behind the endpoint cost, or `price_usd_per_mtok`"
    hint = suggestion(spec.model, book.names())
    ships = "" if book.shipped is not None else ", or `shipped: true`"
    return (
        f"no price: give `price_usd_per_mtok` here, or {{input, output}} for `{spec.model}` under "
        f"`prices.models`{ships}{hint}"
    )
