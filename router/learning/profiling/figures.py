"""A level of a load test in the metrics that SageMaker's evaluation of optimised models shows, by their names.

Source: Amazon SageMaker AI Developer Guide, "Evaluate the performance of optimized models", metrics reference.
"Tokenizer failed" is not among them: tokens are as the backend counts them, no tokenizer is configured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil

from msgspec import Struct

from router.learning.profiling.calls import Level, Sample

_HOUR_S = 3600.0


class Spread(Struct, frozen=True, omit_defaults=True):
    """What `n` values are like. A quantile is a value that was observed (nearest rank), and is absent where too few
    were to have one beyond it: p90 needs 10 values, p99 needs 100."""

    n: int
    mean: float
    p50: float
    p90: float | None = None
    p99: float | None = None


class Figures(Struct, frozen=True, omit_defaults=True):
    """One level. Latencies in milliseconds, `None` where none was seen; of latencies and tokens only calls that went
    well count. Prices are what was paid for these calls, and for the hours meanwhile, over the tokens of that kind."""

    concurrency: int
    client_invocations: int
    client_invocation_errors: int
    empty_inference_response: int
    duration_s: float
    input_tokens_per_sec: float
    output_tokens_per_sec: float
    usd: float
    warm_up_usd: float
    time_to_first_token_ms: Spread | None = None
    inter_token_latency_ms: Spread | None = None
    client_latency_ms: Spread | None = None
    input_tokens_per_sec_per_req: float | None = None
    output_tokens_per_sec_per_req: float | None = None
    input_tokens: float | None = None
    """Of one request, the mean; so is `output_tokens`."""
    output_tokens: float | None = None
    price_per_million_input_tokens: float | None = None
    price_per_million_output_tokens: float | None = None
    errors: Mapping[str, int] = {}
    estimated: int = 0
    """Answers whose tokens are our estimate."""
    stopped: str = ""
    busy_ratio: float | None = None


def spread(values: Iterable[float]) -> Spread | None:
    """`None` where there is no value."""
    known = sorted(values)
    if not known:
        return None
    n = len(known)
    return Spread(
        n=n,
        mean=sum(known) / n,
        p50=known[ceil(0.5 * n) - 1],
        p90=known[ceil(0.9 * n) - 1] if n >= 10 else None,
        p99=known[ceil(0.99 * n) - 1] if n >= 100 else None,
    )


def figures(level: Level, *, hourly_usd: float = 0.0) -> Figures:
    """The metrics of a level whose deployment costs so much an hour besides."""
    samples = level.samples
    answers = [sample for sample in samples if sample.code is None]
    duration_s = max((s.ended for s in samples), default=0.0) - min((s.sent for s in samples), default=0.0)
    inputs, outputs = sum(s.input_tokens for s in answers), sum(s.output_tokens for s in answers)
    items = sum(s.items for s in answers)
    hours_usd = hourly_usd * duration_s / _HOUR_S
    usd, input_usd = sum(s.usd for s in samples), sum(s.input_usd for s in samples)
    return Figures(
        concurrency=level.concurrency,
        client_invocations=len(samples),
        client_invocation_errors=len(samples) - len(answers),
        empty_inference_response=sum(s.output_tokens == 0 for s in answers),
        duration_s=duration_s,
        input_tokens_per_sec=inputs / duration_s if duration_s else 0.0,
        output_tokens_per_sec=outputs / duration_s if duration_s else 0.0,
        usd=usd,
        warm_up_usd=sum(s.usd for s in level.warm_ups),
        time_to_first_token_ms=_ms(s.ttft_s for s in answers),
        inter_token_latency_ms=_ms(s.tpot_s for s in answers),
        client_latency_ms=_ms(s.latency_s for s in answers),
        input_tokens_per_sec_per_req=_rate(answers, [s.input_tokens for s in answers]),
        output_tokens_per_sec_per_req=_rate(answers, [s.output_tokens for s in answers]),
        input_tokens=inputs / items if items else None,
        output_tokens=outputs / items if items else None,
        price_per_million_input_tokens=(input_usd + hours_usd) / inputs * 1e6 if inputs else None,
        price_per_million_output_tokens=(usd - input_usd + hours_usd) / outputs * 1e6 if outputs else None,
        errors=dict(Counter(s.code for s in samples if s.code is not None).most_common()),
        estimated=sum(not s.has_usage for s in answers),
        stopped=level.stopped,
        busy_ratio=level.busy_ratio,
    )


def _ms(seconds: Iterable[float | None]) -> Spread | None:
    return spread(1e3 * s for s in seconds if s is not None)


def _rate(answers: Sequence[Sample], tokens: Sequence[int]) -> float | None:
    """Tokens a second of one request, the mean over requests."""
    rates = [n / s.items / s.latency_s for s, n in zip(answers, tokens, strict=True) if s.latency_s > 0.0]
    return sum(rates) / len(rates) if rates else None
