"""Batch jobs and what AWS bills: every dollar is in the books, and nobody waits behind a call that hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from router.backends.aws.bedrock import BedrockBackend
from router.backends.aws.jobs.backend import JobsBackend
from router.backends.aws.jobs.service import Told
from router.backends.simulated_fleet import read_fleet
from router.cli.policy.demo_traffic import own_fleet
from router.core import snapshot
from router.domain.aws.job import JobStatus
from router.domain.control.jobs import AnswersUnused
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Lane, Price
from router.domain.errors import BackendError, Overloaded, PolicyError, ProtocolError, Refused, Returned, RouterError
from router.domain.events import AttemptEnded
from router.domain.outcome import Attempt, Delta, Usage
from router.domain.request import Request
from router.domain.slo import Budget, Goal, RequestClass
from router.doubles.aws.models import Answer, Model
from router.doubles.aws.server import aws_double
from router.learning.job_wait import JobWait
from router.policy.compile import compile_policy
from router.runtime.jobs.desk import KIND, JobDesk, booked
from router.runtime.loops import Loops, detail_of
from router.storage.jobs.store import SqliteJobStore
from router.telemetry.labels import Vocabulary
from router.telemetry.metrics.requests import RequestMetrics
from tests.regressions.house import WHOLE, House, LoopClock, batching, deployment, virtually
from tests.regressions.job_lanes import MODEL, TERMS, Lanes, Service, attempt, jobs

SECRET = "my card number is 4111"


async def hear(backend: BedrockBackend, asked: Attempt, heard: list[Delta]) -> None:
    """All pieces, up to the error."""
    async for delta in backend.open(asked):
        heard += (delta,)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("pieces", [(), ("Wel", "l")], ids=["nothing", "some words"])
async def test_malformed_output_tells_what_it_cost(
    monkeypatch: pytest.MonkeyPatch, stream: bool, pieces: tuple[str, ...]
) -> None:
    """AWS bills the tokens of an answer that it calls malformed: they are told before the error is."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    backend, heard = BedrockBackend(), list[Delta]()
    async with aws_double() as double:
        says = Answer(pieces, stop_reason="malformed_tool_use", input_tokens=1000, output_tokens=70)
        double.world.models = {MODEL: Model(MODEL, says=says)}
        address = Address("bedrock", MODEL, url=double.url, region="us-east-1")
        asked = replace(attempt(deployment("d", address=address)), stream=stream)
        with pytest.raises(ProtocolError):
            await hear(backend, asked, heard)
        await backend.close()
    assert [one.usage for one in heard if one.usage is not None] == [Usage(1000, 70)]


