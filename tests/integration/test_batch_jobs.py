"""Batch jobs through the real SDK against the double's Bedrock and moto's S3, with the store on disk.

Time is a clock that the tests move: the backend's ticks and the double's jobs go by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.domain.control.jobs import AnswersUnused, JobChanged, JobsObserved, RecordsReturned
from router.domain.errors import Refused, Returned
from router.domain.outcome import Delta
from router.doubles.aws.faults import Fault
from tests.integration.job_lives import HOUR_S, Bench, open_bench, text


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, monkeypatch) as one:
        yield one


async def test_requests_are_answered_by_one_job_at_half_price(bench: Bench) -> None:
    """Three requests, one job: each gets its own answer, with usage, and the job is asked for once."""
    await bench.ask("a", "b", "c")
    await bench.passes(1.0)
    assert bench.calls() == {}
    await bench.passes(60.0)
    assert bench.calls()["CreateModelInvocationJob"] == 1
    await bench.passes(600.0)
    assert await bench.answers() == {}
    await bench.passes(HOUR_S)
    answers = await bench.answers()
    assert {name: text(delta) for name, delta in answers.items()} == {n: f"Say {n}" for n in "abc"}
    first = answers["a"]
    assert isinstance(first, Delta)
    assert (first.whole, first.finish_reason, first.served_as) == (True, "stop", None)
    assert first.usage is not None
    assert (first.usage.input_tokens, first.usage.output_tokens) == (1000, 100)
    assert bench.statuses() == ["Planned", "Submitted", "InProgress", "Completed"]
    assert sum(bill.usd for bill in bench.world.bills) == pytest.approx(3 * 0.5 * (1000 * 1.0 + 100 * 5.0) * 1e-6)
    params = next(c.params for c in bench.world.calls if c.operation == "CreateModelInvocationJob")
    assert params["modelInvocationType"] == "Converse"
    assert params["timeoutDurationInHours"] == 24
    await bench.passes(200.0)
    assert bench.told(AnswersUnused) == []


async def test_too_few_go_elsewhere_when_their_slack_runs_out(bench: Bench) -> None:
    """Two requests are no job: they are given back in time to be answered elsewhere, and nothing is paid."""
    await bench.ask("a", "b", due_s=3 * HOUR_S)
    await bench.passes(HOUR_S)
    assert await bench.answers() == {}
    await bench.passes(HOUR_S)
    answers = await bench.answers()
    assert [type(error) for error in answers.values()] == [Returned, Returned]
    assert {error.code for error in answers.values() if isinstance(error, Returned)} == {"batch_too_few"}
    assert bench.told(RecordsReturned) == [RecordsReturned("haiku-jobs", "batch_too_few", 2)]
    assert (bench.calls(), list(bench.world.bills)) == ({}, [])


async def test_a_record_that_fails_goes_elsewhere_and_the_others_are_answered(bench: Bench) -> None:
    """Partial failure splits the job."""
    bench.world.batch.failing = frozenset({1})
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.passes(HOUR_S + 1.0)
    answers = await bench.answers()
    assert [text(answers[name]) for name in "ac"] == ["Say a", "Say c"]
    assert isinstance(answers["b"], Returned)
    assert answers["b"].code == "batch_record_failed"


async def test_what_a_job_did_not_get_to_goes_elsewhere(bench: Bench) -> None:
    """A partially completed job answers what it has; the rest is decided again."""
    bench.world.batch.does = 0.67
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.passes(HOUR_S + 1.0)
    answers = await bench.answers()
    assert [text(answers[name]) for name in "ab"] == ["Say a", "Say b"]
    assert isinstance(answers["c"], Returned)
    assert (answers["c"].code, bench.statuses()[-1]) == ("batch_failed", "PartiallyCompleted")


async def test_a_failed_job_sends_all_elsewhere(bench: Bench) -> None:
    """The service says Failed: nobody waits for its answers any longer, and nothing was billed."""
    bench.world.batch.fails = "the input is no good"
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.passes(10.0)
    answers = await bench.answers()
    assert {getattr(error, "code", "") for error in answers.values()} == {"batch_failed"}
    assert (len(answers), list(bench.world.bills)) == (3, [])
    assert "the input is no good" in [event.reason for event in bench.told(JobChanged)]


async def test_a_job_that_is_refused_sends_all_elsewhere_at_once(bench: Bench) -> None:
    """A quota of jobs that is used up is asked again; a request that is wrong is not."""
    bench.world.faults.append(Fault(code="ThrottlingException", operation="CreateModelInvocationJob", times=1))
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    assert await bench.answers() == {}
    bench.world.faults.append(Fault(code="ValidationException", operation="CreateModelInvocationJob"))
    await bench.passes(31.0)
    assert len(await bench.answers()) == 3
    bench.world.faults.clear()
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.passes(HOUR_S + 1.0)
    assert [text(delta) for delta in (await bench.answers()).values()] == ["Say a", "Say b", "Say c"]


async def test_who_has_no_slack_leaves_the_running_job_and_its_answer_counts_as_unused(bench: Bench) -> None:
    """One of three leaves for another deployment in time; the late answer is told as paid in vain."""
    await bench.ask("a", "b")
    await bench.ask("c", leave_s=HOUR_S / 2)
    await bench.passes(61.0)
    await bench.passes(HOUR_S / 2 - 61.0)
    answers = await bench.answers()
    assert list(answers) == ["c"]
    assert getattr(answers["c"], "code", "") == "batch_late"
    await bench.passes(HOUR_S)
    assert text((await bench.answers())["a"]) == "Say a"
    await bench.passes(6.0)
    await bench.passes(120.0)
    (unused,) = bench.told(AnswersUnused)
    assert (unused.records, unused.cost_usd) == (1, pytest.approx((1000 * 0.5 + 100 * 2.5) * 1e-6))


async def test_a_job_that_nobody_waits_for_is_stopped(bench: Bench) -> None:
    """All senders leave: after a while the job is stopped, and what it did by then is told as paid in vain."""
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    for task in bench.waiting.values():
        task.cancel()
    await asyncio.gather(*bench.waiting.values(), return_exceptions=True)
    await bench.passes(HOUR_S / 2)
    await bench.passes(130.0)
    assert bench.calls()["StopModelInvocationJob"] == 1
    await bench.passes(301.0)
    await bench.passes(130.0)
    (unused,) = bench.told(AnswersUnused)
    assert unused.records == 2
    assert bench.told(JobsObserved)[-1].running == 0


async def test_another_body_under_the_same_id_is_another_record(bench: Bench) -> None:
    """An answer belongs to the request it was made for."""
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.passes(HOUR_S)
    first = bench.attempt("a")
    body = b'{"messages":[{"role":"user","content":"Something else"}]}'
    other = msgspec.structs.replace(first, request=msgspec.structs.replace(first.request, payload=body))
    assert bench.backend.home(other.request) is None
    task = asyncio.ensure_future(bench._first(other))
    await bench._settle()
    assert not task.done()
    task.cancel()


async def test_what_converse_cannot_say_is_refused_before_it_is_collected(bench: Bench) -> None:
    """A request that could never be answered is in nobody's job."""
    attempt = bench.attempt("a")
    body = b'{"messages":[{"role":"user","content":"x"}],"n":3}'
    wrong = msgspec.structs.replace(attempt, request=msgspec.structs.replace(attempt.request, payload=body))
    with pytest.raises(Refused):
        await bench._first(wrong)


async def test_s3_that_does_not_answer_keeps_the_requests(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The input cannot be written: nothing is asked for, and the next try makes the job."""
    service: Any = bench.backend._service
    put = service.put

    async def broken(*args: Any) -> None:
        raise Returned("no S3")

    monkeypatch.setattr(service, "put", broken)
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    assert (bench.calls(), await bench.answers()) == ({}, {})
    monkeypatch.setattr(service, "put", put)
    await bench.passes(20.0)
    await bench.passes(HOUR_S + 1.0)
    assert len(await bench.answers()) == 3
