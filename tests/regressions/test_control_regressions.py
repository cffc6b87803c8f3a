"""What once went wrong where limits, batches, windows, lanes and reserved tokens meet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest
from msgspec.structs import replace

from router.control.capacity import Quota
from router.control.limits import TokenLimit
from router.control.limits.ceiling import Ceiling
from router.core.capacity.reserve import FILLING, SPILLING
from router.core.fleet import Fleet
from router.core.ticket import Ticket
from router.core.window.window import Window
from router.domain.control.capacity import SpillChanged
from router.domain.deployment import Kind, Lane, LimitKind, LimitTerms, Mode, Price, Tier, TokenQuota
from router.domain.errors import Throttled
from router.domain.events import LimitUpdate
from router.domain.outcome import Attempt, Delta
from router.domain.slo import Indicator, Objective, Objectives, QualityFloor, RequestClass
from router.policy.policy import Bounds
from router.slo.floor import FloorPrice
from tests.regressions.house import WHOLE, House, Reader, batching, code_of, deployment, speaking, virtually, well

PLAIN = RequestClass("all", max_retries=0)
PAID = Price(0.0, 0.0, 10.0)


async def _batch(attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
    await asyncio.sleep(0.03)
    return (WHOLE,) * len(attempts)


def test_a_sender_that_leaves_as_its_batch_begins_blocks_nobody() -> None:
    """In the turn of the loop in which the only item goes, its batch is due: those who come later are answered."""

    async def scene() -> None:
        house = batching(_batch, replace(PLAIN, batch_wait_s=0.5))
        gone: list[asyncio.Task[object]] = []
        asyncio.get_running_loop().call_at(0.5, lambda: gone[0].cancel())
        gone.append(asyncio.ensure_future(house.attempt("gone")))
        await asyncio.sleep(1.0)
        later = house.going("later", deadline_s=5.0)
        await asyncio.sleep(6.0)
        assert (gone[0].cancelled(), code_of(later), house.in_flight()) == (True, "ok", 0)

    virtually(scene)


def test_a_rival_that_loses_before_it_began_gives_its_permit_back() -> None:
    """The first speaks in the very turn of the loop in which the second call is made."""

    async def scene() -> None:
        house = House(RequestClass("all", max_retries=1, hedge_after_s=0.5))
        house.backend.scripts = {name: speaking(name, first_s=0.5) for name in ("small", "large")}
        await house.ask()
        await asyncio.sleep(5.0)
        assert (len(house.backend.calls), house.in_flight()) == (1, 0)

    virtually(scene)


def test_no_more_than_a_hundred_are_left_for_a_later_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of one window would wait: each of them is weighed anew ten times a second."""

    def waits(self: Window, ticket: Ticket, *, since: float, now: float) -> bool:
        return now - since < 1.0

    monkeypatch.setattr(Window, "waits", waits)
    monkeypatch.setattr(Window, "gathers", lambda self, ticket, now: True)

    async def scene() -> None:
        house = House(replace(PLAIN, deadline_s=60.0))
        tasks = [house.going(f"{i}") for i in range(150)]
        await asyncio.sleep(0.05)
        assert len(house.backend.calls) == 50
        await asyncio.sleep(3.0)
        assert [code_of(task) for task in tasks] == ["ok"] * 150

    virtually(scene)


def test_who_is_kept_for_a_cheaper_lane_after_it_has_queued_steps_aside() -> None:
    """Ten queue, and are then kept for a flex lane that stays full: who comes behind them takes what gets free."""

    async def scene() -> None:
        patient = RequestClass("patient", deadline_s=600.0, patience_s=30.0)
        cheap = deployment("flex", Tier.LARGE, price=Price(0.1, 0.1), max_in_flight=1)
        dear = deployment("dear", Tier.LARGE, price=Price(100.0, 100.0), max_in_flight=1)
        fleet = (replace(cheap, model="m", lane=Lane.FLEX), replace(dear, model="m"))
        house = House(patient, RequestClass("plain"), deployments=fleet)

        async def answer(attempt: Attempt) -> AsyncGenerator[Delta, None]:
            is_first = attempt.request.id.startswith("first")
            await asyncio.sleep({"flex": 500.0, "dear": 2.0}[attempt.deployment.name] if is_first else 0.1)
            yield WHOLE

        house.backend.scripts = {"flex": answer, "dear": answer}
        tasks = [house.going(f"first{i}", request_class="plain") for i in range(2)]
        await asyncio.sleep(0.01)
        kept = [house.going(f"kept{i}", request_class="patient") for i in range(10)]
        await asyncio.sleep(0.01)
        behind = house.going("behind", request_class="plain")
        await house.beat(3.0)
        assert (code_of(behind), any(task.done() for task in kept), len(house.dispatcher.queue)) == ("ok", False, 10)
        await house.beat(35.0)
        assert [code_of(task) for task in kept] == ["ok"] * 10
        for task in tasks:
            task.cancel()

    virtually(scene)


