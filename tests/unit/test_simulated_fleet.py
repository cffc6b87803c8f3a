"""Fleet files: what they become, and where they say they are wrong."""

from __future__ import annotations

import pytest

from router.backends.simulated_fleet import deployments, read_fleet
from router.domain.deployment import Kind, Tier
from router.domain.errors import PolicyError

FLEET = """\
deployments:
  - name: small
    model: llama-3.1-8b
    tier: small
    kind: continuous
    replicas: 2
    price_usd_per_mtok: {input: 0.22, output: 0.44}
    step_ms: {base: 6.6746, per_sequence: 0.058176, per_context_token: 0.000032, per_prefill_token: 0.0209}
    kv_tokens: 427000
  - name: reserved
    model: llama-3.1-70b
    tier: large
    kind: provisioned
    price_usd_per_mtok: {input: 0.99, output: 0.99}
    step_ms: {base: 16.4034}
    tokens_per_min: {input: 100000, output: 20000}
    hourly_usd: 20.0
  - name: scorer
    model: scorer
    tier: small
    kind: batch
    batch_ms: {base: 30, per_item: 2}
    max_items: 128
events:
  - {at_s: 1, until_s: 2, deployment: small, slowdown: 2.0}
  - {at_s: 1.5, until_s: 3, deployment: small-1, slowdown: 1.6}
  - {at_s: 5, until_s: 6, deployment: small-0, down: true}
telemetry_lag_s: 0.2
"""


def test_replicas_are_routable_on_their_own() -> None:
    """A group of two becomes two deployments that name their group; a single one keeps its name."""
    found = deployments(read_fleet(FLEET))
    assert [(d.name, d.group) for d in found] == [
        ("small-0", "small"),
        ("small-1", "small"),
        ("reserved", "reserved"),
        ("scorer", "scorer"),
    ]


def test_the_router_is_told_prices_and_quotas_but_not_the_timing() -> None:
    """Step and batch constants stay with the server; provisioned tokens are free and paid by the hour."""
    small, _, reserved, scorer = deployments(read_fleet(FLEET))
    assert (small.tier, small.kind, small.address.backend) == (Tier.SMALL, Kind.CONTINUOUS, "simulated")
    assert small.price.cost_usd(1_000_000, 1_000_000) == pytest.approx(0.66)
    assert (reserved.price.cost_usd(1e6, 1e6), reserved.price.hourly_usd) == (0.0, 20.0)
    assert reserved.quota is not None
    assert reserved.quota.output_tokens_per_min == 20000
    assert scorer.max_items == 128
    assert all(d.step is None and d.batch is None for d in (small, reserved, scorer))


def test_an_event_on_a_group_hits_each_copy_and_slowdowns_multiply() -> None:
    """small-1 is hit by the group's event and its own; small-0 by the group's alone."""
    fleet = read_fleet(FLEET)
    first, second = fleet.disturbances("small", "small-0"), fleet.disturbances("small", "small-1")
    at = [int(s * 1e9) for s in (0.5, 1.2, 1.7, 2.5, 3.0)]
    assert [float(first.slowdown(t)) for t in at] == [1, 2, 2, 1, 1]
    assert [float(second.slowdown(t)) for t in at] == [1, 2, 3.2, 1.6, 1]
    assert first.down_until(5_500_000_000) == 6_000_000_000
    assert second.down_until(5_500_000_000) is None


@pytest.mark.parametrize(
    ("old", "new", "where", "problem"),
    [
        ("replicas: 2", "replicas: 0", "f.yaml:6:15: deployments[0].replicas", ">= 1"),
        ("replicas: 2", "replcas: 2", "f.yaml:6:14: deployments[0]", "unknown field `replcas`"),
        ("base: 6.6746", "base: fast", "f.yaml:8:21: deployments[0].step_ms.base", "Expected `float`"),
        ("tier: large", "tier: huge", "f.yaml:12:11: deployments[1].tier", "Invalid enum value"),
        ("    tokens_per_min: {input: 100000, output: 20000}\n", "", "f.yaml:10:5", "needs tokens_per_min"),
        ("batch_ms: {base: 30, per_item: 2}", "hourly_usd: 1", "f.yaml:18:5", "needs batch_ms"),
        ("name: scorer", "name: small-1", "f.yaml:18:11: deployments[2].name", "small-1 is taken"),
        ("deployment: small,", "deployment: tiny,", "f.yaml:25:39: events[0].deployment", "no deployment"),
        ("until_s: 2,", "until_s: 1,", "f.yaml:25:24: events[0].until_s", "after at_s"),
        ("slowdown: 1.6", "slowdown: 1.0", "f.yaml:26:5: events[1]", "one of slowdown"),
        ("telemetry_lag_s: 0.2", "telemetry_lag_s: -1", "f.yaml:28:18: telemetry_lag_s", ">= 0"),
        ("  - {at_s: 1,", "  - {at_s: 1", "f.yaml:25:", "not YAML"),
    ],
)
def test_errors_say_where_and_what(old: str, new: str, where: str, problem: str) -> None:
    """Each mistake is reported with file, line, column, path and the reason."""
    assert FLEET.count(old) >= 1
    with pytest.raises(PolicyError) as caught:
        read_fleet(FLEET.replace(old, new, 1), "f.yaml")
    assert where in str(caught.value)
    assert problem in str(caught.value)


def test_an_empty_file_is_not_a_fleet() -> None:
    """Nothing at all is refused as anything else is."""
    with pytest.raises(PolicyError):
        read_fleet("", "f.yaml")
