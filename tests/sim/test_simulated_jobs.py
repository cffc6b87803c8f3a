"""Lanes of batch jobs in a simulation: the daemon's own lanes, what they save, delay and pay in vain, foretold."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from router.backends.simulated_events import NS_PER_S, Disturbance, Disturbances
from router.backends.simulated_fleet import FleetSpec, deployments, read_fleet
from router.backends.simulated_jobs.course import course
from router.backends.simulated_jobs.store import MemoryJobStore
from router.backends.simulated_like import fleet_like
from router.cli.main import app
from router.complexity.estimator import Scored
from router.domain.aws.job import JobStatus
from router.domain.deployment import Kind, Tier
from router.domain.errors import PolicyError
from router.domain.request import Request
from router.domain.slo import Goal, Indicator, Objective, Objectives, RequestClass
from router.policy.policy import Policy
from router.ports.jobs import JobStore, KnownJob, Result, Taken, Unused
from router.sim.oracle import ExactOracle
from router.sim.report import Ended, Served
from router.sim.run import Setting, play
from router.sim.workload import Arrival, Workload
from router.storage.jobs.store import SqliteJobStore

HOUR_S = 3600.0
ONLINE = """\
deployments:
  - {name: now, model: m, tier: small, price_usd_per_mtok: {input: 1.0, output: 4.0}, step_ms: {base: 10}}
"""
LANE = """\
  - name: nightly
    model: m
    tier: small
    kind: job
    price_usd_per_mtok: {input: 0.5, output: 2.0}
    job: {takes_s: 600, min_records: 20, collect_s: 60, typical_s: 600, TERMS}
