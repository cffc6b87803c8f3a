"""A request in parts: the parts side by side, one deadline, one cancellation, one answer."""

from __future__ import annotations

import asyncio
import json

import pytest
from prometheus_client import CollectorRegistry

from router.domain.control.fanout import FanoutEnded
from router.domain.errors import Rejected, RequestError, Throttled, Unreachable
from router.domain.events import DecisionMade, RequestEnded
from router.domain.outcome import Usage
from router.domain.slo import CacheTerms, Match, Parameters, RequestClass
from router.policy.policy import Bounds
from router.telemetry.metrics import Metrics, render
from router.telemetry.sink import Sink
from tests.regressions.house import House, cancel, failing
from tests.unit.fanned_out import house, lines, now, on_virtual_clock, request, said


@on_virtual_clock
async def test_three_parts_of_four_seconds_take_four() -> None:
    """Not twelve; and a fourth second's work after them is the merge's."""
    home = house()
    reply = await home.dispatcher.submit(request(["a", "b", "c"]))
    assert now() == pytest.approx(4.0, abs=0.1)
    assert said(reply) == "<a>\n\n<b>\n\n<c>"
    await home.dispatcher.submit(request(["a", "b", "c"], "wait 1"))
    assert now() == pytest.approx(9.0, abs=0.2)
    first, second = home.of(FanoutEnded)
    assert (first.status, first.completed, first.merge) == ("completed", 3, "")
    assert first.parts_s / first.seconds == pytest.approx(3.0, abs=0.1)
    assert (second.completed, second.merge) == (3, "completed")


@on_virtual_clock
async def test_each_part_is_a_request_of_its_own() -> None:
    """Its own decision under the parent's id, its own end, tenant and deployment; the receipt holds the sums."""
    home = house()
    reply = await home.dispatcher.submit(request(["a", {"content": "b", "model": "large"}, "c"]))
    decisions = [event.decision for event in home.of(DecisionMade)]
    assert {d.request_id for d in decisions} == {"r/0", "r/1", "r/2"}
    assert {d.parent for d in decisions} == {"r"}
    assert {d.tenant for d in decisions} == {"acme"}
    assert len({d.id for d in decisions}) == 3
    ended = home.of(RequestEnded)
    assert len(ended) == 3
    assert lines(reply)[1]["deployment"] == "large"
    assert {line["decision_id"] for line in lines(reply)} == {d.id for d in decisions}
    assert reply.usage == Usage(300, 150)
    assert reply.receipt.cost_usd == pytest.approx(sum(e.cost_usd for e in ended))
    assert reply.receipt.cost_usd == pytest.approx(sum(line["cost_usd"] for line in lines(reply)))
    assert reply.receipt.attempts == 3


@on_virtual_clock
async def test_the_merge_is_routed_by_itself() -> None:
    """By its own model, after the parts, with their answers; its decision stands for the whole."""
    home = house()
    reply = await home.dispatcher.submit(request(["a", "b"], {"content": "Join {{parts[1]}}", "model": "large"}))
    assert said(reply) == "<Join <b>>"
    last = home.of(DecisionMade)[-1].decision
    assert (last.request_id, last.parent, last.chosen) == ("r/merge", "r", "large")
    assert reply.receipt.decision_id == last.id
    assert reply.receipt.deployment == "large"
    assert reply.receipt.ttft_s == pytest.approx(8.0, abs=0.1)
    assert reply.usage == Usage(300, 150)
    assert json.loads(reply.report)["merge"]["deployment"] == "large"


@on_virtual_clock
async def test_a_failed_part_leaves_the_others() -> None:
    """It is reported as failed, in its place, and the merge is told."""
    home = house()
    home.controller.retries.tokens = 0.0
    reply = await home.dispatcher.submit(request(["a", "break", "c"], "Join {{parts[1]}}"))
    statuses = [line["status"] for line in lines(reply)]
    assert statuses == ["completed", "failed", "completed"]
    assert lines(reply)[1]["error"]["code"] == "throttled"
    assert said(reply) == "<Join (no answer: throttled)>"
    (event,) = home.of(FanoutEnded)
    assert (event.status, event.completed, event.failed) == ("partial", 2, 1)


@on_virtual_clock
async def test_where_all_fail_the_worst_is_the_answer() -> None:
    """The error with the highest status, so that what may pass is asked again; no merge is made."""
    home = House()
    home.controller.retries.tokens = 0.0
    home.backend.scripts["small"] = failing(Throttled("slow down"))
    home.backend.scripts["large"] = failing(Unreachable("gone"))
    parts = [{"content": "a", "model": "small"}, {"content": "b", "model": "large"}]
    with pytest.raises(Unreachable, match=r"all 2 parts failed; part 1: gone"):
        await home.dispatcher.submit(request(parts, "Join"))
    assert {event.decision.request_id for event in home.of(DecisionMade)} == {"r/0", "r/1"}
    (event,) = home.of(FanoutEnded)
    assert (event.status, event.failed, event.merge) == ("failed", 2, "")


@on_virtual_clock
async def test_all_share_one_deadline() -> None:
    """What is late is reported as late, at the deadline, and what was in time is given back."""
    home = house(seconds=1.0)
    reply = await home.dispatcher.submit(request(["a", "wait 60", "c"], deadline_s=5.0))
    assert now() == pytest.approx(5.0, abs=0.1)
    assert [line["status"] for line in lines(reply)] == ["completed", "failed", "completed"]
    assert lines(reply)[1]["error"]["code"] == "deadline_exceeded"
    assert said(reply) == "<a>\n\n[part 1 failed: deadline_exceeded]\n\n<c>"
    assert home.in_flight() == 0