def test_a_call_that_was_never_made_gives_its_reserved_tokens_back() -> None:
    """The ingress cannot note the call, so that nothing is sent: the next finds the bucket full."""

    async def scene() -> None:
        large = deployment("p", Tier.LARGE, kind=Kind.PROVISIONED, quota=TokenQuota(1000.0, 1000.0), price=PAID)
        house = House(PLAIN, deployments=(large,))

        async def broken() -> None:
            raise RuntimeError("the disk is full")

        assert isinstance(await house.attempt("a", on_call=broken, input_tokens=600), RuntimeError)
        quota = house.member("p").quota
        assert quota is not None
        assert (quota.input.level, quota.used_input) == (1000.0, 0.0)
        await house.ask("b", input_tokens=600)

    virtually(scene)


def test_a_size_that_was_learned_too_small_shuts_nobody_out() -> None:
    """One hiccup on a small first call makes the reserved size look like 1,000 tokens a minute: a larger call is tried
    once the bucket is full, and is not told that it can never be served."""

    async def scene() -> None:
        house = House(PLAIN, deployments=(deployment("p", Tier.LARGE, kind=Kind.PROVISIONED, price=PAID),))
        throttled: list[str] = []

        async def answer(attempt: Attempt) -> AsyncGenerator[Delta, None]:
            if not throttled:
                throttled.append(attempt.id)
                raise Throttled("slow down", retry_after_s=1.0)
            async for delta in well(attempt):
                yield delta

        house.backend.scripts = {"p": answer}
        await house.attempt("a", input_tokens=200)
        quota = house.member("p").quota
        assert quota is not None
        assert quota.input.capacity == 1000.0
        await house.beat(90.0, 1.0)
        await house.ask("b", input_tokens=1500)

    virtually(scene)


def test_a_stated_size_stays_a_bound_for_one_call() -> None:
    """What full buckets would not hold is told so at once."""
    quota = Quota(TokenQuota(1000.0, 100.0))
    assert quota.fits(1000.0, 100.0)
    assert not quota.fits(1000.1, 1.0)
    assert not quota.fits(1.0, 100.1)


def test_other_buckets_do_not_hide_that_load_has_stopped_to_spill() -> None:
    """The operator states five times the size while load spills: it is told when it comes back, and what calls under
    way give back goes to the buckets that they took it from."""
    small = deployment("p", kind=Kind.PROVISIONED, quota=TokenQuota(1000.0, 1000.0))
    fleet = Fleet((small, deployment("other")), Bounds())
    member = fleet.members[small.name]
    assert member.quota is not None
    assert member.reserve is not None
    member.quota.reserve(900.0, 10.0, now=0.0)
    assert SPILLING in _turns(member.reserve.tick(0.0, now=0.1))
    fleet.change((replace(small, quota=TokenQuota(5000.0, 5000.0)), deployment("other")), Bounds())
    assert fleet.members[small.name] is member
    told = [turn for beat in range(1, 30) for turn in _turns(member.reserve.tick(0.0, now=float(beat)))]
    assert told == [FILLING]


def _turns(events: Sequence[object]) -> list[str]:
    return [event.new for event in events if isinstance(event, SpillChanged)]


def test_tokens_of_a_call_under_way_go_back_where_they_came_from() -> None:
    """A call that was expected to write much ends after the size was changed: the new bucket gains nothing by it."""

    async def scene() -> None:
        quota = TokenQuota(10_000.0, 10_000.0)
        listed = (deployment("p", Tier.LARGE, kind=Kind.PROVISIONED, quota=quota, price=PAID),)
        house = House(PLAIN, deployments=listed)
        running = house.going("a")
        await asyncio.sleep(0.01)
        other = (replace(listed[0], quota=TokenQuota(20_000.0, 20_000.0)),)
        policy = replace(house.controller.policy, digest="p2", deployments=other)
        house.controller.apply(policy, now=0.01, at=0.01)
        await running
        now = house.member("p").quota
        assert now is not None
        assert (now.output.capacity, now.used_output, now.used_input) == (20_000.0, 0.0, 0.0)

    virtually(scene)


