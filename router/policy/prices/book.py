"""The price lists of a policy in order of precedence: its own models, LiteLLM's file, what ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from router.domain.deployment import Lane
from router.domain.errors import PolicyError
from router.policy.parse import Path, Source
from router.policy.prices.listed import BEDROCK, OPENAI, Listed, PriceList, Rate, plain
from router.policy.prices.litellm import LitellmFile
from router.policy.prices.shipped import SHIPPED
from router.policy.schema.fleet import DeploymentSpec, PriceSpec

OWN = "policy"
_SHIPPED_FOR = {"bedrock": (BEDROCK,), "openai_http": (OPENAI,), "simulated": (BEDROCK, OPENAI)}
"""Whose shipped prices hold for a backend: what a copy of one's own costs is not what Bedrock asks for the model."""
_CHOSEN_BY_ROUTERS = ("claude-", "llama-3", "nova-")

PriceFiles = Mapping[str, LitellmFile]
"""By path as the policy writes it."""
NO_PRICE_FILES: PriceFiles = {}


class PriceBook(Struct, frozen=True):
    """Where prices are looked up; `litellm` and `shipped` are `None` where they are not asked for."""

    models: Mapping[str, PriceSpec]
    litellm: PriceList | None = None
    shipped: PriceList | None = SHIPPED

    def lists(self, spec: DeploymentSpec) -> list[Listed]:
        """The rows for a deployment, what counts most first."""
        ids = (spec.target or spec.model, spec.model)
        found = [] if (own := self.models.get(spec.model)) is None else [own_row(spec.model, own)]
        providers = _SHIPPED_FOR.get(spec.backend, ())
        if self.litellm is not None:
            row = self.litellm.find((), *ids) or self.litellm.find(providers, *ids)
            found += [] if row is None else [row]
        if self.shipped is not None and providers:
            row = self.shipped.find(providers, *ids)
            found += [] if row is None else [row]
        return found

    def on_bedrock(self, model: str) -> Listed | None:
        """What a model costs by the token where no deployment says where it is called: units are bought of Bedrock."""
        own = self.models.get(model)
        if own is not None:
            return own_row(model, own)
        lists = (prices for prices in (self.litellm, self.shipped) if prices is not None)
        rows = (row for prices in lists if (row := prices.find((BEDROCK,), model)) is not None)
        return next((row for row in rows if Lane.DEFAULT in row.rates), None)

    def choices(self) -> dict[str, Listed]:
        """What the models cost that a prompt router of Bedrock may choose, by plain name."""
        found: dict[str, Listed] = {}
        for prices in (self.shipped, self.litellm):
            for row in () if prices is None else prices.rows:
                name = plain(row.id)
                if row.provider == BEDROCK and name.startswith(_CHOSEN_BY_ROUTERS) and "/" not in row.id:
                    found[name] = row
        return found | {plain(model): own_row(model, price) for model, price in self.models.items()}

    def names(self) -> tuple[str, ...]:
        """What may be meant by a model that has no price."""
        rows = () if self.shipped is None else self.shipped.rows
        return (*self.models, *dict.fromkeys(plain(row.id) for row in rows))


def own_row(model: str, price: PriceSpec) -> Listed:
    """A price that stands in the policy."""
    return Listed(model, "", {Lane.DEFAULT.value: own_rate(price)}, OWN)


def own_rate(price: PriceSpec) -> Rate:
    """As it is written."""
    return Rate(price.input, price.output, price.cache_read, price.cache_write)


def price_book(sources: Sequence[Source], files: PriceFiles, problems: list[PolicyError]) -> PriceBook:
    """The lists that the documents ask for; what is wrong with them is added to `problems`."""
    models: dict[str, PriceSpec] = {}
    said: dict[str, str] = {}
    litellm: PriceList | None = None
    ships = True
    for source in sources:
        prices = source.document.prices
        if prices is None:
            continue
        for model, price in prices.models.items():
            if model in models:
                message = f"the price of `{model}` is already in another file: keep one"
                problems.append(source.problem(("prices", "models", model), message, key=True))
            models[model] = price
        for field in ("litellm", "shipped"):
            if getattr(prices, field) is not None and said.setdefault(field, source.file) != source.file:
                message = f"`{field}` is already set in {said[field]}: keep one"
                problems.append(source.problem(("prices", field), message, key=True))
        ships = ships if prices.shipped is None else prices.shipped
        if prices.litellm is not None:
            litellm = _prices_of(source, prices.litellm, files, problems)
    return PriceBook(models, litellm, SHIPPED if ships else None)


def _prices_of(source: Source, name: str, files: PriceFiles, problems: list[PolicyError]) -> PriceList | None:
    here: Path = ("prices", "litellm")
    file = files.get(name) or LitellmFile(problem="was not read: this command looks at the policy's own text alone")
    if file.problem is not None:
        problems.append(source.problem(here, f"the file {name} {file.problem}"))
        return None
    return file.prices()
