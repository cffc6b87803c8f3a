"""The quota arithmetic and the prompt cache of the AWS double."""

from __future__ import annotations

import pytest

from router.doubles.aws.models import Quota
from router.doubles.aws.runtime.cache import Prefix, PromptCache
from router.doubles.aws.runtime.quota import Holder, Quotas, Reservation

ME = Holder("123456789012", "us-east-1", "anthropic.claude-sonnet-4", "on-demand")


@pytest.mark.parametrize(("max_tokens", "admitted"), [(64_000, 31), (1_000, 1_333)])
def test_example_of_aws(max_tokens: int, admitted: int) -> None:
    """AWS's own example: of 2,000,000 tokens a minute, calls with 500 of input hold 64,500 each where `maxTokens` is
    the model's 64,000, so 31 run at once; with 1,000 they hold 1,500, and 1,333 do."""
    quotas, quota = Quotas(), Quota(tokens_per_min=2e6)
    held = [quotas.reserve(ME, quota, 500 + max_tokens, now=0.0) for _ in range(admitted + 1)]
    assert [isinstance(one, Reservation) for one in held] == [True] * admitted + [False]


def test_refusal_takes_nothing() -> None:
    """A call that is over the tokens does not use up a request."""
    quotas, quota = Quotas(), Quota(requests_per_min=1, tokens_per_min=100)
    assert quotas.reserve(ME, quota, 101, now=0.0) == "Too many tokens, please wait before trying again."
    assert isinstance(quotas.reserve(ME, quota, 100, now=0.0), Reservation)


def test_fills_over_the_minute_and_no_further() -> None:
    """A used-up quota is whole again after a minute, half after thirty seconds, and never more than whole."""
    quotas, quota = Quotas(), Quota(tokens_per_min=100)
    quotas.reserve(ME, quota, 100, now=0.0)
    assert isinstance(quotas.reserve(ME, quota, 51, now=30.0), str)
    assert isinstance(quotas.reserve(ME, quota, 50, now=30.0), Reservation)
    assert isinstance(quotas.reserve(ME, quota, 101, now=300.0), str)


def test_burndown_can_overdraw() -> None:
    """An output that burns more than was reserved is taken from the minutes to come."""
    quotas, quota = Quotas(), Quota(tokens_per_min=100, output_burndown=5.0)
    held = quotas.reserve(ME, quota, 50, now=0.0)
    assert isinstance(held, Reservation)
    quotas.settle(held, 160, now=0.0)
    assert isinstance(quotas.reserve(ME, quota, 1, now=30.0), str)
    assert isinstance(quotas.reserve(ME, quota, 1, now=40.0), Reservation)


def test_longest_kept_prefix_is_read() -> None:
    """Of two kept prefixes the longer is read, what is beyond it up to the last point is written, the rest is fresh."""
    cache = PromptCache()
    short, middle, long = Prefix(b"a", 10), Prefix(b"b", 20), Prefix(b"c", 30, "1h")
    cache.keep("me", [short, middle], now=0.0)
    split = cache.look("me", [short, middle, long], 35, 1, now=299.0)
    assert (split.read, split.written, split.fresh) == (20, 10, 5)
    assert (split.written_for("1h"), split.written_for("5m")) == (10, 0)
    assert cache.look("you", [short], 35, 1, now=1.0).read == 0
    assert cache.look("me", [short], 35, 1, now=300.0).read == 0
