"""What a failing backend, reader or journal does to a request: it is retried, told, paid for and no more."""

from __future__ import annotations

import asyncio

import pytest

from router.domain.deployment import Kind, Price, Tier, TokenQuota
from router.domain.errors import BackendError, Expired, Refused, RequestError, RouterError, Throttled, Unreachable
from router.domain.events import AttemptEnded, RequestEnded, RequestReceived, RequestRejected
from router.domain.outcome import Delta, Receipt, Reply
from router.domain.slo import Budget, RequestClass
from router.domain.view import Health
from router.policy.policy import Bounds
from tests.regressions.house import House, Reader, code_of, deployment, failing, failing_once, virtually


def test_a_refused_key_sends_requests_elsewhere_and_opens_the_circuit_at_once() -> None:
    """`backend_forbidden` loses no request: each goes elsewhere, and only the first pays for finding out."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": failing(Refused("401", code="backend_forbidden"))}
        replies = [await house.ask(f"r{i}") for i in range(20)]
        assert {r.receipt.deployment for r in replies} == {"small"}
        assert house.backend.calls.count("large") == 1
        assert house.member("large").circuit.health is Health.OPEN

    virtually(scene)


def test_a_refused_key_of_the_only_deployment_is_told_as_it_is() -> None:
    """Where nobody else can take the request the refusal is the answer, after one call."""

    async def scene() -> None:
        house = House(deployments=(deployment("only"),))
        house.backend.scripts = {"only": failing(Refused("401", code="backend_forbidden"))}
        with pytest.raises(Refused) as refused:
            await house.ask()
        assert refused.value.code == "backend_forbidden"
        assert house.backend.calls == ["only"]

    virtually(scene)


_UNABLE = {
    "context": deployment("other", context_tokens=5),
    "quota": deployment("other", kind=Kind.PROVISIONED, quota=TokenQuota(5, 100_000)),
    "price": deployment("other", Tier.LARGE, price=Price(1e3, 1e3)),
}
_THRIFTY = RequestClass("all", max_retries=2, budget=Budget(usd_per_request=1e-3))


@pytest.mark.parametrize("why", _UNABLE)
def test_a_blip_is_retried_where_the_only_other_deployment_cannot_take_the_request(why: str) -> None:
    """Its context, its tokens a minute or its price keep the other out; that does not end the request."""

    async def scene() -> None:
        house = House(_THRIFTY, deployments=(_UNABLE[why], deployment("able", Tier.LARGE)))
        house.backend.scripts = {"able": failing_once(Unreachable("blip"))}
        assert (await house.ask()).receipt.attempts == 2
        assert house.backend.calls == ["able", "able"]

    virtually(scene)


@pytest.mark.parametrize("why", _UNABLE)
def test_the_backends_own_error_is_the_answer_after_the_retries(why: str) -> None:
    """Not a 429 that says nobody may serve it."""

    async def scene() -> None:
        house = House(_THRIFTY, deployments=(_UNABLE[why], deployment("able", Tier.LARGE)))
        house.backend.scripts = {"able": failing(Unreachable("gone"))}
        with pytest.raises(Unreachable):
            await house.ask()
        assert house.backend.calls == ["able"] * 3

    virtually(scene)


def test_a_failure_stays_the_answer_when_it_turns_out_that_nobody_is_left() -> None:
    """The other deployment was away when the first was chosen, and is found too dear when it is back."""

    async def scene() -> None:
        house = House(_THRIFTY, deployments=(_UNABLE["price"], deployment("able", Tier.LARGE)))
        house.backend.scripts = {"able": failing(Unreachable("gone"), after_s=0.1)}
        house.member("other").circuit.on_failed("earlier", "throttled", 0.05, now=0.0)
        with pytest.raises(Unreachable):
            await house.ask()

    virtually(scene)


@pytest.mark.parametrize(
    "raised", [KeyError("oops"), TimeoutError("socket"), asyncio.CancelledError(), RuntimeError("bug")], ids=repr
)
def test_whatever_a_backend_raises_is_a_failed_call_that_is_retried(raised: BaseException) -> None:
    """A bug, a time-out of its own or a cancellation of its own is a protocol error of that call, no more."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": failing(raised)}
        reply = await house.ask(deadline_s=60.0)
        assert house.backend.calls == ["large", "small"]
        assert reply.receipt.deployment == "small"
        assert [e.outcome.error_code for e in house.of(AttemptEnded)] == ["protocol_error", None]
        assert house.in_flight() == 0

    virtually(scene)


def test_a_timeout_of_the_backends_own_is_not_the_deadline() -> None:
    """Without a deadline nothing expires: the call has failed."""

    async def scene() -> None:
        house = House(RequestClass("all", max_retries=0))
        house.backend.scripts = {"large": failing(TimeoutError("socket"))}
        error = await house.attempt()
        assert isinstance(error, BackendError)
        assert not isinstance(error, Expired)

    virtually(scene)


