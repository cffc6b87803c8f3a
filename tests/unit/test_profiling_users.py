"""Who sends the calls of a load test and who stops them: money, errors, time, and somebody who has seen enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from itertools import islice
from random import Random
from typing import Any

import msgspec
import pytest

from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.errors import Throttled
from router.domain.outcome import Attempt, Delta, Usage
from router.learning.profiling.calls import Level
from router.runtime.profiling.calls import Caller
from router.runtime.profiling.prompts import Asked, file_prompts, made_prompts
from router.runtime.profiling.purse import Purse
from router.runtime.profiling.users import LoadTest, Plan
from router.sim.clock import run_virtual

DEPLOYMENT = Deployment(
    name=DeploymentName("one"),
    group="one",
    model="m",
    tier=Tier.SMALL,
    kind=Kind.CONTINUOUS,
    address=Address("fake", "m"),
    price=Price(1.0, 10.0),
)
ANSWER = (Delta(), Delta(tokens=1), Delta(tokens=4, finish_reason="stop", usage=Usage(50, 5)))
CALL_USD = (50 * 1.0 + 5 * 10.0) * 1e-6
Says = Callable[[int], tuple[Delta, ...] | Exception]


class LoopClock:
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def at(self) -> float:
        return 1e9 + self.now()

    def stopwatch(self) -> float:
        return 0.0


class Fake:
    """Answers the nth call with what `says(n)` gives, a tenth of a second a piece."""

    def __init__(self, says: Says = lambda n: ANSWER) -> None:
        self.says = says
        self.attempts: list[Attempt] = []
        self.at_once = self.most_at_once = 0

    async def open(self, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        self.attempts.append(attempt)
        said = self.says(len(self.attempts))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0.1)
            if isinstance(said, Exception):
                raise said
            for delta in said:
                yield delta
                await asyncio.sleep(0.1)
        finally:
            self.at_once -= 1

    async def close(self) -> None:
        return


def prompts() -> Iterator[Asked]:
    return made_prompts(Random(0), input_tokens=100, output_tokens=10, same=False)


def load_test(backend: Fake, purse: Purse | None = None, **terms: Any) -> LoadTest:
    caller = Caller(backend, DEPLOYMENT, LoopClock(), patience_s=terms.pop("patience_s", 60.0))
    return LoadTest(caller, prompts(), purse or Purse(DEPLOYMENT, None), LoopClock(), terms.pop("seen", lambda _: None))


def levels(backend: Fake, plan: Plan, purse: Purse | None = None, **terms: Any) -> list[Level]:
    async def run() -> list[Level]:
        test = load_test(backend, purse, **terms)
        await test.run(plan)
        return test.levels

    return run_virtual(run())


def test_as_many_users_as_the_level_says_ask_at_once() -> None:
    """Each makes its warm-up call, which does not count, and then the counted ones among them."""
    backend = Fake()
    (found,) = levels(backend, Plan((4,), requests=10))
    assert backend.most_at_once == 4
    assert (len(found.warm_ups), len(found.samples), len(backend.attempts)) == (4, 10, 14)


def test_a_level_may_last_for_so_long() -> None:
    """A call takes 0.4 s: three begin within a second, and all are let to end."""
    (found,) = levels(Fake(), Plan((1,), for_s=1.0, warm_ups=0))
    assert len(found.samples) == 3


def test_what_a_call_says_is_measured() -> None:
    """An empty piece is no token; usage counts before pieces do; the answer ends with its generator."""
    (found,) = levels(Fake(), Plan((1,), requests=1, warm_ups=0))
    (one,) = found.samples
    assert one.ttft_s == pytest.approx(0.2)
    assert one.latency_s == pytest.approx(0.4)
    assert (one.input_tokens, one.output_tokens, one.has_usage) == (50, 5, True)
    assert one.usd == pytest.approx(CALL_USD)
    assert one.input_usd == pytest.approx(50e-6)


def test_it_stops_before_a_call_that_could_pass_the_bound() -> None:
    """Ten calls' worth is never passed, and the level says why it ended."""
    purse = Purse(DEPLOYMENT, 10 * CALL_USD)
    first, *more = levels(Fake(), Plan((1, 2), requests=100, warm_ups=0), purse)
    assert more == []
    assert 0.0 < purse.spent_usd <= 10 * CALL_USD
    assert "could cost" in first.stopped


def test_nothing_is_called_where_one_call_could_be_too_dear() -> None:
    """Before a backend has counted, a prompt may have a token a byte."""
    backend = Fake()
    levels(backend, Plan((1,)), Purse(DEPLOYMENT, 1e-6))
    assert backend.attempts == []