@pytest.mark.parametrize(("usage", "usd"), [(Usage(1000, 70), 1070e-6), (None, 0.0)], ids=["told", "not told"])
def test_a_failed_call_whose_tokens_are_told_is_paid(usage: Usage | None, usd: float) -> None:
    """Although no token came; one that tells nothing was not made, and costs nothing."""

    async def spoilt(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        yield Delta(usage=usage)
        raise ProtocolError("the model's output is malformed")

    async def scene() -> None:
        house = House(RequestClass("all", max_retries=0), deployments=(deployment("small"),))
        house.backend.scripts["small"] = spoilt
        with pytest.raises(RouterError):
            await house.ask()
        assert house.only(AttemptEnded).outcome.cost_usd == pytest.approx(usd)

    virtually(scene)


async def test_an_answer_that_comes_too_late_is_paid_by_its_class(tmp_path: Path) -> None:
    """Its sender is gone, and AWS bills it: it counts in the day's budget and in the dollars that were spent."""
    lanes = Lanes(tmp_path, jobs())
    task = await lanes.going(attempt(jobs(), request_class="nightly"))
    await lanes.passes(1.0)
    task.cancel()
    await asyncio.wait([task])
    lanes.service.status_is = JobStatus.COMPLETED
    await lanes.passes(*[60.0] * 8)
    (unused,) = [e for e in lanes.events if isinstance(e, AnswersUnused)]
    assert dict(unused.by_class) == pytest.approx({"nightly": 1.0})
    await lanes.backend.close()


def test_what_was_paid_for_late_answers_is_in_the_books() -> None:
    """Of the class that has a budget of the day; one that has none, or is gone, is counted as spent all the same."""

    async def scene() -> None:
        nightly = RequestClass("nightly", budget=Budget(usd_per_day=10.0))
        house = House(nightly, RequestClass("chat"))
        event = AnswersUnused("small", "t", 3, 3.0, (("nightly", 1.5), ("chat", 1.0), ("gone", 0.5)))
        booked(house.controller, LoopClock(), house)(event)
        assert house.controller.spending.balances(at=LoopClock().at())["nightly"] == (1.5, 0.0, 10.0)
        assert house.events == [event]
        registry = CollectorRegistry()
        metrics = RequestMetrics(registry, house.controller.policy, Vocabulary(house.controller.policy))
        metrics.handlers()[AnswersUnused](event)
        labels = {"request_class": "nightly", "deployment": "small"}
        assert registry.get_sample_value("router_spend_usd_total", labels) == 1.5

    virtually(scene)


async def test_a_record_that_two_lanes_had_is_counted_in_both(tmp_path: Path) -> None:
    """The first gave it back and its job went on: its answer was paid in vain, whatever the second did with it."""
    lanes = Lanes(tmp_path, jobs("a"), jobs("b"))
    first = await lanes.going(attempt(jobs("a"), leave_at=1030.0))
    await lanes.passes(1.0, 30.0)
    await asyncio.wait([first])
    assert isinstance(first.exception(), Returned)
    second = asyncio.ensure_future(anext(lanes.backend.open(attempt(jobs("b")))))
    while "b" not in lanes.backend._lanes or not lanes.backend._lanes["b"]._waiters:
        await asyncio.sleep(0)
    await lanes.passes(1.0)
    lanes.service.status_is = JobStatus.COMPLETED
    await lanes.passes(60.0)
    assert (await second).served_as is None
    await lanes.passes(*[60.0] * 4)
    unused = [e for e in lanes.events if isinstance(e, AnswersUnused)]
    assert [(e.deployment, e.records) for e in unused] == [("a", 1)]
    assert unused[0].cost_usd == pytest.approx(1.0)
    await lanes.backend.close()


async def test_a_job_is_taken_up_when_its_deployment_comes_back(tmp_path: Path) -> None:
    """It was out of the policy when the process began, and a reload brings it back: no second job is made."""
    lanes = Lanes(tmp_path, jobs())
    task = await lanes.going(attempt(jobs()))
    await lanes.passes(1.0)
    task.cancel()
    await asyncio.wait([task])
    await lanes.backend.close()
    in_force = list[Deployment]()
    store = SqliteJobStore(tmp_path / "jobs.sqlite")
    backend = JobsBackend(store, lanes.service, lanes.clock, lanes.events.append, lambda: in_force)
    asked = attempt(jobs())
    await backend.tick()
    assert backend.home(asked.request) is None
    in_force.append(jobs())
    await backend.tick()
    assert backend.home(asked.request) == "jobs"
    again = asyncio.ensure_future(anext(backend.open(asked)))
    while not backend._lanes["jobs"]._waiters:
        await asyncio.sleep(0)
    lanes.service.status_is = JobStatus.COMPLETED
    lanes.clock.time += 300.0
    await backend.tick()
    assert (await again).usage == Usage(1_000_000, 0)
    await backend.close()


class Hanging(Service):
    """AWS does not say how its jobs stand."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.goes_on = asyncio.Event()

    async def status(self, deployment: Deployment, arn: str) -> Told:
        self.asked += 1
        await self.goes_on.wait()
        return Told(JobStatus.IN_PROGRESS)


async def test_who_must_leave_is_given_back_while_calls_hang(tmp_path: Path) -> None:
    """Two jobs hang at once and not one after the other, and nobody loses the slack for it."""
    lanes = Lanes(tmp_path, jobs())
    service = lanes.backend._service = Hanging()
    tasks = [asyncio.ensure_future(anext(lanes.backend.open(attempt(jobs(), n, leave_at=1100.0)))) for n in "ab"]
    while not lanes.backend._lanes or len(lanes.backend._lanes["jobs"]._waiters) < 2:
        await asyncio.sleep(0)
    await lanes.passes(1.0, 1.0)
    lanes.clock.time += 10.0
    tick = asyncio.ensure_future(lanes.backend.tick())
    while service.asked < 2:
        await asyncio.sleep(0)
    lanes.clock.time = 1099.0
    lanes.backend.look_out()
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    lanes.clock.time = 1100.0
    lanes.backend.look_out()
    await asyncio.wait(tasks)
    assert {cast(Returned, task.exception()).code for task in tasks} == {"batch_late"}
    assert not tick.done()
    service.goes_on.set()
    await tick
    await lanes.backend.close()


class Slow:
    """A backend of jobs whose first tick never ends, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.ticks = self.looks = 0
        self.error = error

    def home(self, request: Request) -> str | None:
        return None

    async def start(self) -> None:
        pass

    async def tick(self) -> None:
        self.ticks += 1
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()

    def look_out(self) -> None:
        self.looks += 1


def lane_of_jobs() -> House:
    """A house with one."""
    lane = deployment("jobs", kind=Kind.JOB, lane=Lane.BATCH, price=Price(0.5, 0.5), job=TERMS)
    return House(RequestClass("nightly", goal=Goal.COST), deployments=(deployment("now"), lane))


def test_the_beat_goes_on_beside_a_tick_that_hangs() -> None:
    """Nobody else ticks meanwhile, and it ends with the desk."""

    async def scene() -> None:
        slow = Slow()
        desk = JobDesk(lane_of_jobs().dispatcher, {KIND: cast(Any, slow)})
        await desk.start()
        await asyncio.sleep(5.5)
        assert (slow.ticks, slow.looks) == (1, 4)
        await desk.stop(0.0)

    virtually(scene)


QUOTING = ClientError({"Error": {"Code": "ValidationException", "Message": f"bad: {SECRET}"}}, "Converse")


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (Refused(f"ValidationException: {SECRET}"), "backend_refused"),
        (QUOTING, ""),
        (RuntimeError("the disk is full"), "the disk is full"),
    ],
)
def test_what_a_service_says_is_not_logged(error: Exception, detail: str) -> None:
    """It may quote what a sender wrote: its type and code are told, of the router's own errors all."""

    async def step() -> None:
        raise error

    async def scene() -> None:
        desk, loops = JobDesk(lane_of_jobs().dispatcher, {KIND: cast(Any, Slow(error))}), Loops()
        loops.every(1.0, "step", step)
        await desk.start()
        loops.start()
        await asyncio.sleep(1.5)
        await desk.stop(0.0)
        await loops.stop()

    with capture_logs() as lines:
        virtually(scene)
    assert {(line["event"], line["error"], line["detail"]) for line in lines} == {
        (event, type(error).__name__, detail) for event in ("batch_jobs_failed", "loop_failed")
    }
    assert detail_of(error) == detail