class BrokenPipe(Reader):
    """A client that goes away after some pieces."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._left = after

    async def begin(self, receipt: Receipt) -> None:
        self._break()

    async def delta(self, delta: Delta) -> None:
        self._break()

    def _break(self) -> None:
        if not self._left:
            raise ConnectionResetError("client went away")
        self._left -= 1


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_readers_exception_is_its_own(after: int) -> None:
    """It passes through as it is; the call is not made again, and no circuit opens however often it happens."""

    async def scene() -> None:
        house = House(deployments=(deployment("only"),))
        for i in range(4):
            with pytest.raises(ConnectionResetError):
                await house.ask(f"r{i}", stream=True, responder=BrokenPipe(after))
        assert len(house.backend.calls) == 4
        assert house.member("only").circuit.health is Health.OK
        assert (house.in_flight(), house.backend.open_now, len(house.of(RequestEnded))) == (0, 0, 4)

    virtually(scene)


@pytest.mark.parametrize("error", [OSError("disk"), RouterError("disk full")], ids=repr)
def test_a_journal_that_cannot_write_leaves_a_whole_story(error: Exception) -> None:
    """Whatever `on_call` raises passes through, and the request that was received is told to have ended."""

    async def scene() -> None:
        house = House()

        async def note() -> None:
            raise error

        with pytest.raises(type(error)):
            await house.ask(on_call=note)
        ends = house.of(RequestEnded) + house.of(RequestRejected)
        assert (len(house.of(RequestReceived)), len(ends)) == (1, 1)
        assert (house.backend.calls, house.in_flight(), house.dispatcher.in_flight) == ([], 0, 0)

    virtually(scene)


def test_a_failed_announcement_wakes_who_waits_for_the_room() -> None:
    """The permit that goes back is given to the next at once, without a heartbeat."""

    async def scene() -> None:
        house = House(deployments=(deployment("only", max_in_flight=1),))

        async def note() -> None:
            await asyncio.sleep(0.1)
            raise RouterError("disk full")

        first = house.going("first", on_call=note)
        await asyncio.sleep(0.0)
        second = house.going("second")
        await asyncio.wait({first, second}, timeout=30.0)
        assert (code_of(first), code_of(second)) == ("internal_error", "ok")
        assert asyncio.get_running_loop().time() == pytest.approx(0.4)

    virtually(scene)


def test_a_retry_after_of_a_day_is_not_waited_for() -> None:
    """The sender hears of the throttle within the longest wait of the policy."""

    async def scene() -> None:
        house = House(deployments=(deployment("only"),), bounds=Bounds(queue_wait_s=60.0))
        house.backend.scripts = {"only": failing(Throttled("slow down", retry_after_s=86_400.0))}
        first = house.going("first")
        await house.beat(60.5)
        assert code_of(first) == "throttled"
        later = house.going("later")
        await house.beat(60.5)
        assert code_of(later) == "queue_timeout"
        assert house.backend.calls == ["only"]

    virtually(scene)


@pytest.mark.parametrize("retry_after_s", [None, 5.0])
def test_a_short_retry_after_is_waited_for(retry_after_s: float | None) -> None:
    """Within the bounds of the policy a throttled request waits as long as was asked for, and is answered."""

    async def scene() -> None:
        house = House(deployments=(deployment("only"),))
        house.backend.scripts = {"only": failing_once(Throttled("slow down", retry_after_s=retry_after_s))}
        task = house.going()
        await house.beat(10.0)
        assert code_of(task) == "ok"
        assert house.of(AttemptEnded)[1].outcome.attempt.started >= (retry_after_s or 0.0)

    virtually(scene)


def test_what_no_bucket_could_ever_hold_is_refused_at_once() -> None:
    """`unsupported` in no time, not a wait for tokens that can never be there; what fits is served."""

    async def scene() -> None:
        house = House(deployments=(deployment("p", kind=Kind.PROVISIONED, quota=TokenQuota(50, 100_000)),))
        refused = house.going(input_tokens=51)
        await house.beat(0.1)
        assert isinstance(refused.exception() if refused.done() else None, RequestError)
        assert code_of(refused) == "unsupported"
        assert isinstance(await house.attempt(input_tokens=50), Reply)

    virtually(scene)


def test_overhead_is_what_the_router_took_and_no_failed_attempt() -> None:
    """Two seconds of a call that failed, and the pause before the next, are not the router's own time."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": failing(Unreachable("gone"), after_s=2.0)}

        async def journal() -> None:
            await asyncio.sleep(0.25)

        receipt = (await house.ask(on_call=journal)).receipt
        assert receipt.attempts == 2
        assert receipt.overhead_s == pytest.approx(0.25)
        assert house.only(RequestEnded).overhead_s == pytest.approx(0.25)

    virtually(scene)
