"""What there is to call: models with their speed, price, quota and answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from msgspec import Struct, field
from msgspec.structs import replace

from router.doubles.aws.call import Call


class ToolUse(Struct, frozen=True):
    """A tool call in an answer; `arguments` are the pieces of its JSON text as they are streamed."""

    id: str
    name: str
    arguments: tuple[str, ...]


class Answer(Struct, frozen=True):
    """What a model says. Token counts of `None` are counted: a word of the input, a piece of the answer is a token."""

    pieces: tuple[str, ...]
    reasoning: tuple[str, ...] = ()
    tools: tuple[ToolUse, ...] = ()
    stop_reason: str = "end_turn"
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    routed_to: str | None = None
    """The model that a prompt router says it invoked, where no router of the world did."""


Says = Answer | Callable[[Call], Answer]


def words(n: int) -> Answer:
    """An answer of n words, a piece each."""
    return Answer(pieces=tuple(f"word{i} " for i in range(n)))


class Speed(Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds: to the first token of an empty prompt, more for each input token that is not read from the cache,
    between output tokens, and to load the model when it has not been called for `warm_s`."""

    first_token_s: float = 0.0
    input_token_s: float = 0.0
    output_token_s: float = 0.0
    cold_start_s: float = 0.0
    warm_s: float = 300.0


class Prices(Struct, frozen=True, forbid_unknown_fields=True):
    """USD per million tokens; of the cache, `None` is the factor Anthropic's models have on Bedrock (a tenth of the
    input's price to read, 1.25 of it to write, 2 of it to write for an hour)."""

    input: float = 0.0
    output: float = 0.0
    cache_read: float | None = None
    cache_write: float | None = None

    def usd(self, fresh: int, read: int, written: int, output: int, *, long: int = 0) -> float:
        """Dollars for one call at the standard tier; `long` of the `written` tokens are kept for an hour."""
        reading = 0.1 * self.input if self.cache_read is None else self.cache_read
        writing = 1.25 * self.input if self.cache_write is None else self.cache_write
        write_long = 2.0 * self.input if self.cache_write is None else 1.6 * self.cache_write
        written_usd = (written - long) * writing + long * write_long
        return (fresh * self.input + read * reading + written_usd + output * self.output) * 1e-6


class Quota(Struct, frozen=True, forbid_unknown_fields=True):
    """What an account may ask of a model in a region in a minute; `None`: no bound. An output token counts
    `output_burndown` times at the end of a call."""

    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    output_burndown: float = 1.0


class Lane(Struct, frozen=True, forbid_unknown_fields=True):
    """A service tier or an optimised latency: factors on every time and every price."""

    time: float = 1.0
    price: float = 1.0


_TIERS: Mapping[str, Lane] = MappingProxyType(
    {"default": Lane(), "priority": Lane(0.8, 1.75), "flex": Lane(1.5, 0.5), "reserved": Lane()}
)


class Optimized(Struct, frozen=True, forbid_unknown_fields=True):
    """Latency-optimised inference: beyond its own quota a call is silently served as standard."""

    lane: Lane = Lane(0.5, 1.25)
    quota: Quota = Quota()


class ModelTerms(Struct, frozen=True, forbid_unknown_fields=True):
    """What can be written of a foundation model. `family` is how InvokeModel spells it, told from the id where
    `None`; `max_tokens` is what an unset `maxTokens` reserves; a prefix shorter than `cache_min_tokens` is not cached
    (`None`: no cache)."""

    id: str
    family: str | None = None
    speed: Speed = Speed()
    prices: Prices = Prices()
    quota: Quota = Quota()
    max_tokens: int = 64_000
    window_tokens: int = 200_000
    answer_tokens: int = 8
    tiers: Mapping[str, Lane] = _TIERS
    optimized: Optimized | None = None
    cache_min_tokens: int | None = 1024


def said(says: Says | None, answer_tokens: int, call: Call) -> Answer:
    """What somebody who is told to say `says`, or so many made-up words, says to a call."""
    if says is None:
        return words(answer_tokens)
    return says if isinstance(says, Answer) else says(call)


class Model(ModelTerms, frozen=True):
    """A foundation model. It says what it is told to, or as many words as its `answer_tokens`."""

    says: Says | None = None

    def answer(self, call: Call) -> Answer:
        """What it says to this call."""
        return said(self.says, self.answer_tokens, call)


def cut(answer: Answer, limit: int) -> Answer:
    """What of an answer is said where it may have so many tokens."""
    if limit >= len(answer.pieces):
        return answer
    return replace(answer, pieces=answer.pieces[:limit], tools=(), stop_reason="max_tokens", output_tokens=None)


class PromptRouter(Struct, frozen=True, forbid_unknown_fields=True):
    """Two models of one family: prompts of at least `long_tokens` go to the second."""

    models: tuple[str, str]
    long_tokens: int = 100


class Guardrail(Struct, frozen=True, forbid_unknown_fields=True):
    """Words that block a prompt or an answer, and what is said instead."""

    words: tuple[str, ...] = field(default_factory=tuple)
    message: str = "Sorry, this cannot be answered."


class BatchOrders(Struct, forbid_unknown_fields=True):
    """How jobs go. `fails`: they fail with this message. `failing`: record numbers (by place) that get an error.
    `does`: the share of the records that is done when a job ends, stops or runs out of time."""

    min_records: int = 100
    takes_s: float = 1.0
    price: float = 0.5
    fails: str | None = None
    failing: frozenset[int] = frozenset()
    does: float = 1.0


class Bill(Struct, frozen=True):
    """A line of what AWS would bill. `tier` and `latency` are what was served; `model_id` is what was asked for.

    Tokens of reserved throughput cost nothing by the call.
    """

    at: float
    operation: str
    model: str
    model_id: str
    region: str
    account: str
    tier: str
    latency: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    usd: float
    quota_tokens: float = 0.0
    """What the call came to in the quota, its output burnt down."""
    latency_ms: int = 0
    first_token_ms: int | None = None
    """Of a stream."""


class Refusal(Struct, frozen=True):
    """A call answered with an error. What could not be read of it is `None`."""

    at: float
    code: str
    operation: str | None
    model_id: str | None
    region: str | None
