"""What is learned of a deployment's speed and health from calls that tell little: those that do not stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from router.domain.deployment import Kind, Tier
from router.domain.errors import Overloaded
from router.domain.events import DecisionMade, HealthChanged
from router.domain.outcome import Attempt, Delta, Usage
from router.domain.slo import Indicator, Objective, Objectives, Parameters, RequestClass
from router.domain.view import Health, ScrapedLoad
from router.policy.policy import Bounds
from router.wire.openai import whole_choices
from tests.regressions.house import Answer, House, cancel, code_of, deployment, failing, never, speaking, virtually

_E2E = Objectives(e2e=Objective(Indicator.E2E, 30.0))
_TTFT = Objectives(ttft=Objective(Indicator.TTFT, 0.5))


def whole(took_s: float, tokens: int, finish: str = "stop") -> Answer:
    """The whole answer at once, after a while."""

    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(took_s)
        yield Delta(whole_choices("x", finish), tokens, finish, Usage(10, tokens), whole=True)

    return script


def test_a_healthy_call_that_does_not_stream_does_not_make_its_deployment_look_slow() -> None:
    """Two seconds for 150 tokens are as expected: neither multiplier nor TTFT of a class that streams suffer, during
    the call or after it."""

    async def scene() -> None:
        house = House(RequestClass("all", objectives=_E2E), deployments=(deployment("only"),))
        house.backend.scripts = {"only": whole(2.0, 150)}
        latency = house.member("only").latency
        for i in range(10):
            task = house.going(f"r{i}")
            await house.beat(1.9)
            assert latency.multiplier == pytest.approx(1.0, rel=0.25)
            await task
        assert latency.multiplier == pytest.approx(1.0, rel=0.25)
        assert latency.ttft.p_within(0.1, 0.3) > 0.99
        assert latency.ttft.p_within(0.1, 0.05) < 0.01

    virtually(scene)


def test_a_slow_call_that_does_not_stream_is_seen_to_be_slow() -> None:
    """Ten times the expected time is believed, during the call and after it."""

    async def scene() -> None:
        house = House(RequestClass("all", objectives=_E2E), deployments=(deployment("only"),))
        house.backend.scripts = {"only": whole(20.0, 150)}
        latency = house.member("only").latency
        task = house.going()
        await house.beat(19.9)
        assert latency.multiplier > 1.5
        await task
        for i in range(3):
            await house.ask(f"r{i}")
        assert latency.multiplier > 4.0

    virtually(scene)


@pytest.mark.parametrize("stream", [False, True])
def test_a_deployment_that_never_answers_opens_its_circuit(stream: bool) -> None:
    """With two minutes to the deadline and no promise of a first token: most of ten minutes' requests are answered, by
    the other deployment, and the silent one is left alone but for a few probes."""

    async def scene() -> None:
        house = House(RequestClass("all", deadline_s=120.0))
        house.backend.scripts = {"large": never}
        tasks = []
        for i in range(300):
            tasks.append(house.going(f"r{i}", stream=stream))
            await house.beat(2.0, 0.5)
        await house.beat(130.0, 0.5)
        lost = sum(code_of(t) != "ok" for t in tasks)
        assert {code_of(t) for t in tasks} == {"ok", "deadline_exceeded"}
        assert house.of(HealthChanged)[0].new == "open"
        assert lost < 75
        assert house.backend.calls[-100:].count("large") <= 3

    virtually(scene)


def test_slowness_that_silence_has_taught_is_no_excuse_for_silence() -> None:
    """Calls predicted to be slow because earlier ones were never answered count against the deployment all the same."""

    async def scene() -> None:
        house = House(RequestClass("all", deadline_s=2.0), deployments=(deployment("large", Tier.LARGE),))
        for i in range(20):
            house.member("large").latency.observe_overdue(0.01, 10.0, 1.0, now=0.01 * i)
        house.backend.scripts = {"large": never}
        tasks = [house.going(f"r{i}", stream=True) for i in range(3)]
        await house.beat(2.1)
        assert {code_of(t) for t in tasks} == {"deadline_exceeded"}
        assert house.member("large").circuit.health is Health.OPEN

    virtually(scene)


def test_a_server_that_says_late_that_it_is_busy_is_believed() -> None:
    """Until when it wants to be left alone counts, however long it took to say so."""

    async def scene() -> None:
        house = House(RequestClass("all", max_retries=0), deployments=(deployment("only"),))
        house.backend.scripts = {"only": failing(Overloaded("busy", retry_after_s=20.0), after_s=40.0)}
        tasks = [house.going(f"r{i}") for i in range(3)]
        await asyncio.gather(*tasks, return_exceptions=True)
        assert {code_of(t) for t in tasks} == {"backend_overloaded"}
        circuit, now = house.member("only").circuit, asyncio.get_running_loop().time()
        assert circuit.blocked(now=now + 19.0) is not None
        assert circuit.blocked(now=now + 21.0) is None

    virtually(scene)


def test_a_batch_endpoint_that_never_answers_opens_its_circuit() -> None:
    """Calls that end with their deadline and not a word count against it."""

    async def scene() -> None:
        house = House(
            RequestClass("all", deadline_s=20.0),
            deployments=(deployment("b", Tier.LARGE, kind=Kind.BATCH, max_items=8), deployment("small")),
        )

        async def hang(attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
            await asyncio.sleep(1e6)
            return ()

        house.backend.batch = hang
        tasks = [house.going(f"r{i}", model="b") for i in range(4)]
        await house.beat(20.5)
        assert {code_of(t) for t in tasks} == {"deadline_exceeded"}
        assert house.member("b").circuit.health is Health.OPEN
        assert (await house.ask("later")).receipt.deployment == "small"

    virtually(scene)


def test_senders_who_soon_leave_do_not_make_a_deployment_ill() -> None:
    """A call given up before its answer could be expected says nothing."""

    async def scene() -> None:
        house = House(RequestClass("all"), deployments=(deployment("only"),))
        house.backend.scripts = {"only": whole(3.0, 150)}
        for i in range(6):
            task = house.going(f"r{i}")
            await house.beat(2.5)
            await cancel(task)
        assert house.member("only").circuit.health is Health.OK
        assert house.of(HealthChanged) == []

    virtually(scene)


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_the_length_that_the_class_allows_bounds_what_is_expected(finish: str) -> None:
    """Before the first answer, and after many, cut at `length` or not."""

    async def scene() -> None:
        house = House(
            RequestClass("short", parameters=Parameters(max_tokens=16)),
            RequestClass("long"),
            deployments=(deployment("only"),),
        )
        house.backend.scripts = {"only": whole(0.2, 16, finish)}

        async def expected(name: str, **fields: Any) -> float:
            await house.ask(request_class=name, **fields)
            terms: float = house.of(DecisionMade)[-1].decision.candidates[0].terms.output_tokens
            return terms

        assert await expected("short") == 16.0
        assert await expected("long") > 100.0
        assert await expected("long", max_tokens=20) == 20.0
        for _ in range(100):
            await house.ask(request_class="long")
        assert await expected("long") < 25.0

    virtually(scene)


def test_load_that_is_told_no_more_is_forgotten() -> None:
    """A scraper that died while the server was full keeps nobody waiting for ever; one that goes on is believed."""

    async def scene() -> None:
        house = House(deployments=(deployment("only", max_in_flight=8),), bounds=Bounds(queue_wait_s=600.0))

        async def scrape(seconds: int) -> None:
            for _ in range(seconds):
                await house.beat(1.0, 0.5)
                house.controller.on_load(ScrapedLoad("only", 100, 0, None, asyncio.get_running_loop().time()))

        await scrape(50)
        task = house.going(deadline_s=300.0)
        await scrape(40)
        assert code_of(task) == "waiting"
        await house.beat(45.0, 0.5)
        assert code_of(task) == "ok"

    virtually(scene)


def test_a_load_told_late_is_not_taken_for_the_load_of_others() -> None:
    """A server that tells what it saw while our own calls ran shows no load of others once they have ended."""

    async def scene() -> None:
        house = House(deployments=(deployment("only"),))
        house.backend.scripts = {"only": speaking("x", first_s=1.0)}
        tasks = [house.going(f"r{i}") for i in range(10)]
        await house.beat(0.5)
        seen = asyncio.get_running_loop().time()
        await asyncio.gather(*tasks)
        await house.beat(1.0)
        house.controller.on_load(ScrapedLoad("only", 10, 0, None, seen))
        assert house.member("only").account.load(seen, 0.0).sequences == 0

    virtually(scene)


def test_the_load_of_others_counts_where_nothing_is_heard() -> None:
    """While our own tokens come, their pace says what others do to it; once they have been silent, what the server
    tells of others counts."""

    async def scene() -> None:
        house = House(deployments=(deployment("only"),))
        account = house.member("only").account
        await house.going("r0")
        loop = asyncio.get_running_loop()
        for _ in range(20):
            house.controller.on_load(ScrapedLoad("only", 40, 0, None, loop.time()))
            await house.beat(0.01, 0.01)
        assert account.load(loop.time(), 0.0).sequences == 0
        await house.beat(3.0, 0.5)
        house.controller.on_load(ScrapedLoad("only", 40, 0, None, loop.time()))
        assert account.load(loop.time(), 0.0).sequences >= 30

    virtually(scene)