"""
NIGHTLY = RequestClass("nightly", goal=Goal.COST)
USD_ONLINE = (1000 * 1.0 + 100 * 4.0) * 1e-6


class Sure:
    def estimate(self, request: Request) -> Scored:
        return Scored(0.1, "score", {}, {Tier.SMALL: 0.9})


def rows(count: int, deadline_s: float | None = 1.5 * HOUR_S) -> list[Arrival]:
    """So many, one a second."""
    return [Arrival(float(n), 1000, 100, deadline_s=deadline_s) for n in range(count)]


def fleet(terms: str = "sigma: 0", events: str = "") -> FleetSpec:
    return read_fleet(ONLINE + LANE.replace("TERMS", terms) + events, "fleet.yaml")


def run(
    given: list[Arrival], spec: FleetSpec, *classes: RequestClass, seed: int = 0
) -> tuple[tuple[Served, ...], dict[str, Any]]:
    """The requests in order of arrival, and the report."""
    policy = Policy("test", classes or (NIGHTLY,), deployments(spec))
    played = play(Setting(Workload(tuple(given)), spec, policy, Sure(), seed=seed))
    report: Any = played.report
    return played.served, report


def where(served: tuple[Served, ...]) -> set[str | None]:
    return {one.deployment for one in served if one.ended is Ended.COMPLETED}


def test_who_has_hours_is_answered_for_half_the_price() -> None:
    """Forty with hours go into jobs, forty in a hurry do not: share, cost and what was saved are told."""
    mixed = [row for pair in zip(rows(40), rows(40, deadline_s=20.0), strict=True) for row in pair]
    served, report = run(mixed, fleet())
    assert where(served[0::2]) == {"nightly"}
    assert where(served[1::2]) == {"now"}
    lane = report["jobs"]["nightly"]
    assert (lane["requests"], lane["answered"], lane["moved"], lane["deadline_kept"]) == (40, 40, {}, 1.0)
    assert lane["jobs"] == {"Submitted": 1, "Completed": 1}
    assert lane["cost_usd"] == pytest.approx(20 * USD_ONLINE)
    assert (lane["online"], lane["saved_usd"]) == ("now", pytest.approx(20 * USD_ONLINE))
    assert report["overall"]["cost_usd"] == pytest.approx(60 * USD_ONLINE)
    assert report["by_deployment"]["nightly"]["share"] == 0.5
    assert 600.0 < lane["wait_s"]["p50"] < 900.0


def test_whose_slack_runs_out_moves_to_the_online_lane_in_time() -> None:
    """Jobs take twenty times as long as expected: all are answered elsewhere before their deadlines, the job is
    stopped, and what it had done by then is paid in vain and in the cost of the whole."""
    slow = "events: [{at_s: 0, until_s: 90000, deployment: nightly, slowdown: 20.0}]\n"
    served, report = run(rows(40), fleet(events=slow))
    lane, overall = report["jobs"]["nightly"], report["overall"]
    assert where(served) == {"now"}
    assert all(one.e2e_s is not None and HOUR_S < one.e2e_s < 1.5 * HOUR_S for one in served)
    assert (lane["moved"], lane["jobs"]) == ({"batch_late": 40}, {"Submitted": 1, "Stopped": 1})
    assert (lane["answered"], lane["deadline_kept"]) == (0, 1.0)
    assert 0 < lane["unused"] < 40
    assert lane["unused_usd"] == pytest.approx(lane["unused"] * USD_ONLINE / 2)
    assert lane["saved_usd"] == -lane["unused_usd"]
    assert overall["cost_usd"] == pytest.approx(40 * USD_ONLINE + lane["unused_usd"])
    slack = [left for left in lane["over_time"]["least_slack_s"] if left is not None]
    assert slack[0] > 5_000.0
    assert min(slack) < 500.0


def test_too_few_for_a_job_are_answered_online_in_time() -> None:
    """They wait for others while they may, and cost what they would have cost anyway."""
    served, report = run(rows(19), fleet())
    assert where(served) == {"now"}
    assert report["jobs"]["nightly"]["moved"] == {"batch_too_few": 19}
    assert report["jobs"]["nightly"]["deadline_kept"] == 1.0
    assert report["overall"]["cost_usd"] == pytest.approx(19 * USD_ONLINE)


@pytest.mark.parametrize(
    ("terms", "moved", "answered"),
    [("fail_ratio: 1.0", "batch_failed", 0), ("record_fail_ratio: 0.5", "batch_record_failed", 20)],
)
def test_what_no_job_answers_is_answered_online(terms: str, moved: str, answered: int) -> None:
    """A job that fails, or half of its records: nobody is lost, and what is not answered is not paid."""
    served, report = run(rows(40), fleet(terms))
    lane = report["jobs"]["nightly"]
    assert {one.ended for one in served} == {Ended.COMPLETED}
    assert (lane["answered"], lane["moved"]) == (answered, {moved: 40 - answered})
    assert report["overall"]["cost_usd"] == pytest.approx((40 - answered / 2) * USD_ONLINE)


def test_an_outage_fails_the_jobs_under_way() -> None:
    """What a job had done is lost and not paid; calls that fail meanwhile are counted."""
    down = "events: [{at_s: 200, until_s: 400, deployment: nightly, down: true}]\n"
    served, report = run(rows(40), fleet(events=down))
    lane = report["jobs"]["nightly"]
    assert where(served) == {"now"}
    assert (lane["jobs"], lane["unused"]) == ({"Submitted": 1, "Failed": 1}, 0)
    assert lane["failed_calls"] > 0


def test_a_service_that_throttles_is_asked_again() -> None:
    """The first minute all is refused; the job begins later, and all of it is answered."""
    full = "events: [{at_s: 0, until_s: 300, deployment: nightly, throttle_ratio: 1.0}]\n"
    _, report = run(rows(40), fleet(events=full))
    lane = report["jobs"]["nightly"]
    assert (lane["answered"], lane["jobs"]) == (40, {"Submitted": 1, "Completed": 1})
    assert lane["failed_calls"] >= 1
    assert lane["wait_s"]["p50"] > 850.0


def test_a_larger_job_takes_longer() -> None:
    """By so many seconds for each of its records."""
    _, small = run(rows(40), fleet())
    _, large = run(rows(40), fleet("per_record_s: 10"))
    later_s = large["jobs"]["nightly"]["wait_s"]["p50"] - small["jobs"]["nightly"]["wait_s"]["p50"]
    assert later_s == pytest.approx(400.0, abs=60.0)


def dump(report: dict[str, Any]) -> str:
    return json.dumps({name: part for name, part in report.items() if name not in {"wall_s", "decision_us"}})


def test_the_same_seed_gives_the_same_report() -> None:
    """Byte for byte; another seed gives jobs of other lengths."""
    spec = fleet("sigma: 0.5, record_fail_ratio: 0.2")
    first, again, other = (dump(run(rows(60), spec, seed=seed)[1]) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_time_series_go_on_while_only_jobs_run() -> None:
    """The lane is looked at all the time, and a quiet hour is sampled as a busy one is."""
    _, report = run(rows(40), fleet())
    at_s = report["by_deployment"]["nightly"]["over_time"]["at_s"]
    assert max(later - sooner for sooner, later in pairwise(at_s)) < 2.5
    assert max(report["by_deployment"]["nightly"]["over_time"]["in_flight"]) == 40


def test_a_class_that_promises_seconds_never_waits() -> None:
    """However late its deadline; and the report says why the lane was idle."""
    chat = RequestClass("chat", objectives=Objectives(ttft=Objective(Indicator.TTFT, 0.5)))
    served, report = run(rows(30), fleet(), chat)
    assert where(served) == {"now"}
    assert report["jobs"]["nightly"]["deadline_kept"] is None
    assert "`deadline_s`" in report["notes"][0]


def test_the_deadline_of_the_class_will_do() -> None:
    """Where the rows have none."""
    served, _ = run(rows(30, deadline_s=None), fleet(), RequestClass("n", goal=Goal.COST, deadline_s=3 * HOUR_S))
    assert where(served) == {"nightly"}


def test_a_fleet_without_lanes_has_none_of_it() -> None:
    """No part of the report, and nothing that beats."""
    _, report = run(rows(5), read_fleet(ONLINE))
    assert set(report) == {"overall", "by_class", "by_deployment", "decision_us", "wall_s"}


def test_an_edit_may_be_tried_over_lanes() -> None:
    """Taken up while records are collected: they are answered by their job all the same."""
    spec = fleet()
    old, new = (Policy(name, (NIGHTLY,), deployments(spec)) for name in ("old", "new"))
    played = play(Setting(Workload(tuple(rows(40))), spec, old, Sure(), edits=((30.0, new),)))
    assert where(played.served) == {"nightly"}


def test_the_clairvoyant_knows_what_a_job_takes() -> None:
    """Its collecting, and then itself."""
    assert ExactOracle(fleet(), None).predict("nightly", 1000, 100) == (660.0, 0.0)  # type: ignore[arg-type]


def test_slowdowns_stretch_a_job() -> None:
    """A hundred seconds of work of which the second half goes at a quarter of the pace; a stop in between finds the
    share that is done."""
    slow = Disturbances([Disturbance(50 * NS_PER_S, 1000 * NS_PER_S, slowdown=4)])  # type: ignore[arg-type]
    found = course(100.0, slow, at_s=0.0, timeout_s=1e6, fails=False)
    assert (found.ends, found.end) == (250.0, JobStatus.COMPLETED)
    assert [found.share(at) for at in (0.0, 25.0, 50.0, 150.0, 250.0, 1e6)] == pytest.approx(
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    )


def test_a_job_that_takes_too_long_is_given_up_with_what_it_has() -> None:
    """Half of it is answered when the service gives up."""
    found = course(1000.0, Disturbances(), at_s=10.0, timeout_s=500.0, fails=False)
    assert (found.ends, found.end, found.share(found.ends)) == (510.0, JobStatus.EXPIRED, 0.5)


def test_an_outage_before_the_end_is_the_end() -> None:
    """One after it is not."""
    down = Disturbances([Disturbance(100 * NS_PER_S, 200 * NS_PER_S, down=True)])
    assert course(500.0, down, at_s=0.0, timeout_s=1e6, fails=False).end is JobStatus.FAILED
    assert course(50.0, down, at_s=0.0, timeout_s=1e6, fails=False).end is JobStatus.COMPLETED


BAD = [
    ("job: {takes_s: 60, collect_for: 15m}", "8", "in a fleet it is `collect_s`"),
    ("job: {takes_s: 60, s3: s3://b/p}", "8", "kept nowhere, drop it"),
    ("job: {takes_s: 60, speed: 2}", "8", "a job may have takes_s, per_record_s"),
    ("job: {min_records: 5}", "8", "takes_s"),
    ("job: {takes_s: 60, min_records: 9, max_records: 5}", "8", "could never begin"),
    ("job: {takes_s: 60, timeout_s: 60}", "8", "86400"),
    ("job: {takes_s: 60}\n    replicas: 2", "9", "drop `replicas`"),
    ("job: {takes_s: 60}\n    step_ms: {base: 1}", "9", "`job.takes_s`, drop it"),
    ("max_items: 1", "3", "needs job, such as"),
]


@pytest.mark.parametrize(("written", "line", "told"), BAD, ids=[case[2] for case in BAD])
def test_a_bad_lane_is_told_where_and_what_to_do(written: str, line: str, told: str) -> None:
    """File, line, and what to write."""
    text = ONLINE + LANE.split("    job:", maxsplit=1)[0] + f"    {written}\n"
    with pytest.raises(PolicyError, match=rf"fleet\.yaml:{line}:") as refused:
        read_fleet(text, "fleet.yaml")
    assert told in str(refused.value)


def test_a_job_belongs_to_kind_job() -> None:
    """Elsewhere it would mean nothing."""
    text = ONLINE.replace("step_ms", "job: {takes_s: 60}, step_ms")
    with pytest.raises(PolicyError, match="write `kind: job`, or drop `job`"):
        read_fleet(text, "fleet.yaml")


def test_a_fleet_like_a_policys_own_has_its_lanes() -> None:
    """Their jobs collect alike, and take as long as the operator expects."""
    found = fleet_like(deployments(fleet("margin_s: 30")), every=True)
    assert found is not None
    lane = found.deployments[1]
    assert (lane.kind, lane.job is not None and (lane.job.takes_s, lane.job.margin_s)) == (Kind.JOB, (600.0, 30.0))


@pytest.fixture(params=["memory", "file"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    one: JobStore = MemoryJobStore() if request.param == "memory" else SqliteJobStore(tmp_path / "jobs.sqlite")
    yield one
    await one.close()


async def test_the_memory_of_a_run_keeps_what_the_daemons_keeps(store: JobStore) -> None:
    """Who has paid, what is read twice, and what nobody was given."""
    keys, classes = ("a", "b", "c", "d"), ("x", "x", "y", "y")
    await store.plan(KnownJob("t", "nightly", "i", "o", keys, 1.0, classes=classes))
    assert [job.token for job in await store.unfinished()] == ["t"]
    await store.submitted("t", "arn")
    assert [job.arn for job in await store.unfinished()] == ["arn"]
    first = [Result("a", b"A", None, True), Result("b", b"B", None, False), Result("c", b"C", None, False)]
    await store.results("t", [*first, Result("d", b"", "error 500", False)])
    await store.results("t", [Result("a", b"again", None, False)])
    await store.ended("t")
    assert await store.unfinished() == ()
    assert await store.take("d") is None
    assert await store.take("a") == Taken(b"A", True)
    assert (await store.take("b", "t"), await store.take("b")) == (Taken(b"B", False), Taken(b"B", True))
    assert await store.untaken("t") == (Unused("c", b"C", "y"),)


async def test_a_job_that_came_to_nothing_is_forgotten(store: JobStore) -> None:
    """As if it had never been planned."""
    await store.plan(KnownJob("t", "nightly", "i", "o", ("a",), 1.0, classes=("x",)))
    await store.drop("t")
    assert (await store.unfinished(), await store.take("a")) == ((), None)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "fleet.yaml").write_text(ONLINE + LANE.replace("TERMS", "sigma: 0"))
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "nightly.yaml").write_text("class: {name: overnight, goal: cost, deadline: 3h}\n")
    lines = [{"arrival_s": n, "input_tokens": 1000, "output_tokens": 100} for n in range(30)]
    (tmp_path / "night.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_the_command_shows_the_lanes(place: Path) -> None:
    """Beside the figures of the whole, in the table and in the file."""
    given = [str(place / "night.jsonl"), "--fleet", str(place / "fleet.yaml"), "--policies", str(place / "policies")]
    told = CliRunner().invoke(app, ["simulate", *given, "--json", str(place / "out.json")])
    assert told.exit_code == 0, told.output
    assert "answered by jobs" in told.output
    assert json.loads((place / "out.json").read_text())["jobs"]["nightly"]["answered"] == 30


def test_an_edit_that_adds_a_lane_is_tried_beside_the_policy_in_force(place: Path) -> None:
    """On deployments that behave as each policy's own: cheaper by half, later by the length of a job."""
    model = "model: m, tier: small, backend: bedrock, target: m, region: us-east-1"
    online = f"deployments:\n  - {{name: now, {model}, price_usd_per_mtok: {{input: 1, output: 4}}}}\n"
    role = "arn:aws:iam::123456789012:role/batch"
    terms = f's3: s3://bucket/router, role_arn: "{role}", typical: 10m, collect_for: 1m, min_records: 20'
    lane = (
        f"  - {{name: nightly, kind: job, {model}, price_usd_per_mtok: {{input: 0.5, output: 2}}, job: {{{terms}}}}}\n"
    )
    for side, written in (("old", online), ("new", online + lane)):
        (place / side).mkdir()
        (place / side / "fleet.yaml").write_text(written)
        (place / side / "class.yaml").write_text("class: {name: overnight, goal: cost, deadline: 3h}\n")
    sides = [str(place / "new"), "--old", str(place / "old"), "--workload", str(place / "night.jsonl")]
    told = CliRunner().invoke(app, ["policy", "try", *sides, "--seeds", "1", "--json", str(place / "out.json")])
    assert told.exit_code == 0, told.output
    figures = json.loads((place / "out.json").read_text())["overall"]["figures"]
    cost, first = figures["cost_per_1k_usd"], figures["ttft_p95_s"]
    assert cost["new"] == pytest.approx(cost["old"] / 2)
    assert (cost["clear"], first["clear"]) == ("better", "worse")
    assert 600.0 < first["new"] < 900.0
