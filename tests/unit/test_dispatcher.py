"""The life of a request on a virtual clock, against a scripted backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from random import Random
from typing import Any

import pytest

from router.complexity.estimator import Scored
from router.core import snapshot
from router.core.controller import Controller
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.errors import (
    BackendError,
    Expired,
    ProtocolError,
    Refused,
    Rejected,
    RequestError,
    RouterError,
    Throttled,
    Unreachable,
)
from router.domain.events import DecisionMade, Event, FeedbackReceived, HealthChanged, RequestEnded, RequestRejected
from router.domain.outcome import Attempt, Delta, Receipt, Reply, Usage
from router.domain.request import Capability, Prompt, Request, RequestId
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.policy.policy import Bounds, Policy
from router.runtime.dispatcher import Dispatcher
from router.sim.clock import run_virtual
from router.wire.openai import delta_choices

Answer = Callable[[Attempt], AsyncGenerator[Delta, None]]


class Estimator:
    """Small is adequate for half, large for nearly all."""

    def estimate(self, request: Request) -> Scored:
        return Scored(0.5, "chat", {}, {Tier.SMALL: 0.5, Tier.LARGE: 0.95})


class LoopClock:
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    at = now

    def stopwatch(self) -> float:
        return 0.0


class Scripted:
    """A backend whose behaviour is a function by deployment name."""

    def __init__(self) -> None:
        self.scripts: dict[str, Answer] = {}
        self.calls: list[str] = []
        self.open_now = 0

    async def open(self, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        self.calls.append(attempt.deployment.name)
        self.open_now += 1
        try:
            async for delta in self.scripts.get(attempt.deployment.name, well)(attempt):
                yield delta
        finally:
            self.open_now -= 1

    async def close(self) -> None:
        pass


async def well(attempt: Attempt) -> AsyncGenerator[Delta, None]:
    """Three tokens, a tenth of a second apart."""
    for i in range(3):
        await asyncio.sleep(0.1)
        last = i == 2
        finish = "stop" if last else None
        usage = Usage(10, 3) if last else None
        yield Delta(delta_choices(f"w{i} ", role=i == 0, finish_reason=finish), 1, finish, usage)


async def never(attempt: Attempt) -> AsyncGenerator[Delta, None]:
    """No token, ever."""
    await asyncio.sleep(3600.0)
    yield Delta()


def failing(error: RouterError, after_tokens: int = 0) -> Answer:
    """Raises, perhaps after some tokens."""

    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        for _ in range(after_tokens):
            yield Delta(delta_choices("x"), 1)
        raise error

    return script


def deployment(name: str, tier: Tier = Tier.SMALL, **fields: Any) -> Deployment:
    return Deployment(
        name=DeploymentName(name),
        group=name,
        model=f"model-{name}",
        tier=tier,
        kind=fields.pop("kind", Kind.CONTINUOUS),
        address=Address("scripted", name),
        price=Price(1.0, 1.0),
        **fields,
    )


class House:
    """A dispatcher with its scripted backend and the events it told."""

    def __init__(
        self, *classes: RequestClass, deployments: tuple[Deployment, ...] = (), bounds: Bounds | None = None
    ) -> None:
        self.backend = Scripted()
        self.events: list[Event] = []
        policy = Policy(
            "p1",
            classes or (RequestClass("all"),),
            deployments or (deployment("small"), deployment("large", Tier.LARGE)),
            bounds or Bounds(),
        )
        self.controller = Controller(policy, Estimator(), rng=Random(0))
        self.dispatcher = Dispatcher(self.controller, {"scripted": self.backend}, LoopClock(), self)

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Any]) -> list[Any]:
        return [e for e in self.events if type(e) is kind]

    async def ask(self, name: str = "r", **fields: Any) -> Reply:
        now = asyncio.get_running_loop().time()
        responder = fields.pop("responder", None)
        on_call = fields.pop("on_call", None)
        deadline_s = fields.pop("deadline_s", None)
        deadline = None if deadline_s is None else now + deadline_s
        request = Request(RequestId(name), now, now, Prompt("hello"), 10, deadline=deadline, **fields)
        return await self.dispatcher.submit(request, responder, on_call=on_call)

    def in_flight(self) -> int:
        return sum(m.account.in_flight for m in self.controller.fleet.members.values())


def virtually(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_virtual(scene())


def test_a_request_is_answered_and_told_of() -> None:
    """One decision, one call, one reply with its receipt; the ledger is empty afterwards."""

    async def scene() -> None:
        house = House()
        reply = await house.ask()
        assert b"w0 w1 w2" in reply.choices
        assert reply.usage == Usage(10, 3)
        assert reply.receipt.cost_usd == pytest.approx(13e-6)
        assert reply.receipt.attempts == 1
        assert reply.receipt.ttft_s == pytest.approx(0.1)
        (decision,) = (e.decision for e in house.of(DecisionMade))
        assert decision.chosen == reply.receipt.deployment
        assert sum(c.propensity for c in decision.candidates) == pytest.approx(1.0)
        (ended,) = house.of(RequestEnded)
        assert ended.status == "completed"
        assert ended.e2e_s == pytest.approx(0.3)
        assert house.in_flight() == 0

    virtually(scene)


def test_a_streaming_client_gets_pieces_as_they_come() -> None:
    """The responder sees begin, then every piece; the reply then holds no choices."""

    class Client:
        def __init__(self) -> None:
            self.seen: list[str] = []

        async def begin(self, receipt: Receipt) -> None:
            self.seen.append(f"begin {asyncio.get_running_loop().time():.1f}")

        async def delta(self, delta: Delta) -> None:
            self.seen.append(f"{asyncio.get_running_loop().time():.1f}")

    async def scene() -> None:
        house, client = House(), Client()
        reply = await house.ask(stream=True, responder=client)
        assert client.seen == ["begin 0.1", "0.1", "0.2", "0.3"]
        assert reply.choices == b"[]"

    virtually(scene)


def test_a_failed_call_falls_back_to_another_deployment() -> None:
    """The one that failed is not asked again; the cost is of both, the attempts are two."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": failing(Unreachable("gone"))}
        reply = await house.ask(deadline_s=60.0)
        assert house.backend.calls == ["large", "small"]
        assert reply.receipt.attempts == 2
        assert house.in_flight() == 0

    virtually(scene)