def test_what_a_backend_has_counted_makes_the_worst_case_milder() -> None:
    """Half more tokens a byte than the densest prompt so far."""
    purse = Purse(DEPLOYMENT, None)
    before = purse.worst_usd(1000, 10)
    purse.counted(1000, 200)
    assert purse.worst_usd(1000, 10) == pytest.approx((300 + 64 + 100) * 1e-6)
    assert before == pytest.approx((1000 + 64 + 100) * 1e-6)


def test_a_level_ends_early_when_more_than_half_of_its_calls_fail() -> None:
    """After eight calls; the next level is tried all the same."""
    found = levels(Fake(lambda n: Throttled("slow down")), Plan((1, 2), requests=50, warm_ups=0))
    assert [len(level.samples) for level in found] == [8, 8]
    assert all("failed, the last with throttled" in level.stopped for level in found)


def test_some_errors_are_counted_and_end_nothing() -> None:
    """Whatever they are: each by its code or, where it is nobody's, by its name."""
    errors: dict[int, Exception] = {2: Throttled("slow down", retry_after_s=1.0), 4: RuntimeError("a bug")}
    (found,) = levels(Fake(lambda n: errors.get(n, ANSWER)), Plan((1,), requests=8, warm_ups=0))
    assert [s.code for s in found.samples] == [None, "throttled", None, "RuntimeError", None, None, None, None]
    assert found.stopped == ""
    assert found.samples[2].sent - found.samples[1].ended == pytest.approx(1.0)


def test_a_call_that_takes_too_long_is_an_error() -> None:
    """Its code is that of a deadline; the first token had come, so it is paid."""
    (found,) = levels(Fake(), Plan((1,), requests=1, warm_ups=0), patience_s=0.25)
    (one,) = found.samples
    assert one.code == "timeout_deadline"
    assert one.usd > 0.0


def test_who_breaks_it_off_keeps_what_there_is() -> None:
    """The calls that had ended are there, and what those under way can have cost is told apart."""
    purse = Purse(DEPLOYMENT, None)

    async def run() -> LoadTest:
        test = load_test(Fake(), purse)
        running = asyncio.get_running_loop().create_task(test.run(Plan((2, 4), requests=100)))
        await asyncio.sleep(1.0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return test

    (level,) = run_virtual(run()).levels
    assert (len(level.warm_ups), len(level.samples)) == (2, 2)
    assert purse.spent_usd == pytest.approx(4 * CALL_USD)
    assert purse.cut_off_usd > 0.0
    assert purse.held_usd == pytest.approx(0.0)


def test_a_level_is_told_of_as_it_goes() -> None:
    """After every call."""
    seen: list[int] = []
    levels(Fake(), Plan((1,), requests=3), seen=lambda level: seen.append(len(level.samples)))
    assert seen == [0, 1, 2, 3]


def test_made_up_prompts_begin_differently_and_differ_in_size() -> None:
    """So that no prompt cache knows them, and a prompt token's cost can be told."""
    asked = list(islice(prompts(), 50))
    texts = [msgspec.json.decode(one.payload)["messages"][0]["content"] for one in asked]
    assert len({text[:12] for text in texts}) > 45
    assert max(map(len, texts)) > 2 * min(map(len, texts))
    assert len({one.max_tokens for one in asked}) > 5


def test_the_same_prompt_is_the_same() -> None:
    """To the byte, with one bound."""
    asked = list(islice(made_prompts(Random(0), input_tokens=100, output_tokens=10, same=True), 5))
    assert len(set(asked)) == 1
    assert asked[0].max_tokens == 10


def test_prompts_of_a_file_keep_what_they_say() -> None:
    """Their own bound and parameters go with them; each begins anew unless the same are wanted."""
    body = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 7, "temperature": 0.5}
    marked = list(islice(file_prompts(Random(0), [body], output_tokens=99, same=False), 2))
    (plain,) = islice(file_prompts(Random(0), [{"messages": body["messages"]}], output_tokens=99, same=True), 1)
    assert [one.max_tokens for one in (*marked, plain)] == [7, 7, 99]
    first, second = (msgspec.json.decode(one.payload) for one in marked)
    assert first["temperature"] == 0.5
    assert first["messages"][0]["content"].endswith("Say hello.")
    assert first["messages"] != second["messages"]
    assert msgspec.json.decode(plain.payload)["messages"] == body["messages"]
