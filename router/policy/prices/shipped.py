"""The list that comes with the router. USD per million tokens; each row says where and when it was published.

Prices differ by region and change; the sources are of us-east-1 and us-west-2. From Claude 4.5 on, an inference profile
that keeps to one part of the world costs 10 % more than the global one and has a row of its own.
"""

from __future__ import annotations

from typing import NamedTuple

from router.policy.prices.listed import BEDROCK, OPENAI, Listed, PriceList, Rate, bedrock_rates


class _Source(NamedTuple):
    date: str
    cited: str


_AWS = _Source("2025-07-20", "aws.amazon.com/bedrock/pricing, in convo-lang/convo-lang bedrock-pricing.md @091db583")
_AWS_EARLIER = _Source("2025-03-12", "aws.amazon.com/bedrock/pricing, in RooCodeInc/Roo-Code bedrock.ts @0364e1ec")
_LITELLM = _Source("2026-11-21", "BerriAI/litellm model_prices_and_context_window.json @00035b69")

_GEOGRAPHIES = ("us", "eu", "apac", "jp", "au")
_IN_ONE_PART = 1.1


class _Row(NamedTuple):
    """A model of Bedrock. Cache prices: read, write for 5 minutes, write for an hour."""

    id: str
    input: float
    output: float
    cache: tuple[float | None, ...] = ()
    source: _Source = _AWS
    optimized: tuple[float, float] | None = None

    def listed(self) -> Listed:
        optimized = None if self.optimized is None else Rate(*self.optimized)
        rates = bedrock_rates(Rate(self.input, self.output, *self.cache), optimized)
        return Listed(self.id, BEDROCK, rates, f"shipped:{self.source.date}", self.source.cited)

    def kept_to(self, geography: str) -> _Row:
        """The profile that serves it in one part of the world only."""
        cache = tuple(None if usd is None else round(usd * _IN_ONE_PART, 9) for usd in self.cache)
        paid = (round(self.input * _IN_ONE_PART, 9), round(self.output * _IN_ONE_PART, 9))
        return _Row(f"{geography}.{self.id}", *paid, cache, self.source)


