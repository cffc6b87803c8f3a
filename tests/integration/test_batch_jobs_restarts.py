"""A router that ends and begins anew while a batch job is collected, submitted, run or read.

Time is a clock that the tests move: the backend's ticks and the double's jobs go by it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from router.domain.control.jobs import AnswersUnused
from router.domain.errors import JournalError
from router.domain.outcome import PAID_BEFORE, Delta
from router.doubles.aws.faults import Fault
from tests.integration.job_lives import HOUR_S, Bench, open_bench, text


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, monkeypatch) as one:
        yield one


async def test_a_restart_while_collecting_collects_anew(bench: Bench) -> None:
    """Nothing was asked of AWS yet: the requests come again and are in one job."""
    await bench.ask("a", "b", "c")
    await bench.restart()
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.passes(HOUR_S + 1.0)
    assert len(await bench.answers()) == 3
    assert bench.calls()["CreateModelInvocationJob"] == 1


@pytest.mark.parametrize("had_it", [True, False], ids=["the service has it", "the service has it not"])
async def test_a_restart_between_plan_and_submission_makes_one_job(bench: Bench, had_it: bool) -> None:
    """It is not known whether the service was asked: the job is looked for, else asked for by the same token."""

    async def cut(token: str, arn: str) -> None:
        raise JournalError("killed")

    store: Any = bench.backend._store
    if had_it:
        store.submitted = cut
    else:
        bench.world.faults.append(Fault(code="InternalServerException", operation="CreateModelInvocationJob", times=1))
    await bench.ask("a", "b", "c")
    if had_it:
        with pytest.raises(JournalError):
            await bench.passes(61.0)
    else:
        await bench.passes(61.0)
    await bench.restart()
    await bench.backend.start()
    assert bench.backend.home(bench.attempt("a").request) == "haiku-jobs"
    await bench.ask("a", "b", "c")
    await bench.passes(1.0)
    await bench.passes(HOUR_S + 61.0)
    assert {name: text(delta) for name, delta in (await bench.answers()).items()} == {n: f"Say {n}" for n in "abc"}
    assert len(bench.world.bills) == 3
    assert bench.calls()["ListModelInvocationJobs"] >= 1


async def test_a_restart_while_the_job_runs_attaches_to_it(bench: Bench) -> None:
    """The same requests come again: no second job, no second bill, and their answers when it is done."""
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.restart()
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.passes(HOUR_S)
    assert {name: text(delta) for name, delta in (await bench.answers()).items()} == {n: f"Say {n}" for n in "abc"}
    assert bench.calls()["CreateModelInvocationJob"] == 1
    assert len(bench.world.bills) == 3


async def test_a_restart_after_the_answers_hands_them_out_as_paid(bench: Bench) -> None:
    """The process died after the answer was read and before it was delivered: it is given again, and costs nothing."""
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.passes(HOUR_S)
    assert len(await bench.answers()) == 3
    reads = bench.calls()["GetModelInvocationJob"]
    await bench.restart()
    await bench.ask("a", "b", "c")
    answers = await bench.answers()
    assert {name: text(delta) for name, delta in answers.items()} == {n: f"Say {n}" for n in "abc"}
    assert {delta.served_as for delta in answers.values() if isinstance(delta, Delta)} == {PAID_BEFORE}
    assert bench.calls()["GetModelInvocationJob"] == reads


async def test_a_job_that_ended_while_nobody_ran_is_read_once(bench: Bench) -> None:
    """Answers that are read before the requests come again are kept for them, and are paid for then."""
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.restart()
    await bench.passes(HOUR_S)
    await bench.ask("a", "b")
    answers = await bench.answers()
    assert [delta.served_as for delta in answers.values() if isinstance(delta, Delta)] == [None, None]
    await bench.passes(60.0)
    assert bench.told(AnswersUnused) == []
    await bench.passes(61.0)
    assert [event.records for event in bench.told(AnswersUnused)] == [1]
    await bench.ask("c")
    (late,) = [delta for name, delta in (await bench.answers()).items() if name == "c"]
    assert isinstance(late, Delta)
    assert late.served_as == PAID_BEFORE
