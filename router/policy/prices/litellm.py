"""LiteLLM's price file, `model_prices_and_context_window.json`: which of its rows give a price per token?

Read are `input_cost_per_token`, `output_cost_per_token`, the costs of cached tokens, and the same with `_priority`,
`_flex` and `_batches`; what prompts above 200k tokens cost is not. Rows of other modes than text are passed over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from router.domain.deployment import Lane
from router.policy.prices.listed import BEDROCK, Listed, PriceList, Rate, bedrock_rates

LITELLM = "litellm"
_EXAMPLE = "sample_spec"
_MODES = frozenset({"", "chat", "completion", "responses"})
_PER_MTOK = 1e6
_MOST_TOLD = 5
_TIERS = {Lane.DEFAULT.value: "", Lane.PRIORITY.value: "_priority", Lane.FLEX.value: "_flex"}
_BATCH = "_batches"
_CACHE = {
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
}
_Row = Mapping[str, object]


class LitellmFile(Struct, frozen=True):
    """The rows of a file, or what is wrong with it."""

    rows: tuple[Listed, ...] = ()
    problem: str | None = None

    def prices(self) -> PriceList:
        """To look up in."""
        return PriceList(self.rows)


def read_litellm(data: bytes) -> LitellmFile:
    """A price file; its `problem` names the row and the field, and says what to do."""
    try:
        found = msgspec.json.decode(data, type=dict[str, dict[str, object]])
    except msgspec.DecodeError as error:
        return LitellmFile(problem=f"is no price file of LiteLLM's: {error}")
    rows: list[Listed] = []
    broken: list[str] = []
    for id, row in found.items():
        if id == _EXAMPLE or row.get("mode", "") not in _MODES:
            continue
        try:
            rates = _rates(row)
        except ValueError as error:
            broken.append(f"`{id}`: {error}")
            continue
        if rates:
            provider = str(row.get("litellm_provider", ""))
            rows.append(Listed(id, BEDROCK if provider.startswith(BEDROCK) else provider, rates, LITELLM))
    if broken:
        more = f" (and {len(broken) - _MOST_TOLD} more)" if len(broken) > _MOST_TOLD else ""
        told = "; ".join(broken[:_MOST_TOLD])
        return LitellmFile(problem=f"has rows that are no price: {told}{more}; mend them or take them out")
    if not rows:
        return LitellmFile(problem="is no price file of LiteLLM's: no row has `input_cost_per_token`")
    return LitellmFile(tuple(rows))


def _rates(row: _Row) -> dict[str, Rate]:
    given = {tier: rate for tier, suffix in _TIERS.items() if (rate := _rate(row, suffix)) is not None}
    base = given.get(Lane.DEFAULT.value)
    if base is None:
        return {}
    if (batch := _rate(row, _BATCH, like=base)) is not None:
        given[Lane.BATCH.value] = batch
    is_bedrock = str(row.get("litellm_provider", "")).startswith(BEDROCK)
    return {**bedrock_rates(base), **given} if is_bedrock else given


def _rate(row: _Row, suffix: str, like: Rate | None = None) -> Rate | None:
    """The prices with a suffix; cached tokens cost as in `like` where they have none with it."""
    paid = _usd(row, f"input_cost_per_token{suffix}"), _usd(row, f"output_cost_per_token{suffix}")
    if paid[0] is None or paid[1] is None:
        return None
    cached = {field: _usd(row, f"{key}{suffix}") for field, key in _CACHE.items()}
    if like is not None:
        cached = {field: getattr(like, field) if usd is None else usd for field, usd in cached.items()}
    return Rate(paid[0], paid[1], **cached)


def _usd(row: _Row, field: str) -> float | None:
    """USD per million tokens."""
    value = row.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < math.inf:
        raise ValueError(f"{field} is {value!r}: give USD for one token, 0 or more")
    return round(value * _PER_MTOK, 9)