def test_time_in_which_a_limit_was_held_does_not_lift_its_ceiling() -> None:
    """A freeze of five minutes is no evidence that more would be taken than was refused."""
    ceiling = Ceiling()
    ceiling.on_refused(20.0, now=0.0)
    ceiling.beat(18.0, now=0.0)
    ceiling.beat(18.0, now=300.0)
    assert ceiling.value == pytest.approx(18.0)
    for beat in range(1, 200):
        ceiling.beat(30.0, now=300.0 + 0.1 * beat)
    assert ceiling.value > 19.0


@pytest.mark.parametrize("kind", [LimitKind.STEP_MODEL, LimitKind.AIMD, LimitKind.GRADIENT])
def test_where_limits_are_only_advised_what_the_operator_edits_is_in_force(kind: LimitKind) -> None:
    """A number that is edited counts at once, and one that is not touched stays."""
    written = deployment("a", mode=Mode.ADVISE, limit=LimitTerms(kind, requests=32))
    fleet = Fleet((written,), Bounds())
    limit = fleet.members[written.name].limit
    fleet.change((replace(written, context_tokens=9000),), Bounds())
    assert fleet.members[written.name].limit is limit
    fleet.change((replace(written, limit=LimitTerms(kind, requests=8)),), Bounds())
    assert fleet.members[written.name].limit.value == 8


def test_a_limit_on_tokens_that_is_only_advised_is_told_and_not_in_force() -> None:
    """Refusals and stand-stills say what it would be; what the operator stated holds."""
    limits = [TokenLimit("a", None, is_advice=is_advice) for is_advice in (True, False)]
    for limit in limits:
        limit.beat(10, 1000.0, now=0.0)
        assert limit.on_refused(2, 1000.0, now=1.0)
    told = [limit.beat(2, 0.0, now=1.1) for limit in limits]
    assert [limit.value for limit in limits] == [None, pytest.approx(900.0)]
    assert told == [LimitUpdate("a", "tokens", 1000.0, 900.0, "refused", advised) for advised in (True, False)]
    fleet = Fleet((deployment("b", mode=Mode.ADVISE),), Bounds())
    assert fleet.members[deployment("b").name].tokens.is_advice
    fleet.change((deployment("b"),), Bounds())
    assert not fleet.members[deployment("b").name].tokens.is_advice


def test_nobody_waits_in_a_window_for_a_price_that_is_only_advised() -> None:
    """A price that is not in force is no reason to wait for it to fall."""
    fleet = Fleet((deployment("a", mode=Mode.ADVISE), deployment("b")), Bounds())
    for member in fleet.members.values():
        member.price.tick(now=0.0)
        member.price.integral = 2.0
    assert [member.price.above_usual for member in fleet.members.values()] == [0.0, 2.0]


def test_a_reader_that_hangs_is_no_silence_of_the_deployment() -> None:
    """For a minute and a half nothing more is asked for: the deployment is as well known as before."""

    async def scene() -> None:
        objectives = Objectives(ttft=Objective(Indicator.TTFT, 0.5))
        house = House(RequestClass("all", objectives=objectives))
        stuck = house.going("a", stream=True, responder=Reader(100.0))
        for _ in range(95):
            await house.beat(1.0)
            assert {house.member(name).staleness.known for name in ("small", "large")} == {"fresh"}
        stuck.cancel()

    virtually(scene)


def test_what_verdicts_found_missing_is_still_owed_after_a_freeze() -> None:
    """While the price is held nothing of it is paid out, for the price does not move for it."""
    floor = FloorPrice(QualityFloor(0.9), high=8.0)
    floor.on_verdict("m", 1.0, 0.0)
    owed, value = floor.owed, floor.value
    floor.is_held = True
    for _ in range(100):
        floor.on_served(1.0)
    assert (floor.owed, floor.value) == (owed, value)
    floor.is_held = False
    floor.on_served(floor.target)
    assert floor.value > value
