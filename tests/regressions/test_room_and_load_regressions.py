"""What servers tell of their load, the room that is seen in it, and lanes of jobs in a simulation, where they once went
wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from random import Random

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from router.backends.aws.jobs.running import POLL_MOST_S
from router.backends.aws.jobs.running import Running as RunningJob
from router.backends.simulated_fleet import deployments, read_fleet
from router.control.limits import FirstToken, Room, TokenLimit
from router.domain.aws.job import JobStatus
from router.domain.control.servers import ServerAsked
from router.domain.deployment import Deployment, LimitKind, LimitTerms, TelemetryTerms
from router.domain.events import LimitUpdate
from router.domain.outcome import Attempt, Delta
from router.domain.slo import Goal, RequestClass
from router.domain.view import ScrapedLoad
from router.policy.policy import Bounds, Policy
from router.ports.jobs import KnownJob
from router.sim.run import Setting, play
from router.sim.workload import Arrival, Workload
from router.telemetry.metrics import Metrics
from router.telemetry.sink import Sink
from tests.regressions.house import Estimator, House, cancel, deployment, never, speaking, virtually

ONE = "one"
KNOWN = KnownJob("token", ONE, "s3://b/in", "s3://b/out", ("r",), 0.0)


def scraped(house: House, running: int, waiting: int, kv_ratio: float | None) -> None:
    """The server told its load as of now."""
    now = asyncio.get_running_loop().time()
    house.controller.on_load(ScrapedLoad(ONE, running, waiting, kv_ratio, now))


def tokens(house: House) -> float | None:
    """The bound on tokens in force."""
    return house.member(ONE).limited().tokens


def alone(limit: LimitTerms | None = None, bounds: Bounds | None = None) -> House:
    return House(deployments=(deployment(ONE, limit=limit or LimitTerms()),), bounds=bounds)


def fill(room: Room, calls: int) -> None:
    """First tokens in time with fewer, and late with so many."""
    for i in range(30):
        room.observe_first_token(FirstToken(0.1, 0.1, 1.0, calls * i // 40, 500.0 * i), now=0.3 * i)
    for i in range(20):
        room.observe_first_token(FirstToken(1.5, 0.1, 1.0, calls, 1000.0 * i), now=10.0 + i)


async def heard_or_not(attempt: Attempt) -> AsyncGenerator[Delta, None]:
    """Requests named h... get a first token and then nothing for long; others get none."""
    script = speaking("w", first_s=0.05, tokens=2, gap_s=1e6) if attempt.request.id.startswith("h") else never
    async for delta in script(attempt):
        yield delta


def test_memory_in_use_without_a_call_of_ours_is_no_size() -> None:
    """A server that keeps contexts when their calls have ended told two fifths in use while idle: its size came out as
    0 tokens, and every decision after it divided by that."""

    async def scene() -> None:
        house = alone()
        await house.beat(0.5)
        scraped(house, 0, 0, 0.4)
        await house.beat(0.5)
        assert tokens(house) is None
        assert (await house.ask()).receipt.deployment == ONE

    virtually(scene)


def test_prompts_that_wait_before_the_server_are_not_in_its_memory() -> None:
    """Ten calls fill the memory and ten more wait: it holds the ten, where it was once taken for twice as large and so
    kept full."""

    async def scene() -> None:
        house = alone()
        house.backend.scripts[ONE] = heard_or_not
        tasks = [house.going(f"{kind}{i}", input_tokens=1000) for kind in "hw" for i in range(10)]
        await house.beat(0.5)
        scraped(house, 10, 10, 1.0)
        assert tokens(house) == pytest.approx(10_000.0, rel=0.01)
        await cancel(*tasks)

    virtually(scene)


def test_a_server_that_comes_back_with_more_memory_is_seen_to_have_it() -> None:
    """Four times as large: the bound kept its use under the share that is worth reading, so it stayed for ever."""
    limit = TokenLimit(ONE, None)
    limit.tell(18_000.0, 0.9)
    for _ in range(400):
        held = limit.value or 0.0
        limit.tell(held, held / 80_000.0)
    assert limit.value == pytest.approx(80_000.0, rel=0.01)


def test_a_little_use_does_not_move_a_size() -> None:
    """An idle server says nothing of how large it is."""
    limit = TokenLimit(ONE, None)
    limit.tell(18_000.0, 0.9)
    for _ in range(400):
        limit.tell(2000.0, 0.09)
    assert limit.value == 20_000.0


def test_a_size_that_is_told_no_more_is_tried_again() -> None:
    """Telemetry stops: the size goes on binding, and is lifted with care while nothing speaks against it. It once bound
    until the process ended, whatever server had come in the place of the one that told it."""

    async def scene() -> None:
        house = alone()
        house.backend.scripts[ONE] = heard_or_not
        tasks = [house.going(f"h{i}", input_tokens=1000) for i in range(9)]
        await house.beat(0.5)
        scraped(house, 9, 0, 0.9)
        size = tokens(house) or 0.0
        assert size == pytest.approx(10_000.0, rel=0.01)
        await house.beat(29.0)
        assert tokens(house) == size
        await house.beat(2.0)
        assert tokens(house) == pytest.approx(size, rel=0.01)
        await house.beat(60.0)
        assert (tokens(house) or 0.0) > 1.1 * size
        await cancel(*tasks)

    virtually(scene)


def told_of_a_full_room() -> list[LimitUpdate]:
    """What is told in half a minute of a server of twelve sequences that takes in ten calls a second, all of them
    late."""
    room, rng, told = Room(ONE), Random(1), []
    for i in range(30):
        room.observe_first_token(FirstToken(0.1, 0.1, 1.0, i % 10 + 1, 500.0 * i), now=0.1 * i)
    for i in range(300):
        now = 5.0 + 0.1 * i
        room.observe_first_token(FirstToken(1.5, 0.1, 1.0, 12, rng.uniform(5_000, 20_000)), now=now)
        if (update := room.beat(12, now=now)) is not None:
            told.append(update)
    return told


def test_the_bound_of_a_busy_server_is_found_and_told_once() -> None:
    """Only the last 32 late first tokens were kept, which ten a second never were for the five seconds that are looked
    at. And at its ceiling the bound rises by a thousandth a heartbeat and is put back by the next late prompt: each was
    told as a change of the limit."""
    assert [(u.new, u.reason) for u in told_of_a_full_room()] == [(12, "full")]


def test_a_number_that_the_operator_fixed_is_not_told_to_have_moved() -> None:
    """What is seen of its room is advice: the number stays."""

    async def scene() -> None:
        house = alone(LimitTerms(LimitKind.FIXED, 50))
        await house.beat(0.5)
        fill(house.member(ONE).room, 12)
        await house.beat(0.2)
        assert house.member(ONE).room.calls == 12
        (update,) = (u for u in house.of(LimitUpdate) if u.reason == "full")
        assert update.advised
        assert house.member(ONE).limited().requests == 50

    virtually(scene)


def test_no_room_is_found_under_the_operators_lower_bound() -> None:
    """`limit_min` says that it never has so few, and another may be written while it runs."""

    async def scene() -> None:
        house = alone(bounds=Bounds(limit_min=20))
        await house.beat(0.5)
        fill(house.member(ONE).room, 12)
        await house.beat(0.2)
        assert house.member(ONE).limited().requests == 20
        assert [u.new for u in house.of(LimitUpdate) if u.reason == "full"] == [20]
        edited = replace(house.controller.policy, bounds=Bounds(limit_min=15), digest="p2")
        house.controller.apply(edited, now=1.0, at=1.0)
        assert house.member(ONE).limited().requests == 15

    virtually(scene)


def test_the_share_of_a_cache_that_is_told_no_more_is_not_shown() -> None:
    """Another kind of server answers there now, which tells sequences alone."""
    asked: Deployment = deployment(ONE, telemetry=TelemetryTerms("http://s/metrics", 0.5, 0.25))
    registry = CollectorRegistry()
    sink = Sink(Metrics(Policy("p", (RequestClass("all"),), (asked,)), registry).subscribers)
    for kv_ratio in (0.4, None):
        sink.emit(ServerAsked(asked.name, "ok", 1.9e9, 12, 3, kv_ratio))
    sink.drain_all()
    assert registry.get_sample_value("router_server_kv_ratio", {"deployment": ONE}) is None
    assert registry.get_sample_value("router_server_sequences", {"deployment": ONE, "state": "running"}) == 12.0


def test_a_job_that_cannot_be_asked_about_for_days_is_asked_again() -> None:
    """From the 1,025th failure in a row the pause was more than a number holds, and no job of the lane was seen to any
    more."""
    job = RunningJob(KNOWN, now=0.0)
    for _ in range(2000):
        job.failed(now=0.0)
    assert job.poll_at == POLL_MOST_S
    job.looked(JobStatus.IN_PROGRESS, now=1.0)
    assert job.poll_at < POLL_MOST_S


LANES = """\
deployments:
  - {name: now, model: m, tier: small, price_usd_per_mtok: {input: 1.0, output: 4.0}, step_ms: {base: 10}}
  - name: nightly
    model: m
    tier: small
    kind: job
    price_usd_per_mtok: {input: 0.5, output: 2.0}
    job: {takes_s: 600, min_records: 20, collect_s: 60, typical_s: 600}
"""


def test_an_edit_may_bring_a_class_whose_requests_wait_for_jobs() -> None:
    """The book of the lanes knew only the classes that a run began with: the first answer of another ended it."""
    spec = read_fleet(LANES, "lanes.yaml")
    old, new = (RequestClass(name, goal=Goal.COST) for name in ("old", "new"))
    before, after = (Policy(c.name, (c,), deployments(spec)) for c in (old, new))
    rows = tuple(Arrival(40.0 + i, 1000, 100, deadline_s=5400.0) for i in range(20))
    played = play(Setting(Workload(rows), spec, before, Estimator(), edits=((30.0, after),)))
    assert {(one.request_class, one.deployment) for one in played.served} == {("new", "nightly")}
