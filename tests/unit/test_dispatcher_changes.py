"""What changes between two requests: what was learned, the policy, and that the router stops."""

from __future__ import annotations

import asyncio

import pytest

from router.core import snapshot
from router.domain.deployment import Tier
from router.domain.errors import (
    Rejected,
    RouterError,
)
from router.domain.events import FeedbackReceived
from router.domain.slo import RequestClass
from router.policy.policy import Policy
from tests.regressions.house import House, deployment, virtually


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
