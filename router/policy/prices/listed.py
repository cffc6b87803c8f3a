"""One row of a price list, and the names it goes by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from router.domain.aws.geography import is_spread, without_geography
from router.domain.aws.terms import Latency
from router.domain.deployment import Lane, Price

BEDROCK, OPENAI = "bedrock", "openai"
OPTIMIZED = Latency.OPTIMIZED.value
FACTORS = {Lane.PRIORITY.value: 1.75, Lane.FLEX.value: 0.5, Lane.BATCH.value: 0.5}
"""Times the standard price, what Bedrock asks in its other service tiers."""
FACTORS_CITED = (
    "BEDROCK_SERVICE_TIER_PRICING in RooCodeInc/Roo-Code bedrock.ts; batch: "
    "docs.aws.amazon.com/bedrock/latest/userguide/capacity-limits-cost-optimization.html"
)

_HOUR_S = 3600.0
_FOR_AN_HOUR = 2.0 / 1.25
"""Times the price of a write for five minutes, where a list has none for an hour (docs.claude.com, "Prompt caching":
1.25 and 2 times the input)."""
_PROVIDER = re.compile(r"^(?:anthropic|amazon|meta|mistral)\.")
_RELEASE = re.compile(r"(?:-20\d{6}|-20\d\d-\d\d-\d\d)?(?:-v\d+)?(?::\d+)?$")
_ROUTER = re.compile(r":(?:default-)?prompt-router/")


class Rate(Struct, frozen=True):
    """USD per million tokens; a cache price that is `None` is not known. `cache_write_1h` is of a prefix that is kept
    for an hour."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None

    def times(self, factor: float) -> Rate:
        """All of it dearer or cheaper."""
        cached = {field: getattr(self, field) for field in self.__struct_fields__[2:]}
        return Rate(
            round(self.input * factor, 9),
            round(self.output * factor, 9),
            **{field: round(usd * factor, 9) for field, usd in cached.items() if usd is not None},
        )

    def price(self, source: str, *, hourly_usd: float = 0.0, kept_s: float = 0.0) -> Price:
        """As a deployment has it; `kept_s` is how long a prefix is kept that is written to the cache."""
        write = self.cache_write
        if kept_s >= _HOUR_S and write is not None:
            write = round(write * _FOR_AN_HOUR, 9) if self.cache_write_1h is None else self.cache_write_1h
        return Price(self.input, self.output, hourly_usd, self.cache_read, write, source)


class Listed(Struct, frozen=True):
    """What a model costs by what is asked for: `default`, `priority`, `flex`, `batch`, `optimized`."""

    id: str
    provider: str
    rates: Mapping[str, Rate]
    source: str
    """As `Price.source` has it."""
    cited: str = ""
    """Where the figures were published."""


class PriceList:
    """Rows by exact id, and those of Bedrock and OpenAI by the plain name of their model."""

    def __init__(self, rows: Iterable[Listed]) -> None:
        self.rows = tuple(rows)
        self._by_id = {row.id: row for row in self.rows}
        self._by_name: dict[tuple[str, str], Listed] = {}
        for row in self.rows:
            if not is_spread(row.id):
                self._by_name.setdefault((row.provider, plain(row.id)), row)

    def find(self, providers: Iterable[str], *ids: str) -> Listed | None:
        """The row of the first id that has one, as it is written before its plain name."""
        providers = tuple(providers)
        for written in ids:
            for id in _spellings(written):
                row = self._by_id.get(id)
                if row is not None and (not providers or row.provider in providers):
                    return row
            name = plain(written)
            for provider in providers:
                if (row := self._by_name.get((provider, name))) is not None:
                    return row
        return None


def _spellings(id: str) -> Iterator[str]:
    yield id
    yield (last := id.rpartition("/")[2])
    yield without_geography(last)


def plain(id: str) -> str:
    """The name of a model without ARN, inference profile, provider, date and version: `claude-3-5-haiku` for
    `us.anthropic.claude-3-5-haiku-20241022-v1:0`, `llama-3-1-8b` for `meta.llama3-1-8b-instruct-v1:0` and for
    `llama-3.1-8b`."""
    name = without_geography(id.rpartition("/")[2].lower())
    name = _RELEASE.sub("", _PROVIDER.sub("", name)).removesuffix("-instruct").removesuffix("-chat")
    return re.sub(r"llama(?=\d)", "llama-", name.replace(".", "-"))


def is_prompt_router(target: str) -> bool:
    """Whether the service picks the model of each call."""
    return _ROUTER.search(target) is not None


def bedrock_rates(base: Rate, optimized: Rate | None = None) -> dict[str, Rate]:
    """What a model of Bedrock costs in each service tier."""
    rates = {Lane.DEFAULT.value: base, **{lane: base.times(factor) for lane, factor in FACTORS.items()}}
    return rates if optimized is None else {**rates, OPTIMIZED: optimized}
