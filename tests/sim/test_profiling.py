"""A load test of simulated servers on the virtual clock: what they were set to comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from random import Random

import pytest

from router.backends.simulated import SimulatedAnswer, SimulatedBackend
from router.backends.simulated_fleet import deployments, read_fleet
from router.domain.outcome import Attempt, Delta
from router.domain.request import Request
from router.domain.view import Load
from router.learning.latency import LatencyModel
from router.learning.profiling.batch_fit import fit_batch
from router.learning.profiling.calls import Level
from router.learning.profiling.figures import figures
from router.learning.profiling.knee import knee
from router.learning.profiling.step_fit import StepFit, fit_step
from router.runtime.profiling.calls import Caller
from router.runtime.profiling.prompts import made_prompts
from router.runtime.profiling.purse import Purse
from router.runtime.profiling.users import LoadTest, Plan
from router.sim.clock import run_virtual

FLEET = """
deployments:
  - name: server
    model: m
    tier: small
    price_usd_per_mtok: {input: 1, output: 2}
    step_ms: {base: 8, per_sequence: 0.25, per_context_token: 0.0005, per_prefill_token: 0.06}
  - {name: scorer, model: m, tier: small, kind: batch, batch_ms: {base: 30, per_item: 2}, max_items: 64}
"""


class Endless:
    def answer(self, request: Request, model: str) -> SimulatedAnswer:
        return SimulatedAnswer(100_000)


class LoopClock:
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def at(self) -> float:
        return 1e9 + self.now()

    def stopwatch(self) -> float:
        return 0.0


class Far(SimulatedBackend):
    """The same servers behind a gateway that takes 50 ms."""

    async def open(self, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        """After the gateway."""
        await asyncio.sleep(0.05)
        async with aclosing(super().open(attempt)) as answer:
            async for delta in answer:
                yield delta


def profiled(
    name: str, *levels: int, same: bool = False, fleet: str = FLEET, kind: type[SimulatedBackend] = SimulatedBackend
) -> list[Level]:
    """The levels of a load test of about 600 tokens in and 100 out."""

    async def run() -> list[Level]:
        spec = read_fleet(fleet)
        deployment = next(d for d in deployments(spec) if d.name == name)
        backend = kind(spec, Endless(), origin_s=0.0, piece_tokens=1)
        prompts = made_prompts(Random(1), input_tokens=600, output_tokens=100, same=same)
        caller = Caller(backend, deployment, LoopClock(), patience_s=600.0)
        test = LoadTest(caller, prompts, Purse(deployment, None), LoopClock(), lambda level: None)
        await test.run(Plan(levels))
        await backend.close()
        return test.levels

    return run_virtual(run())


def fitted(levels: list[Level]) -> StepFit:
    found = fit_step(levels, step_token_budget=2048, source="test")
    assert found is not None
    return found


def test_the_step_figures_of_a_server_come_back() -> None:
    """Within five per cent each, out of seven levels of twenty calls or more; half of the calls within one in 500."""
    found = fitted(profiled("server", 1, 2, 4, 8, 16, 32, 64))
    assert found.step.base_s == pytest.approx(8e-3, rel=0.01)
    assert found.step.per_sequence_s == pytest.approx(0.25e-3, rel=0.05)
    assert found.step.per_context_token_s == pytest.approx(0.5e-6, rel=0.05)
    assert found.step.per_prefill_token_s == pytest.approx(0.06e-3, rel=0.05)
    assert found.off_ratio < 0.002
    assert found.step.first_s < 1e-3


def test_what_a_gateway_adds_is_told_apart_from_the_steps() -> None:
    """50 ms in front of the same server are found as such, the step stays what it is, and the first token of a lone
    request is predicted."""
    levels = profiled("server", 1, 4, 16, kind=Far)
    found = fitted(levels)
    assert found.step.first_s == pytest.approx(0.05, rel=0.02)
    assert found.step.base_s == pytest.approx(8e-3, rel=0.01)
    predicted_s, _ = LatencyModel(found.step).predict(Load(0, 0, 0, 0), 600, 100.0, 0.0)
    assert predicted_s == pytest.approx(0.05 + 8e-3 + 600 * 0.06e-3, rel=0.02)


def test_what_the_fit_says_of_a_level_is_what_was_measured() -> None:
    """Gaps between tokens, level by level, within one per cent."""
    for level in fitted(profiled("server", 1, 4, 16)).levels:
        assert level.fitted_ms == pytest.approx(level.measured_ms, rel=0.01)


def test_outliers_do_not_bend_the_fit() -> None:
    """A server that stands still for a second in the middle is the same server."""
    stalled = FLEET + "events:\n  - {at_s: 3, until_s: 4, deployment: server, slowdown: 50}\n"
    found = fitted(profiled("server", 1, 2, 4, 8, 16, fleet=stalled))
    assert found.step.base_s == pytest.approx(8e-3, rel=0.05)
    assert found.step.per_sequence_s == pytest.approx(0.25e-3, rel=0.15)


def test_the_figures_of_a_batch_endpoint_come_back() -> None:
    """Batches of three sizes tell what a batch costs and what an item adds."""
    found = fit_batch(profiled("scorer", 1, 4, 16))
    assert found is not None
    assert found.batch.base_s == pytest.approx(30e-3)
    assert found.batch.per_item_s == pytest.approx(2e-3)


def test_a_batch_is_one_invocation_of_many_requests() -> None:
    """Tokens are told for one request; there is no first token before the whole."""
    found = figures(profiled("scorer", 8)[0])
    assert (found.client_invocations, found.time_to_first_token_ms) == (20, None)
    assert found.output_tokens == pytest.approx(100, rel=0.1)


def test_the_knee_of_a_server_lies_where_steps_begin_to_grow() -> None:
    """Eight users share a step that costs one user almost as much; sixty-four wait for each other."""
    found = knee([figures(level) for level in profiled("server", 1, 2, 4, 8, 16, 32, 64)])
    assert found is not None
    assert 4 <= found.concurrency <= 16
    assert found.is_reached


def test_prices_are_those_of_the_deployment() -> None:
    """A dollar a million in, two out, whatever the level; warm-ups are in neither."""
    for level in profiled("server", 1, 8):
        found = figures(level)
        assert found.price_per_million_input_tokens == pytest.approx(1.0)
        assert found.price_per_million_output_tokens == pytest.approx(2.0)
        assert found.warm_up_usd > 0.0
