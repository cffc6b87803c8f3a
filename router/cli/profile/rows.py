"""The metrics by the names that SageMaker's evaluation gives them, with how each is read and written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct

from router.learning.profiling.figures import Figures, Spread

Read = Callable[[Figures], float | None]


class Metric(Struct, frozen=True):
    """A name, how it is read off a level, and how its figure is written."""

    name: str
    read: Read
    form: str = ".1f"


def _quantiles(name: str, spread: Callable[[Figures], Spread | None]) -> Iterator[Metric]:
    for quantile in ("p50", "p90", "p99"):

        def read(one: Figures, quantile: str = quantile) -> float | None:
            found = spread(one)
            return None if found is None else getattr(found, quantile)

        yield Metric(f"{name}, {quantile}", read)


def _absent(_: Figures) -> None:
    """There is no such figure, which is not 0."""


LATENCY: Final = (
    *_quantiles("Time to first token (ms)", lambda one: one.time_to_first_token_ms),
    *_quantiles("Inter-token latency (ms)", lambda one: one.inter_token_latency_ms),
    *_quantiles("Client latency (ms)", lambda one: one.client_latency_ms),
    Metric("Input tokens/sec (count)", lambda one: one.input_tokens_per_sec, ",.0f"),
    Metric("Output tokens/sec (count)", lambda one: one.output_tokens_per_sec, ",.0f"),
    Metric("Client invocations (count)", lambda one: one.client_invocations, ".0f"),
    Metric("Client invocation errors (count)", lambda one: one.client_invocation_errors, ".0f"),
    Metric("Tokenizer failed (count)", _absent),
    Metric("Empty inference response (count)", lambda one: one.empty_inference_response, ".0f"),
)
THROUGHPUT: Final = (
    Metric("Input tokens/sec/req (count)", lambda one: one.input_tokens_per_sec_per_req, ",.0f"),
    Metric("Output tokens/sec/req (count)", lambda one: one.output_tokens_per_sec_per_req),
    Metric("Input tokens (count)", lambda one: one.input_tokens, ",.0f"),
    Metric("Output tokens (count)", lambda one: one.output_tokens, ",.0f"),
)
PRICE: Final = (
    Metric("Price per million input tokens", lambda one: one.price_per_million_input_tokens, ",.4g"),
    Metric("Price per million output tokens", lambda one: one.price_per_million_output_tokens, ",.4g"),
)
SECTIONS: Final = (("Latency", LATENCY), ("Throughput", THROUGHPUT), ("Price, USD", PRICE))
NO_TOKENIZER: Final = "No tokenizer is configured, so none can have failed: tokens are as the backend counts them."


def written(metric: Metric, one: Figures) -> str:
    """The figure of a level, or a dash where there is none."""
    figure = metric.read(one)
    return "–" if figure is None else f"{figure:{metric.form}}"
