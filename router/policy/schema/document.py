"""What did the operator write? One document of a policy directory."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from router.domain.deployment import Mode
from router.policy.schema.classes import ClassSpec, ClassTerms
from router.policy.schema.fleet import DeploymentSpec, PriceSpec
from router.policy.schema.treatment import SamplingSpec
from router.policy.schema.values import Amount, Count, Duration, Share, ShortWait, Spec, Text

Weight = Annotated[float, Field(gt=0, le=1e6)]


class PricesSpec(Spec):
    """What things cost and what an answer is worth."""

    usd_per_useful: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """What one useful answer is worth in USD, the exchange rate between quality and cost; absent: 0.02."""
    models: dict[Text, PriceSpec] = Field(default_factory=dict)
    """USD per million tokens by model, for deployments that bring no price of their own."""
    litellm: Text | None = None
    """Price file of LiteLLM's (model_prices_and_context_window.json), for models that have no price here."""
    shipped: bool | None = None
    """Whether the prices that ship with the router count, after all others; absent: they do. `router prices` shows
    them."""


class BoundsSpec(Spec):
    """Limits on everything the controller tunes by itself; it moves only inside them."""

    limit_min: Count = 1
    """Least calls at once that a deployment is cut down to."""
    limit_max: Count = 1024
    """Most calls at once that a deployment may rise to."""
    queue_requests: Count = 10_000
    """Most requests waiting in the router."""
    queue_wait: Duration = 60.0
    """Longest wait in the router's queue."""
    tenant_queue: Share = 1.0
    """Share of the places in the queue that one tenant may have, such as 25%. At 1 a tenant may have them all as long
    as nobody else wants one: a full queue makes room for a tenant that has less."""
    floor_price_max: Amount = 8.0
    """Ceiling of the price that keeps the quality floor."""
    capacity_price_max: Amount = 20.0
    """Ceiling of the price of scarce capacity."""
    batch_items_max: Count = 256
    """Largest batch."""
    window: ShortWait = 0.003
    """How long a request of a crowd waits for the rest of it, so that they are decided together: only where
    more came at once than there are deployments and one of them is short. 0 decides each as it comes."""
    fanout_parts: Count = 16
    """Most parts that one request may list (`metadata.subqueries`); with more it is refused."""
    fanout_parallel: Count = 16
    """Most parts of one request that are under way at once; the others wait their turn."""


class Document(Spec):
    """One YAML file of a policy directory. `defaults` and `bounds` stand in one file only; lists add up."""

    defaults: ClassTerms | None = None
    """What holds for every class that does not say otherwise, field by field."""
    deployments: tuple[DeploymentSpec, ...] = ()
    """The fleet."""
    fleet: tuple[DeploymentSpec, ...] = ()
    """Another word for `deployments`."""
    prices: PricesSpec | None = None
    """Prices by model, and what a useful answer is worth."""
    classes: tuple[ClassSpec, ...] = ()
    """Request classes."""
    one_class: ClassSpec | None = Field(None, alias="class")
    """One request class, where a file holds just one."""
    profiles: dict[Text, SamplingSpec] = Field(default_factory=dict)
    """Parameter profiles by name; one with the name of a use case takes the place of the one that ships."""
    tenants: dict[Text, Weight] = Field(default_factory=dict)
    """Weight of each tenant where tenants compete for the same deployments: one of weight 2 gets twice the work done
    of one of weight 1, which is what tenants weigh that are not named. Those named get their own series in metrics."""
    bounds: BoundsSpec | None = None
    """Limits on what the controller tunes by itself."""
    mode: Mode | None = None
    """What becomes of what the controller finds. act: it is put in force; advise: it is said and nothing is changed,
    limits stay at their configured values and prices where they start. A deployment or a class may say otherwise;
    absent: act."""
