"""A batch endpoint under load: sizes and waits settle where promises are kept and little of its time is used."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.estimator import Scored
from router.domain.deployment import Tier
from router.domain.request import Request
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.policy.policy import Policy
from router.sim.report import Served
from router.sim.run import Setting, play
from router.sim.workload import Arrival, Workload

FLEET = """
deployments:
  - name: scorer
    model: scorer
    tier: small
    kind: batch
    price_usd_per_mtok: {input: 0.05, output: 0.05}
    batch_ms: {base: 30, per_item: 2}
    max_items: 128
"""


class Sure:
    def estimate(self, request: Request) -> Scored:
        return Scored(0.1, "score", {}, {Tier.SMALL: 0.9})


def poisson(per_s: float, start: float, end: float, rng: Random) -> list[Arrival]:
    rows, at_s = [], start + rng.expovariate(per_s)
    while at_s < end:
        rows.append(Arrival(at_s, 100, 1))
        at_s += rng.expovariate(per_s)
    return rows


def run(
    rows: list[Arrival], *, slo_s: float = 0.25, sheddable: bool = True, events: str = "", fleet: str = FLEET
) -> tuple[tuple[Served, ...], dict[str, Any]]:
    """The requests in order of arrival, and the report."""
    spec = read_fleet(fleet + events)
    terms = RequestClass("all", objectives=Objectives(e2e=Objective(Indicator.E2E, slo_s)), sheddable=sheddable)
    policy = Policy("test", (terms,), deployments(spec))
    played = play(Setting(Workload(tuple(rows)), spec, policy, Sure()))
    report: Any = played.report
    return played.served, report


def met(served: tuple[Served, ...], rows: list[Arrival], start: float, end: float) -> float:
    """Share in time of what arrived between."""
    kept = [s.slo_met for s in served if start <= rows[int(s.request_id)].at_s < end]
    return sum(kept) / len(kept)


@pytest.mark.parametrize(("per_s", "slo_s", "most_busy"), [(60.0, 0.25, 0.35), (60.0, 0.125, 0.6), (220.0, 0.25, 0.85)])
def test_all_are_in_time_and_the_endpoint_rests(per_s: float, slo_s: float, most_busy: float) -> None:
    """At a steady rate nobody is late or refused, and waiting for more saves the endpoint a good part of its time."""
    _, report = run(poisson(per_s, 0.0, 40.0, Random(4)), slo_s=slo_s)
    assert report["overall"]["slo_met"] >= 0.999
    assert report["by_deployment"]["scorer"]["busy_ratio"] < most_busy


def test_twice_slower_at_full_load_and_back() -> None:
    """While the endpoint is twice slower at 120 a second hardly any room is left: most are still in time, from the
    second second on, and after the recovery everyone is."""
    rows = poisson(120.0, 0.0, 60.0, Random(5))
    served, _ = run(rows, events="events: [{at_s: 15, until_s: 40, deployment: scorer, slowdown: 2.0}]\n")
    assert met(served, rows, 0.0, 14.0) >= 0.999
    assert met(served, rows, 16.0, 39.0) >= 0.95
    assert met(served, rows, 41.0, 60.0) >= 0.999


def test_more_than_it_can_take_is_refused_and_the_rest_is_in_time() -> None:
    """At a third over capacity most of what the endpoint can carry within the promise is carried, and in time; hardly
    anything is answered late, and a second after the burst all is well."""
    rng = Random(6)
    rows = poisson(60.0, 0.0, 10.0, rng) + poisson(600.0, 10.0, 20.0, rng) + poisson(60.0, 20.0, 30.0, rng)
    served, report = run(rows)
    assert met(served, rows, 11.0, 20.0) >= 0.5
    assert met(served, rows, 21.0, 30.0) >= 0.999
    late = report["overall"]["completed"] - sum(s.slo_met for s in served)
    assert late <= 0.02 * len(rows)


def test_what_may_not_be_shed_is_served_after_a_burst() -> None:
    """Everyone is answered, and a few seconds after the burst in time again."""
    rng = Random(7)
    rows = poisson(60.0, 0.0, 10.0, rng) + poisson(600.0, 10.0, 13.0, rng) + poisson(60.0, 13.0, 30.0, rng)
    served, report = run(rows, sheddable=False)
    assert report["overall"]["completed"] == len(rows)
    assert met(served, rows, 20.0, 30.0) >= 0.999


def test_a_promise_under_what_a_batch_of_one_takes_does_not_stop_the_learning() -> None:
    """Nothing can be in time; one at a time is served all the same, so that it would be noticed if that changed."""
    rows = poisson(20.0, 0.0, 60.0, Random(8))
    slow = "events: [{at_s: 0, until_s: 30, deployment: scorer, slowdown: 10.0}]\n"
    served, _ = run(rows, events=slow)
    assert met(served, rows, 2.0, 29.0) == 0.0
    assert met(served, rows, 40.0, 60.0) >= 0.99


def test_a_wrong_profile_is_unlearned() -> None:
    """Described four times faster than it is, it keeps its promises after the first seconds."""
    rows = poisson(40.0, 0.0, 30.0, Random(9))
    served, _ = run(rows, events="events: [{at_s: 0, until_s: 30, deployment: scorer, slowdown: 4.0}]\n", slo_s=0.6)
    assert met(served, rows, 3.0, 30.0) >= 0.99
