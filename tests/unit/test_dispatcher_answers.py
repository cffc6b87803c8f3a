"""The life of a request on a virtual clock, from its arrival to its answer."""

from __future__ import annotations

import asyncio

import pytest

from router.domain.errors import (
    BackendError,
    Expired,
    RequestError,
    RouterError,
)
from router.domain.events import DecisionMade, RequestEnded, RequestRejected
from router.domain.outcome import Delta, Receipt, Usage
from router.domain.request import Capability
from router.domain.slo import RequestClass
from tests.regressions.house import House, deployment, failing, never, virtually


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
        house.backend.scripts = dict.fromkeys(("large", "small"), failing(KeyError("oops")))
        with pytest.raises(BackendError):
            await house.ask()
        assert house.in_flight() == 0

    virtually(scene)