_HAIKU_45, _SONNET_45, _OPUS_45 = (0.1, 1.25, 2.0), (0.3, 3.75, 6.0), (0.5, 6.25, 10.0)
_CLAUDE_45 = (
    _Row("anthropic.claude-haiku-4-5-20251001-v1:0", 1.0, 5.0, _HAIKU_45, _LITELLM),
    _Row("anthropic.claude-opus-4-5-20251101-v1:0", 5.0, 25.0, _OPUS_45, _LITELLM),
    _Row("anthropic.claude-opus-4-6-v1", 5.0, 25.0, _OPUS_45, _LITELLM),
    _Row("anthropic.claude-opus-4-7", 5.0, 25.0, _OPUS_45, _LITELLM),
    _Row("anthropic.claude-sonnet-4-6", 3.0, 15.0, _SONNET_45, _LITELLM),
)
"""And later: priced by where they may be served."""
_BEDROCK = (
    *(row.kept_to(geography) for row in _CLAUDE_45 for geography in _GEOGRAPHIES),
    *_CLAUDE_45,
    _Row("amazon.nova-micro-v1:0", 0.035, 0.14, (0.00875,)),
    _Row("amazon.nova-lite-v1:0", 0.06, 0.24, (0.015,)),
    _Row("amazon.nova-pro-v1:0", 0.8, 3.2, (0.2,), optimized=(1.0, 4.0)),
    _Row("amazon.nova-premier-v1:0", 2.5, 12.5, (0.625,)),
    _Row("amazon.nova-2-lite-v1:0", 0.3, 2.5, (0.075,), _LITELLM),
    _Row("us.amazon.nova-2-lite-v1:0", 0.33, 2.75, (0.0825,), _LITELLM),
    _Row("eu.amazon.nova-2-lite-v1:0", 0.33, 2.75, (0.0825,), _LITELLM),
    _Row("amazon.titan-text-lite-v1", 0.15, 0.2, source=_AWS_EARLIER),
    _Row("amazon.titan-text-express-v1", 0.2, 0.6, source=_AWS_EARLIER),
    _Row("amazon.titan-text-premier-v1:0", 0.5, 1.5, source=_LITELLM),
    _Row("anthropic.claude-3-haiku-20240307-v1:0", 0.25, 1.25),
    _Row("anthropic.claude-3-sonnet-20240229-v1:0", 3.0, 15.0, source=_AWS_EARLIER),
    _Row("anthropic.claude-3-opus-20240229-v1:0", 15.0, 75.0, source=_AWS_EARLIER),
    _Row("anthropic.claude-3-5-haiku-20241022-v1:0", 0.8, 4.0, (0.08, 1.0)),
    _Row("anthropic.claude-3-5-sonnet-20241022-v2:0", 3.0, 15.0, (0.3, 3.75)),
    _Row("anthropic.claude-3-5-sonnet-20240620-v1:0", 3.0, 15.0),
    _Row("anthropic.claude-3-7-sonnet-20250219-v1:0", 3.0, 15.0, (0.3, 3.75)),
    _Row("anthropic.claude-sonnet-4-20250514-v1:0", 3.0, 15.0, (0.3, 3.75)),
    _Row("anthropic.claude-opus-4-20250514-v1:0", 15.0, 75.0, (1.5, 18.75)),
    _Row("anthropic.claude-opus-4-1-20250805-v1:0", 15.0, 75.0, (1.5, 18.75), _LITELLM),
    _Row("meta.llama3-8b-instruct-v1:0", 0.3, 0.6),
    _Row("meta.llama3-70b-instruct-v1:0", 2.65, 3.5),
    _Row("meta.llama3-1-8b-instruct-v1:0", 0.22, 0.22),
    _Row("meta.llama3-1-70b-instruct-v1:0", 0.72, 0.72, optimized=(0.9, 0.9)),
    _Row("meta.llama3-1-405b-instruct-v1:0", 2.4, 2.4, optimized=(3.0, 3.0)),
    _Row("meta.llama3-2-1b-instruct-v1:0", 0.1, 0.1),
    _Row("meta.llama3-2-3b-instruct-v1:0", 0.15, 0.15),
    _Row("meta.llama3-2-11b-instruct-v1:0", 0.16, 0.16),
    _Row("meta.llama3-2-90b-instruct-v1:0", 0.72, 0.72),
    _Row("meta.llama3-3-70b-instruct-v1:0", 0.72, 0.72),
    _Row("meta.llama4-maverick-17b-instruct-v1:0", 0.24, 0.97),
    _Row("meta.llama4-scout-17b-instruct-v1:0", 0.17, 0.66),
    _Row("meta.llama2-13b-chat-v1", 0.75, 1.0),
    _Row("meta.llama2-70b-chat-v1", 1.95, 2.56),
    _Row("mistral.mistral-7b-instruct-v0:2", 0.15, 0.2, source=_LITELLM),
    _Row("mistral.mixtral-8x7b-instruct-v0:1", 0.45, 0.7, source=_LITELLM),
    _Row("mistral.mistral-small-2402-v1:0", 1.0, 3.0, source=_LITELLM),
    _Row("mistral.mistral-large-2407-v1:0", 3.0, 9.0, source=_LITELLM),
    _Row("mistral.mistral-large-3-675b-instruct", 0.5, 1.5, source=_LITELLM),
    _Row("mistral.ministral-3-8b-instruct", 0.15, 0.15, source=_LITELLM),
    _Row("mistral.ministral-3-14b-instruct", 0.2, 0.2, source=_LITELLM),
    _Row("mistral.pixtral-large-2502-v1:0", 2.0, 6.0),
    _Row("deepseek.r1-v1:0", 1.35, 5.4),
)


def _openai(id: str, **rates: Rate) -> Listed:
    return Listed(id, OPENAI, rates, f"shipped:{_LITELLM.date}", _LITELLM.cited)


_OPENAI = (
    _openai(
        "gpt-4o-mini", default=Rate(0.15, 0.6, 0.075), priority=Rate(0.25, 1.0, 0.125), batch=Rate(0.075, 0.3, 0.075)
    ),
    _openai("gpt-5", default=Rate(1.25, 10, 0.125), priority=Rate(2.5, 20, 0.25), flex=Rate(0.625, 5, 0.0625)),
    _openai(
        "gpt-5.4",
        default=Rate(2.5, 15, 0.25),
        priority=Rate(5, 30, 0.5),
        flex=Rate(1.25, 7.5, 0.13),
        batch=Rate(1.25, 7.5, 0.25),
    ),
    _openai(
        "gpt-5.5",
        default=Rate(5, 30, 0.5),
        priority=Rate(10, 60, 1.0),
        flex=Rate(2.5, 15, 0.25),
        batch=Rate(2.5, 15, 0.5),
    ),
    _openai(
        "gpt-5.6-luna",
        default=Rate(1, 6, 0.1, 1.25),
        priority=Rate(2, 12, 0.2, 2.5),
        flex=Rate(0.5, 3, 0.05, 0.625),
        batch=Rate(0.5, 3, 0.1, 1.25),
    ),
)

SHIPPED = PriceList((*(row.listed() for row in _BEDROCK), *_OPENAI))
