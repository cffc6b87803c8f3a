"""What a request class may say about how its requests are treated: parameters, style, money, cache."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from router.domain.slo import Check, WhenSpent
from router.policy.schema.values import Count, Duration, Ratio, Share, Spec, Text, Wait


def _number_word_or_mapping(value: Any) -> str:
    if isinstance(value, dict):
        return "(mapping)"
    return "(word)" if isinstance(value, str) else "(number)"


LongText = Annotated[str, Field(min_length=1, max_length=8192)]
LengthWord = Literal["short", "medium", "long"]


class CeilingSpec(Spec):
    """A learned `max_tokens`: the p97 of what the model answered in this class plus 20 %, between its bounds."""

    start: Annotated[
        Annotated[Count, Tag("(number)")] | Annotated[LengthWord, Tag("(word)")],
        Discriminator(_number_word_or_mapping),
    ] = "medium"
    """Where learning starts: a number of tokens, or short (256), medium (1024), long (4096)."""
    min: Count = 16
    """Never below so many tokens."""
    max: Count = 16384
    """Never above so many tokens."""
    truncated: Ratio = 0.02
    """Share of answers that may end cut off (`finish_reason` length); above it the ceiling rises."""


MaxTokens = Annotated[
    Annotated[Count, Tag("(number)")] | Annotated[LengthWord, Tag("(word)")] | Annotated[CeilingSpec, Tag("(mapping)")],
    Discriminator(_number_word_or_mapping),
]


class SamplingSpec(Spec):
    """Sampling parameters, filled in only where the request is silent."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Sampling temperature, 0 to 2."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Nucleus sampling mass, above 0 up to 1."""
    top_k: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Only the k likeliest tokens, where the backend takes it."""
    max_tokens: MaxTokens | None = None
    """Ceiling on output tokens: a number keeps it fixed; short, medium, long or a mapping learn it."""


class ParametersSpec(SamplingSpec):
    """Parameters of a class: a profile, and what the class says otherwise."""

    profile: Text | None = None
    """Name of a parameter profile; auto is the one of each request's use case; absent or none is no profile."""


class BudgetSpec(Spec):
    """Limits on the spending of a class."""

    usd_per_request: Annotated[float, Field(gt=0)] | None = None
    """Most that one request may be expected to cost, in USD."""
    mean_usd_per_request: Annotated[float, Field(gt=0)] | None = None
    """What requests may cost on average, in USD: the choice is steered there, and nothing is refused for it; where the
    floor cannot be kept for so little, the floor is kept."""
    usd_per_day: Annotated[float, Field(gt=0)] | None = None
    """Most that the class may spend in a day of UTC, in USD."""
    when_spent: WhenSpent = WhenSpent.REJECT
    """reject: a clear 429 until the next day; cheapest: only the cheapest deployment; queue: wait for the next day."""


class CacheSpec(Spec):
    """Answers that are given again to the very same request of the same tenant."""

    ttl: Duration
    """How long an answer is given again."""
    when: Literal["deterministic", "always"] = "deterministic"
    """deterministic: only at temperature 0; always: whatever the temperature."""
    max_entries: Count = 10_000
    """Most answers kept; the least recently used goes first."""


def _word_or_share(value: Any) -> str:
    return "(word)" if value == "auto" else "(share)"


FREE_CHECKS = tuple(check for check in Check if check is not Check.LOGPROB)
"""What asks no more of a backend than an answer."""


class CascadeSpec(Spec):
    """Answers are checked before they are sent; one that is probably not adequate is made again elsewhere."""

    checks: Annotated[tuple[Check, ...], Field(min_length=1)] = FREE_CHECKS
    """What is checked: truncation (by a learned ceiling), refusal, format (JSON where the request asks for it), json,
    regex and callback (the schema, the pattern and the topic of `metadata.verify`); and, only where it is named here,
    logprob, for which the probability of each token is asked of backends that speak OpenAI's protocol."""
    stream: bool = False
    """Whether streams may be held back until they are checked; else they are never checked."""
    max_wait: Duration = 10.0
    """Longest that a stream is held back, that a callback is waited for, and that a second call may take."""
    threshold: Annotated[
        Annotated[Literal["auto"], Tag("(word)")] | Annotated[Ratio, Tag("(share)")], Discriminator(_word_or_share)
    ] = "auto"
    """auto: made again where the expected gain is worth its price; or the P(adequate) under which it is, as 60%."""


class JudgeSpec(Spec):
    """A deployment that judges a sampled share of the class's answers; what it says is learned from as feedback is."""

    deployment: Text
    """Deployment or group that judges. It should not be one whose answers it judges."""
    share: Share = 0.02
    """Share of the answers that are drawn to be judged, such as 2%."""
    usd_per_day: Annotated[float, Field(gt=0)] = 1.0
    """Most that judging the answers of the class may cost in a day of UTC, in USD; past it nothing is judged."""
    rubric: LongText | None = None
    """What a good answer is, in place of the usual: 1 as good as an expert's, 0.5 just of use, 0 wrong or useless."""
    reference: LongText | None = None
    """Facts that the judge may take as true, such as the prices that answers should give."""
    wait: Wait = 60.0
    """How long the sender has to tell the quality itself, which goes before the verdict."""