class Deaf:
    """A streaming client that keeps nothing."""

    async def begin(self, receipt: Receipt) -> None:
        pass

    async def delta(self, delta: Delta) -> None:
        pass


def test_nothing_is_retried_after_a_token_has_left() -> None:
    """A stream that breaks in the middle fails; no other model takes over silently."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": failing(ProtocolError("cut"), after_tokens=1)}
        with pytest.raises(ProtocolError):
            await house.ask(responder=Deaf(), stream=True)
        assert house.backend.calls == ["large"]
        assert house.of(RequestEnded)[0].code == "protocol_error"

    virtually(scene)


def test_a_broken_answer_nobody_has_seen_is_made_again() -> None:
    """Where the sender waits for the whole, a call that breaks in the middle is retried elsewhere from the start."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": failing(ProtocolError("cut"), after_tokens=1)}
        reply = await house.ask()
        assert house.backend.calls == ["large", "small"]
        assert b'"w0 w1 w2 "' in reply.choices
        assert reply.receipt.ttft_s == pytest.approx(0.1)

    virtually(scene)


def test_a_refused_request_is_not_retried() -> None:
    """Wrong is wrong everywhere."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": failing(Refused("bad tool"))}
        with pytest.raises(Refused):
            await house.ask()
        assert len(house.backend.calls) == 1

    virtually(scene)


def test_retries_stop_at_the_classs_limit() -> None:
    """Two retries mean three calls, with a pause once every deployment has failed."""

    async def scene() -> None:
        house = House(RequestClass("all", max_retries=2))
        down = failing(Unreachable("gone"))
        house.backend.scripts = {"large": down, "small": down}
        with pytest.raises(Unreachable):
            await house.ask()
        assert len(house.backend.calls) == 3
        assert asyncio.get_running_loop().time() > 0.0

    virtually(scene)


def test_repeated_failures_open_the_circuit_and_traffic_moves_away() -> None:
    """After three failures the deployment is left alone until its cool-down is over, then probed."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": failing(Unreachable("gone"))}
        for i in range(6):
            await house.ask(f"r{i}")
        assert house.backend.calls.count("large") == 3
        assert [(e.old, e.new) for e in house.of(HealthChanged)] == [("ok", "open")]
        house.backend.scripts = {}
        await asyncio.sleep(2.0)
        await house.ask("probe")
        assert house.backend.calls[-1] == "large"
        assert house.of(HealthChanged)[-1].new == "ok"

    virtually(scene)


