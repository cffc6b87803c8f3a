"""What a call costs: its tokens at the price of what it was served as."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from router.domain.aws.terms import Latency
from router.domain.deployment import Deployment, Lane, Price
from router.domain.outcome import Attempt, Usage
from router.policy.prices.listed import is_prompt_router, plain

ROUTER = "prompt_router"
OTHER = "other"
_MAKES_ALL = "bedrock"
_ORDINARY = frozenset({Lane.DEFAULT.value, Latency.STANDARD.value})
_BY_VARIANT = "sagemaker"
"""A backend that tells which variant of an endpoint answered, by whatever name it has."""
_ASKED_BY_NAME = frozenset({Lane.PRIORITY.value, Lane.FLEX.value, Lane.RESERVED.value})
_SERVED = _ORDINARY | _ASKED_BY_NAME | {Latency.OPTIMIZED.value}


class Bill(NamedTuple):
    """What a call costs, where the figures are from and what they are of. `served_otherwise` is a service tier, a
    latency, a model out of those that the deployment has prices of, or `other`; `None` where it was served as asked."""

    usd: float
    source: str
    served_otherwise: str | None = None


def asked(deployment: Deployment) -> str:
    """What the calls of a deployment ask for: a service tier, `optimized` latency, a variant of a SageMaker endpoint,
    any model of a prompt router."""
    aws = deployment.address.aws
    if aws is not None and aws.latency is Latency.OPTIMIZED:
        return aws.latency.value
    if aws is not None and aws.variant is not None:
        return aws.variant
    return ROUTER if is_prompt_router(deployment.address.target) else deployment.lane.value


def bill(deployment: Deployment, usage: Usage, *, served_as: str | None, served_model: str | None) -> Bill:
    """What the tokens of a call cost. What was served otherwise, at a price that nobody told, costs as asked. The
    source says either."""
    price = deployment.price
    if not deployment.served_prices and (served_as is None or served_as == deployment.lane):
        return Bill(price.cost_of(usage), price.source)
    served = _served_otherwise(deployment, served_as, served_model)
    if served is None:
        return Bill(price.cost_of(usage), price.source)
    told = next((one.price for one in deployment.served_prices if one.served == served), None)
    if told is None:
        served = served if served in _SERVED else OTHER
        return Bill(price.cost_of(usage), f"{price.source}, as asked, though served as {served}", served)
    return Bill(told.cost_of(usage), f"{told.source}, served as {served}", served)


def unheard(attempt: Attempt, usage: Usage, expected_tokens: float) -> Usage:
    """What is paid of a call that is not waited for any more: what was heard of it. Bedrock makes a whole answer to its
    end all the same, and nobody tells its length: the expected one stands for it. Source: LiteLLM's issue 13245, where
    users held their books against AWS's."""
    if attempt.deployment.address.backend != _MAKES_ALL or attempt.stream or usage.output_tokens:
        return usage
    return replace(usage, output_tokens=round(expected_tokens))


def most_usd(deployment: Deployment, input_tokens: float, output_tokens: float) -> float:
    """What these tokens cost at most: all input written to the cache, where one is kept, and served in the dearest tier
    that the service may give instead. A prompt router is taken at its own price."""
    served = deployment.served_prices
    if served and served[0].served not in _SERVED:
        served = ()
    return max(
        _dearest(price, deployment).cost_usd(input_tokens, output_tokens)
        for price in (deployment.price, *(one.price for one in served))
    )


def _dearest(price: Price, deployment: Deployment) -> Price:
    aws, write = deployment.address.aws, price.cache_write_usd_per_mtok
    if aws is None or aws.cache is None or write is None or write <= price.input_usd_per_mtok:
        return price
    return replace(price, input_usd_per_mtok=write)


def _served_otherwise(deployment: Deployment, served_as: str | None, served_model: str | None) -> str | None:
    wanted = asked(deployment)
    if wanted == ROUTER:
        is_told = served_model is not None and served_model != deployment.address.target
        return plain(served_model) if served_model is not None and is_told else None
    if served_as is None or served_as == wanted:
        return None
    if deployment.address.backend == _BY_VARIANT:
        return None if wanted == deployment.lane else served_as
    is_special = wanted in _ASKED_BY_NAME or wanted == Latency.OPTIMIZED.value
    return served_as if served_as in (_SERVED if is_special else _SERVED - _ORDINARY) else None
