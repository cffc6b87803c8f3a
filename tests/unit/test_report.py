"""The report of a simulation: counts that add up, shares of the right whole, the same bytes for the same run."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.sim.report import Ended, Measured, Sample, Served, quantile, report


def deployment(name: str, hourly_usd: float = 0.0) -> Deployment:
    return Deployment(
        name=DeploymentName(name),
        group=name,
        model=name,
        tier=Tier.SMALL,
        kind=Kind.CONTINUOUS,
        address=Address("simulated", name),
        price=Price(1.0, 1.0, hourly_usd),
    )


def done(ttft_s: float, *, name: str = "small", met: bool = True, good: bool | None = True, of: str = "chat") -> Served:
    return Served(
        request_id="r",
        request_class=of,
        ended=Ended.COMPLETED,
        deployment=name,
        ttft_s=ttft_s,
        tpot_s=0.01,
        e2e_s=ttft_s + 1,
        slo_met=met,
        adequate=good,
        cost_usd=0.002,
    )


SERVED = [
    done(0.1),
    done(0.2, good=False),
    done(0.3, met=False),
    done(0.4, name="large", of="code"),
    Served("r", "code", Ended.SHED),
    Served("r", "code", Ended.EXPIRED),
    Served("r", "chat", Ended.FAILED, deployment="large", cost_usd=0.001),
    Served("r", "chat", Ended.SHED),
]


def made(served: list[Served] = SERVED, **options: Any) -> Any:
    return report(served, [deployment("small"), deployment("large", 36.0)], lasted_s=100.0, **options)


def test_what_became_of_the_requests_adds_up() -> None:
    """Completed, shed, expired and failed make up what was offered, in all and in each class."""
    result = made()
    for group in (result["overall"], *result["by_class"].values()):
        assert group["offered"] == sum(group[e] for e in ("completed", "shed", "expired", "failed"))
    assert result["overall"]["offered"] == 8
    assert (result["overall"]["shed"], result["by_class"]["code"]["shed"]) == (2, 1)


def test_shares_are_of_the_right_whole() -> None:
    """SLO and useful are of all 8 offered; adequate of the 4 served."""
    overall = made()["overall"]
    assert overall["slo_met"] == 3 / 8
    assert overall["adequate_of_served"] == 3 / 4
    assert overall["useful"] == 2 / 8


def test_cost_counts_failed_attempts_and_reserved_hours() -> None:
    """4 answers at .002, a failure at .001, and 100 s of 36 USD an hour, which is in no class."""
    result = made()
    assert result["overall"]["cost_usd"] == pytest.approx(0.009 + 1.0)
    assert result["overall"]["cost_per_1k_usd"] == pytest.approx(1.009 * 1000 / 8)
    assert result["by_class"]["chat"]["cost_usd"] == pytest.approx(0.007)
    assert result["by_deployment"]["large"]["cost_usd"] == pytest.approx(1.003)


def test_latencies_are_those_of_what_was_completed() -> None:
    """Quantiles of .1, .2, .3, .4 by linear interpolation."""
    assert made()["overall"]["ttft_s"] == {"p50": 0.25, "p95": 0.385, "p99": 0.397}


def test_quantiles_of_one_and_of_none() -> None:
    """One value is every quantile; nothing has none."""
    assert [quantile([7.0], q) for q in (0.0, 0.5, 1.0)] == [7.0] * 3
    assert quantile([], 0.5) is None


def test_deployments_have_their_share_and_series() -> None:
    """3 of 5 routed requests; in-flight and limit in step with their times, `null` for no limit."""
    samples = [Sample(0.0, "small", 1, None), Sample(10.0, "small", 5, 8.0), Sample(10.0, "large", 2, 4.0)]
    result = made(samples=samples)["by_deployment"]
    assert result["small"]["share"] == 3 / 5
    assert result["small"]["over_time"] == {"at_s": [0.0, 10.0], "in_flight": [1, 5], "limit": [None, 8.0]}


def test_what_is_unknown_is_null_and_not_zero() -> None:
    """Without truth there is no adequacy; of nothing offered there is no share; nothing served is not useful."""
    unknown = made([done(0.1, good=None)])["overall"]
    assert (unknown["adequate_of_served"], unknown["useful"], unknown["slo_met"]) == (None, None, 1.0)
    assert made([])["overall"]["slo_met"] is None
    assert made([Served("r", "c", Ended.SHED)])["overall"]["useful"] == 0.0


def test_only_measured_times_differ_between_runs() -> None:
    """The same run has the same bytes but for `decision_us` and `wall_s`."""
    one = made(measured=Measured((1e-5, 3e-5), 1.5))
    two = made(measured=Measured((9e-5,), 2.5))
    assert (one["decision_us"], one["wall_s"]) == ({"p50": 20.0, "p99": 29.8}, 1.5)
    for result in (one, two):
        del result["decision_us"], result["wall_s"]
    assert msgspec.json.encode(one) == msgspec.json.encode(two)
