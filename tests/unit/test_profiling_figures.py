"""The figures of a load test: metrics by their names, honest quantiles, prices, the knee; least squares from 0 up."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from router.learning.profiling.batch_fit import fit_batch
from router.learning.profiling.calls import Level, Sample
from router.learning.profiling.figures import Figures, figures, spread
from router.learning.profiling.knee import knee
from router.learning.profiling.step_fit import fit_step
from router.stats.non_negative import non_negative


def sample(sent: float = 0.0, **changes: Any) -> Sample:
    """A second to the answer of 11 tokens, half of it to the first."""
    told: dict[str, Any] = {
        "sent": sent,
        "ended": sent + 1.0,
        "first": sent + 0.5,
        "input_tokens": 100,
        "output_tokens": 11,
        "usd": 0.003,
        "input_usd": 0.001,
    }
    return Sample(**told | changes)


def level(*samples: Sample, concurrency: int = 1, **changes: Any) -> Level:
    return Level(concurrency, samples, **changes)


def measured(concurrency: int, output_per_s: float, latency_ms: float) -> Figures:
    """A level of so many users."""
    answers = [sample(i * 1.0) for i in range(2)]
    one = figures(level(*answers, concurrency=concurrency))
    return msgspec.structs.replace(
        one, output_tokens_per_sec=output_per_s, client_latency_ms=spread([latency_ms, latency_ms])
    )


def test_a_quantile_needs_a_value_beyond_it() -> None:
    """p90 from ten values on, p99 from a hundred; each is a value that was seen."""
    few, some, many = spread(range(1, 10)), spread(range(1, 11)), spread(range(1, 101))
    assert few is not None
    assert some is not None
    assert many is not None
    assert (few.n, few.p50, few.p90, few.p99) == (9, 5, None, None)
    assert (some.p50, some.p90, some.p99) == (5, 9, None)
    assert (many.p50, many.p90, many.p99) == (50, 90, 99)
    assert spread([]) is None


def test_a_level_in_the_metrics_of_sagemaker() -> None:
    """Two answers one after the other, and an error that took a second."""
    failed = sample(2.0, first=None, input_tokens=0, output_tokens=0, usd=0.0, input_usd=0.0, code="throttled")
    found = figures(level(sample(), sample(1.0), failed))
    assert found.client_invocations == 3
    assert found.client_invocation_errors == 1
    assert found.errors == {"throttled": 1}
    assert found.time_to_first_token_ms is not None
    assert found.time_to_first_token_ms.mean == pytest.approx(500.0)
    assert found.inter_token_latency_ms is not None
    assert found.inter_token_latency_ms.mean == pytest.approx(50.0)
    assert found.client_latency_ms is not None
    assert found.client_latency_ms.n == 2
    assert found.input_tokens_per_sec == pytest.approx(200 / 3)
    assert found.output_tokens_per_sec == pytest.approx(22 / 3)
    assert found.output_tokens_per_sec_per_req == pytest.approx(11.0)
    assert (found.input_tokens, found.output_tokens) == (100, 11)
    assert found.price_per_million_input_tokens == pytest.approx(10.0)
    assert found.price_per_million_output_tokens == pytest.approx(0.002 / 11 * 1e6)


def test_there_is_no_figure_for_a_tokenizer_that_there_is_not() -> None:
    """Nor is one made up for latencies of a level without answers: both are absent from JSON."""
    failed = sample(first=None, output_tokens=0, code="unreachable")
    told = msgspec.to_builtins(figures(level(failed)))
    assert not {name for name in told if "tokenizer" in name or name.endswith("_ms") or "price" in name}
    assert told["client_invocation_errors"] == 1


def test_an_answer_without_tokens_is_counted_as_empty() -> None:
    """It went well, and said nothing."""
    found = figures(level(sample(first=None, output_tokens=0)))
    assert (found.empty_inference_response, found.client_invocation_errors) == (1, 0)


def test_an_hour_that_is_paid_anyway_is_laid_on_the_tokens() -> None:
    """36 dollars an hour are a cent for the second that 100 tokens in and 11 out took."""
    found = figures(level(sample(usd=0.0, input_usd=0.0)), hourly_usd=36.0)
    assert found.price_per_million_input_tokens == pytest.approx(0.01 / 100 * 1e6)
    assert found.price_per_million_output_tokens == pytest.approx(0.01 / 11 * 1e6)


def test_warm_ups_are_paid_and_not_counted() -> None:
    """Their dollars are told apart."""
    found = figures(level(sample(), warm_ups=(sample(usd=0.5),)))
    assert (found.client_invocations, found.usd, found.warm_up_usd) == (1, 0.003, 0.5)


def test_the_knee_is_where_throughput_over_latency_is_greatest() -> None:
    """Twice the users for hardly more tokens and twice the wait is past it."""
    levels = [measured(1, 100, 1000), measured(2, 195, 1020), measured(4, 210, 1900)]
    found = knee(levels)
    assert found is not None
    assert (found.concurrency, found.is_reached) == (2, True)
    last = knee(levels[:2])
    assert last is not None
    assert not last.is_reached
    assert knee([]) is None


def test_a_coefficient_is_never_negative() -> None:
    """What would need a negative one is explained by the others as well as it can be."""
    x = np.asarray([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    assert non_negative(x, np.asarray([3.0, 2.0, 1.0])) == pytest.approx([2.0, 0.0])
    assert non_negative(x, np.asarray([3.0, 5.0, 7.0])) == pytest.approx([1.0, 2.0])


def test_what_rows_cannot_tell_apart_goes_to_the_first() -> None:
    """Two columns that are the same give one figure, not two halves."""
    x = np.ones((4, 2))
    assert non_negative(x, np.full(4, 3.0)) == pytest.approx([3.0, 0.0])


def test_few_answers_tell_nothing_of_a_step() -> None:
    """Seven gaps are too few; so is one size of batch."""
    seven = level(*(sample(float(i)) for i in range(7)))
    assert fit_step([seven], step_token_budget=2048, source="x") is None
    one_size = level(*(sample(float(i), first=None, items=4) for i in range(9)), concurrency=4)
    assert fit_batch([one_size]) is None


def test_a_step_takes_some_time_whatever_a_noisy_fit_says() -> None:
    """Where the whole of a step goes to its sequences, the least is told of an empty one: a policy refuses nothing."""
    levels = []
    for users in (1, 2, 4):
        gaps_s = 10 * 0.01 * users
        answers = [sample(i * 9.0, first=i * 9.0 + 0.02, ended=i * 9.0 + 0.02 + gaps_s) for i in range(4)]
        levels.append(level(*(one for one in answers for _ in range(users)), concurrency=users))
    found = fit_step(levels, step_token_budget=2048, source="test")
    assert found is not None
    assert found.step.per_sequence_s == pytest.approx(0.01, rel=0.05)
    assert 0.0 < found.step.base_s < 1e-4