@on_virtual_clock
async def test_a_merge_past_the_deadline_leaves_the_parts() -> None:
    """They are paid for: they are given back as if no merge had been asked for, and it is said."""
    home = house(seconds=1.0)
    reply = await home.dispatcher.submit(request(["a", "b"], "wait 60", deadline_s=5.0))
    assert now() == pytest.approx(5.0, abs=0.1)
    assert said(reply) == "<a>\n\n<b>"
    assert json.loads(reply.report)["merge"]["error"]["code"] == "deadline_exceeded"
    (event,) = home.of(FanoutEnded)
    assert (event.status, event.merge) == ("partial", "failed")


@pytest.mark.parametrize("at_s", [1.0, 5.0])
@on_virtual_clock
async def test_one_cancellation_ends_all(at_s: float) -> None:
    """During the parts and during the merge: no call is left open, no permit held."""
    home = house()
    task = asyncio.ensure_future(home.dispatcher.submit(request(["a", "b", "wait 4"], "wait 9")))
    await asyncio.sleep(at_s)
    assert home.backend.open_now == (3 if at_s < 4.0 else 1)
    await cancel(task)
    assert (home.backend.open_now, home.in_flight(), home.dispatcher.in_flight) == (0, 0, 0)
    (event,) = home.of(FanoutEnded)
    assert (event.status, event.cancelled) == ("cancelled", 3 if at_s < 4.0 else 0)


@on_virtual_clock
async def test_so_many_at_once_and_no_more() -> None:
    """With room for two, five parts of four seconds take twelve; the order of the answer is theirs."""
    home = house(bounds=Bounds(fanout_parallel=2))
    reply = await home.dispatcher.submit(request(list("abcde")))
    assert now() == pytest.approx(12.0, abs=0.1)
    assert said(reply) == "\n\n".join(f"<{one}>" for one in "abcde")


@on_virtual_clock
async def test_too_many_parts_are_refused_unpaid() -> None:
    """By the bound of the policy in force."""
    home = house(bounds=Bounds(fanout_parts=2))
    with pytest.raises(RequestError, match="3 parts; 2 are allowed"):
        await home.dispatcher.submit(request(["a", "b", "c"]))
    assert home.backend.calls == []
    assert home.only(FanoutEnded).status == "refused"


@on_virtual_clock
async def test_every_call_is_announced() -> None:
    """A journal counts the calls of all parts and of the merge."""
    home, announced = house(), []

    async def on_call() -> None:
        announced.append(now())

    await home.dispatcher.submit(request(["a", "b"], "Join"), on_call=on_call)
    assert len(announced) == 3


@pytest.mark.parametrize("journalled", [True, False])
@on_virtual_clock
async def test_a_shut_down_ends_no_journalled_request_with_half_an_answer(journalled: bool) -> None:
    """It is left for the next life of the process; whoever waits at a socket has what there is."""
    home = house(bounds=Bounds(fanout_parallel=1))

    async def on_call() -> None:
        pass

    given = on_call if journalled else None
    task = asyncio.ensure_future(home.dispatcher.submit(request(["a", "b"]), on_call=given))
    await asyncio.sleep(1.0)
    assert await home.dispatcher.drain(10.0)
    if journalled:
        with pytest.raises(Rejected) as raised:
            await task
        assert raised.value.code == "draining"
    else:
        assert [line["status"] for line in lines(await task)] == ["completed", "failed"]


@on_virtual_clock
async def test_parts_are_answered_from_the_cache() -> None:
    """The same question in another request, or beside it, is paid once."""
    kept = RequestClass("kept", parameters=Parameters(temperature=0.0), cache=CacheTerms(60.0))
    home = house(kept)
    await home.dispatcher.submit(request(["a", "b", "a"]))
    assert len(home.backend.calls) == 2
    reply = await home.dispatcher.submit(request(["b", "c"]))
    assert len(home.backend.calls) == 3
    assert [line["cost_usd"] == 0.0 for line in lines(reply)] == [True, False]


@on_virtual_clock
async def test_a_part_may_ask_for_a_class_of_its_own() -> None:
    """By `model`, as any request; the others keep the request's."""
    home = house(RequestClass("brief", match=Match(models=("brief",))), RequestClass("all"))
    await home.dispatcher.submit(request([{"content": "a", "model": "brief"}, "b"]))
    assert {e.decision.request_id: e.decision.request_class for e in home.of(DecisionMade)} == {
        "r/0": "brief",
        "r/1": "all",
    }


@on_virtual_clock
async def test_the_metrics_count_requests_and_parts() -> None:
    """By how they ended, and the time that answering side by side saves."""
    home = house()
    home.controller.retries.tokens = 0.0
    await home.dispatcher.submit(request(["a", "break", "c"], "Join"))
    registry = CollectorRegistry()
    sink = Sink(Metrics(home.controller.policy, registry).subscribers)
    sink.emit(home.only(FanoutEnded))
    sink.drain_all()
    page = render(registry)[0].decode().splitlines()
    assert 'router_fanout_requests_total{status="partial"} 1.0' in page
    assert 'router_fanout_parts_total{status="completed"} 2.0' in page
    assert 'router_fanout_parts_total{status="failed"} 1.0' in page
    assert 'router_fanout_merges_total{status="completed"} 1.0' in page