def test_throttled_deployment_rests_for_as_long_as_it_said() -> None:
    """Retry-After is a promise: nothing goes there before."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": failing(Throttled("slow down", retry_after_s=5.0))}
        await house.ask("a")
        house.backend.scripts = {}
        await asyncio.sleep(4.0)
        await house.ask("b")
        await asyncio.sleep(2.0)
        await house.ask("c")
        assert house.backend.calls == ["large", "small", "small", "large"]

    virtually(scene)


def test_the_deadline_bounds_everything() -> None:
    """A silent backend costs no more than the deadline, and its call is closed."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": never, "small": never}
        with pytest.raises(Expired):
            await house.ask(deadline_s=1.5)
        assert asyncio.get_running_loop().time() == pytest.approx(1.5)
        assert house.backend.open_now == 0
        assert house.in_flight() == 0

    virtually(scene)


def test_a_request_that_arrives_expired_is_refused_at_once() -> None:
    """No call is made for it."""

    async def scene() -> None:
        house = House()
        with pytest.raises(Expired):
            await house.ask(deadline_s=-1.0)
        assert house.backend.calls == []
        assert house.of(RequestRejected)[0].stage == "admission"

    virtually(scene)


def test_a_client_that_goes_away_frees_its_call() -> None:
    """Cancelling the submit closes the upstream call and the ledger."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": never, "small": never}
        task = asyncio.ensure_future(house.ask())
        await asyncio.sleep(0.5)
        assert house.in_flight() == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert house.in_flight() == 0
        assert house.backend.open_now == 0
        assert house.of(RequestEnded)[0].code == "client_gone"

    virtually(scene)


def one_at_a_time() -> House:
    return House(
        RequestClass("urgent", priority=5),
        RequestClass("all"),
        RequestClass("spare", sheddable=True, objectives=Objectives(ttft=Objective(Indicator.TTFT, 0.5))),
        deployments=(deployment("only", max_in_flight=1),),
        bounds=Bounds(queue_requests=2),
    )


def test_waits_for_room_and_goes_by_priority() -> None:
    """With room for one, the urgent one overtakes in the queue; waiting is not overhead."""

    async def scene() -> None:
        house, order = one_at_a_time(), []

        async def ask(name: str, request_class: str) -> None:
            reply = await house.ask(name, request_class=request_class)
            order.append((name, round(reply.receipt.queue_s, 1), round(reply.receipt.overhead_s, 3)))

        await asyncio.gather(ask("first", "all"), ask("second", "all"), ask("urgent", "urgent"))
        assert order == [("first", 0.0, 0.0), ("urgent", 0.3, 0.0), ("second", 0.6, 0.0)]

    virtually(scene)


def test_a_full_queue_pushes_out_what_may_be_shed() -> None:
    """The least urgent sheddable waiter gives way; without one the newcomer is refused."""

    async def scene() -> None:
        house = one_at_a_time()
        classes = ["all", "all", "spare", "urgent", "all"]
        asked = [house.ask(f"r{i}", request_class=c) for i, c in enumerate(classes)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        codes = [r.code if isinstance(r, RouterError) else "ok" for r in results]
        assert codes == ["ok", "ok", "evicted", "ok", "queue_full"]

    virtually(scene)


def test_a_sheddable_request_is_answered_at_once_when_its_objective_is_gone() -> None:
    """It is not kept waiting for an answer that would be useless."""

    async def scene() -> None:
        house = one_at_a_time()
        house.backend.scripts = {"only": never}
        first = asyncio.ensure_future(house.ask("first", request_class="all"))
        await asyncio.sleep(0.0)
        spare = asyncio.ensure_future(house.ask("spare", request_class="spare"))
        for _ in range(8):
            await asyncio.sleep(0.1)
            house.dispatcher.tick()
        with pytest.raises(Rejected) as refused:
            await spare
        assert refused.value.code in {"slo_unreachable", "overloaded"}
        first.cancel()

    virtually(scene)


def test_a_cancelled_waiter_leaves_no_trace() -> None:
    """Going away while queued frees the place, and the next in line is served."""

    async def scene() -> None:
        house = one_at_a_time()
        first = asyncio.ensure_future(house.ask("first"))
        second = asyncio.ensure_future(house.ask("second"))
        third = asyncio.ensure_future(house.ask("third"))
        await asyncio.sleep(0.05)
        second.cancel()
        await asyncio.gather(first, third)
        assert len(house.dispatcher.queue) == 0
        assert house.in_flight() == 0

    virtually(scene)


def test_forcing_a_deployment_by_name_and_unknown_names() -> None:
    """`model` may name a deployment or a class; anything else is a clear error."""

    async def scene() -> None:
        house = House(RequestClass("gold", deployments=("large",)), RequestClass("all"))
        assert (await house.ask("a", model="small")).receipt.deployment == "small"
        assert (await house.ask("b", model="gold")).receipt.deployment == "large"
        with pytest.raises(RequestError) as unknown:
            await house.ask("c", model="gpt-9")
        assert unknown.value.code == "model_not_found"

    virtually(scene)


def test_what_no_deployment_can_do_is_said_so() -> None:
    """Tools without a deployment that has them: an error of the request, not a wait."""

    async def scene() -> None:
        house = House(deployments=(deployment("plain", capabilities=frozenset()),))
        with pytest.raises(RequestError) as refused:
            await house.ask(needs=frozenset({Capability.TOOLS}))
        assert refused.value.code == "unsupported"

    virtually(scene)


def test_the_call_is_announced_before_it_is_made_and_withdrawn_if_that_fails() -> None:
    """The journal hears of every call first; if it cannot write, no call is made and the permit returns."""

    async def scene() -> None:
        house = House()
        seen: list[int] = []

        async def note() -> None:
            seen.append(len(house.backend.calls))

        await house.ask(on_call=note)
        assert seen == [0]

        async def broken() -> None:
            raise RouterError("disk full")

        with pytest.raises(RouterError, match="disk full"):
            await house.ask(on_call=broken)
        assert len(house.backend.calls) == 1
        assert house.in_flight() == 0

    virtually(scene)


def test_a_bug_in_a_backend_is_one_failed_request() -> None:
    """Anything but a BackendError becomes a protocol error of that call; the ledger closes."""

    async def scene() -> None:
        house = House(RequestClass("all", max_retries=0))

        async def buggy(attempt: Attempt) -> AsyncGenerator[Delta, None]:
            raise KeyError("oops")
            yield Delta()

        house.backend.scripts = {"large": buggy, "small": buggy}
        with pytest.raises(BackendError):
            await house.ask()
        assert house.in_flight() == 0

    virtually(scene)


def test_feedback_moves_that_kind_of_prompt_to_the_large_model() -> None:
    """Feedback on decisions is believed once each; unknown ids are counted and teach nothing."""

    async def scene() -> None:
        house = House(deployments=(deployment("small"), deployment("large", Tier.LARGE)))
        house.controller.qualities.observe(0.5, "model-small", "chat", 1.0)
        reply = await house.ask(model="small")
        before, _ = house.controller.qualities.correct(0.5, "model-small", "chat")
        assert house.dispatcher.feedback(reply.receipt.decision_id, 0.0)
        after, _ = house.controller.qualities.correct(0.5, "model-small", "chat")
        assert after < before
        assert not house.dispatcher.feedback(reply.receipt.decision_id, 0.0)
        assert not house.dispatcher.feedback("unknown", 1.0)
        assert [e.known for e in house.of(FeedbackReceived)] == [True, False, False]

    virtually(scene)


def test_what_was_learned_survives_a_restart() -> None:
    """A snapshot taken up by a fresh controller gives the same corrections; a broken one is refused."""

    async def scene() -> None:
        house = House()
        for i in range(20):
            reply = await house.ask(f"r{i}")
            house.dispatcher.feedback(reply.receipt.decision_id, 0.0)
        saved = snapshot.take(house.controller, at=1.0)
        again = House()
        snapshot.restore(again.controller, saved)
        model = "model-" + reply.receipt.deployment
        assert again.controller.qualities.correct(0.9, model, "chat") == house.controller.qualities.correct(
            0.9, model, "chat"
        )
        assert again.controller.lengths.expect("all", model, None) == house.controller.lengths.expect(
            "all", model, None
        )
        with pytest.raises(RouterError, match="checkpoint"):
            snapshot.restore(again.controller, b"{}")

    virtually(scene)


def test_a_silent_call_is_hedged_and_the_loser_is_cancelled() -> None:
    """After the class's patience a second deployment is asked; the first to speak answers, the other is freed."""

    async def scene() -> None:
        house = House(RequestClass("all", hedge_after_s=0.5))
        house.backend.scripts = {"large": never}
        reply = await house.ask()
        assert house.backend.calls == ["large", "small"]
        assert (reply.receipt.deployment, reply.receipt.attempts) == ("small", 2)
        assert asyncio.get_running_loop().time() == pytest.approx(0.8)
        assert (house.in_flight(), house.backend.open_now) == (0, 0)
        quick = await house.ask("quick", model="small")
        assert quick.receipt.attempts == 1

    virtually(scene)