def test_an_answer_of_a_batch_that_failed_in_part_is_given_out() -> None:
    """Those without one are decided again, or are told why; nobody who has one is asked for again."""
    sizes = list[int]()

    async def run(attempts: tuple[Attempt, ...]) -> tuple[Delta | BackendError, ...]:
        sizes.append(len(attempts))
        await asyncio.sleep(0.05)
        return tuple(Overloaded("no") if one.request.id == "r3" else WHOLE for one in attempts)

    async def scene() -> None:
        house = batching(cast(Any, run), RequestClass("all", max_retries=0))
        tasks = [house.going(f"r{i}") for i in range(6)]
        await asyncio.wait(tasks, timeout=10.0)
        assert [i for i, task in enumerate(tasks) if task.exception() is not None] == [3]
        assert sum(sizes) == 6

    virtually(scene)


def test_what_jobs_take_survives_a_restart() -> None:
    """Jobs are few: what a week of them taught is not forgotten."""
    first, second = lane_of_jobs(), lane_of_jobs()
    wait, fresh = (one.controller.fleet.members[DeploymentName("jobs")].wait for one in (first, second))
    assert isinstance(wait, JobWait)
    assert isinstance(fresh, JobWait)
    for day in range(7):
        wait.observe(1200.0, now=day * 86_400.0)
    assert snapshot.current(second.controller, at=1.0).waits == {}
    snapshot.restore(second.controller, snapshot.take(first.controller, at=1.0))
    assert (fresh.typical_s, fresh.mostly_s) == (wait.typical_s, wait.mostly_s)
    with pytest.raises(ValueError, match="logs of seconds"):
        fresh.restore([float("nan")])


def test_simulated_batch_jobs_are_not_served_step_by_step() -> None:
    """That would be at once, at half the price: it is refused, and told where."""
    fleet = (
        "deployments:\n- {name: d, model: m, tier: small, kind: job, price_usd_per_mtok: {input: 1, output: 1}, "
        "step_ms: {base: 10}}\n"
    )
    with pytest.raises(PolicyError, match="a job deployment needs job"):
        read_fleet(fleet, "fleet.yaml")


def test_batch_jobs_take_part_where_a_policy_is_tried() -> None:
    """As lanes of jobs, not as servers that answer at once; a policy without deployments cannot be tried."""
    fleet = own_fleet(lane_of_jobs().listed)
    assert [(one.name, one.step_ms is None, one.job is None) for one in fleet.deployments] == [
        ("now", False, True),
        ("jobs", True, False),
    ]
    with pytest.raises(RouterError, match="can be simulated"):
        own_fleet(())


def test_a_factor_on_provisioned_throughput_is_refused() -> None:
    """Its tokens are free, and so would be the calls that are served on demand instead."""
    arn = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefghij12"
    bought = (
        f"deployments:\n- {{name: d, model: m, tier: small, kind: provisioned, backend: bedrock, target: '{arn}', "
        "region: us-east-1, hourly_usd: 20, lane: reserved, price_factor: 0.5}\n"
    )
    with pytest.raises(PolicyError, match="`price_factor` means nothing to reserved capacity"):
        compile_policy([("p.yaml", bought)])
