"""On-demand quotas and prompt caches in the metrics."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from bench.traffic import deployment, policy
from router.domain.aws.terms import AwsTerms, CacheTerms
from router.domain.control.allowance import AllowanceObserved
from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Price
from router.domain.events import AttemptEnded, Event
from router.domain.outcome import Attempt, AttemptId, Ending, Outcome
from router.domain.request import Prompt, Request, RequestId
from router.telemetry.metrics import Metrics
from router.telemetry.sink import Sink

PRICE = Price(3.0, 15.0, cache_read_usd_per_mtok=0.3, cache_write_usd_per_mtok=3.75)
CACHING: Deployment = replace(
    deployment(0),
    name=DeploymentName("haiku"),
    address=Address("bedrock", "m", region="us-east-1", aws=AwsTerms(cache=CacheTerms())),
    price=PRICE,
)
BASE = policy(classes=1, deployments=1)
POLICY = replace(BASE, deployments=(*BASE.deployments, CACHING))


def told(*events: Event) -> CollectorRegistry:
    registry = CollectorRegistry()
    sink = Sink(Metrics(POLICY, registry).subscribers)
    for event in events:
        sink.emit(event)
    sink.drain_all()
    assert not any(sink.failures.values())
    return registry


def ended(cached: int, written: int) -> AttemptEnded:
    request = Request(RequestId("r"), 0.0, 0.0, Prompt("hi"), 3000)
    attempt = Attempt(AttemptId("a"), DecisionId("d"), request, CACHING, 1, 0.0, None, stream=True)
    outcome = Outcome(
        attempt, Ending.COMPLETED, 1.0, 0.5, 3000, 10, 0.01, cached_tokens=cached, cache_written_tokens=written
    )
    return AttemptEnded(outcome, "all", None, 0.5, 0.5, None)


def test_cached_tokens_and_what_they_are_worth_are_counted() -> None:
    """2,000 tokens read at 0.30 instead of 3.00 save USD 0.0054; 1,000 written at 3.75 cost 0.00075 more."""
    registry = told(ended(2000, 0), ended(0, 1000))
    for kind, tokens, usd in (("read", 2000.0, 0.0054), ("write", 1000.0, 0.00075)):
        labels = {"deployment": "haiku", "kind": kind}
        assert registry.get_sample_value("router_prompt_cache_tokens_total", labels) == tokens
        assert registry.get_sample_value("router_prompt_cache_usd_total", labels) == pytest.approx(usd)


def test_caches_begin_at_nothing() -> None:
    """Every deployment is shown at 0 before a call is made."""
    registry = told()
    for deployed in POLICY.deployments:
        labels = {"deployment": str(deployed.name), "kind": "read"}
        assert registry.get_sample_value("router_prompt_cache_tokens_total", labels) == 0.0


def test_a_quota_is_shown_as_far_as_it_is_known() -> None:
    """Tokens a minute are known and 60 % used; calls a minute are not known and not shown."""
    registry = told(AllowanceObserved("haiku", None, 2e6, 0.0, 0.6))
    tokens, requests = ({"deployment": "haiku", "resource": r} for r in ("tokens", "requests"))
    assert registry.get_sample_value("router_account_quota_per_min", tokens) == 2e6
    assert registry.get_sample_value("router_account_quota_used_ratio", tokens) == 0.6
    assert registry.get_sample_value("router_account_quota_per_min", requests) is None