def test_a_hedged_request_fails_only_when_both_have_failed() -> None:
    """A rival that fails leaves the first its chance."""

    async def late(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(2.0)
        yield Delta(delta_choices("late", finish_reason="stop"), 1, "stop", Usage(10, 1))

    async def scene() -> None:
        house = House(RequestClass("all", hedge_after_s=0.5))
        house.backend.scripts = {"large": late, "small": failing(Unreachable("gone"))}
        reply = await house.ask()
        assert reply.receipt.deployment == "large"
        assert house.in_flight() == 0

    virtually(scene)


def test_draining_refuses_the_new_and_ends_the_old() -> None:
    """An orderly stop waits for what is in flight."""

    async def scene() -> None:
        house = House()
        task = asyncio.ensure_future(house.ask("old"))
        await asyncio.sleep(0.0)
        done = asyncio.ensure_future(house.dispatcher.drain(10.0))
        await asyncio.sleep(0.0)
        with pytest.raises(Rejected) as refused:
            await house.ask("new")
        assert refused.value.code == "draining"
        assert (await task).usage.output_tokens == 3
        assert await done

    virtually(scene)


def test_a_policy_swap_does_not_touch_what_is_in_flight() -> None:
    """A request ends under the snapshot it began with, also when its deployment has left the fleet."""

    async def scene() -> None:
        house = House()
        task = asyncio.ensure_future(house.ask("old", model="large"))
        await asyncio.sleep(0.15)
        events = house.controller.apply(Policy("p2", (RequestClass("all"),), (deployment("small"),)), now=0.0, at=0.0)
        assert [type(e).__name__ for e in events] == ["PolicyApplied"]
        new = await house.ask("new")
        old = await task
        assert (old.receipt.policy, old.receipt.deployment) == ("p1", "large")
        assert (new.receipt.policy, new.receipt.deployment) == ("p2", "small")
        assert house.in_flight() == 0

    virtually(scene)
