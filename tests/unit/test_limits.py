"""Concurrency limits move for the reasons they say, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from router.control.limits import KINDS, AimdLimit, FixedLimit, GradientLimit, Limit, Sight, Stand, StepModelLimit
from router.control.limits.ceiling import Ceiling
from router.domain.deployment import LimitKind, StepProfile
from router.domain.events import LimitUpdate
from router.learning.latency import LatencyModel
from router.stats.least import Least

LARGE = StepProfile(0.0164, 0.00008, 0.000000023, 0.000065)
TPOT_S = 0.05
BEAT_S = 0.1
CALL_S = 8.0


def stand(start: float = 32.0, *, low: float = 1.0, high: float = 1024.0) -> Stand:
    return Stand("large", low=low, high=high, start=start)


class Server:
    """Takes as many calls as the limit allows, up to a demand; a share of them ends in each beat, so that they last
    `CALL_S` in the mean. The gap between tokens is a function of how many there are."""

    def __init__(self, limit: Limit, gap_s: Callable[[float], float], *, demand: float = 1e9) -> None:
        self.limit, self.gap_s, self.demand = limit, gap_s, demand
        self.model = LatencyModel(LARGE)
        self.now, self.calls, self.off = 0.0, 0, 0.1
        self._ending = 0.0
        self.in_time = True
        self.told: list[LimitUpdate] = []
        self.tpot_s: float | None = TPOT_S

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / BEAT_S)):
            self.now += BEAT_S
            self._turn_over()
            sight = Sight(self.now, self.calls, self.tpot_s, 1200.0, 0.0, self.off)
            update = self.limit.update(self.model, sight)
            if update is not None:
                self.told.append(update)

    def _turn_over(self) -> None:
        gap_s = self.gap_s(self.calls)
        self._ending += self.calls * BEAT_S / CALL_S
        while self._ending >= 1.0:
            self._ending -= 1.0
            self.calls -= 1
            self.limit.observe_call(gap_s, self.now - CALL_S, now=self.now)
        for _ in range(10):
            if self.calls < min(self.limit.value, self.demand):
                self.calls += 1
                self.limit.observe_first_token(self.now, inside=self.in_time, now=self.now)
        for _ in range(min(self.calls, 10)):
            self.limit.observe_gap(gap_s, now=self.now)


def affine(base_s: float = 0.02, each_s: float = 0.0005) -> Callable[[float], float]:
    """50 ms at 60 calls."""
    return lambda n: base_s + each_s * n


STEERED = [AimdLimit, GradientLimit]


@pytest.mark.parametrize("kind", STEERED)
def test_it_finds_the_number_that_keeps_the_objective_without_knowing_the_server(kind: type[AimdLimit]) -> None:
    """From far below and from far above it comes near the sixty calls at which tokens are 50 ms apart, a little under
    it because calls differ, within half a minute; and stays."""
    for start in (8.0, 200.0):
        limit = kind(stand(start))
        server = Server(limit, affine())
        server.run(40.0)
        settled = []
        for _ in range(60):
            server.run(1.0)
            settled.append(limit.value)
        assert min(settled) > 40.0
        assert max(settled) < 62.0


@pytest.mark.parametrize("kind", STEERED)
def test_a_slower_server_gets_fewer_within_half_a_minute_and_it_says_why(kind: type[AimdLimit]) -> None:
    """At 1.6 times the gap, half as many keep the objective."""
    limit = kind(stand())
    server = Server(limit, affine())
    server.run(120.0)
    server.told.clear()
    server.gap_s = affine(0.032, 0.0008)
    server.run(30.0)
    assert 14.0 <= limit.value <= 23.0
    assert server.told[0].reason == "time per output token"
    assert all(u.old != u.new and u.what == "in_flight" and u.deployment == "large" for u in server.told)


@pytest.mark.parametrize("kind", [*STEERED, StepModelLimit])
def test_what_is_not_used_does_not_grow(kind: type[AimdLimit]) -> None:
    """Ten calls on a fast server are no reason to allow more than the limit of thirty-two."""
    limit = kind(stand())
    server = Server(limit, affine(0.01, 0.0), demand=10)
    server.run(120.0)
    assert limit.value == 32.0
    server.demand = 1e9
    server.run(30.0)
    assert limit.value > 60.0


@pytest.mark.parametrize("kind", STEERED)
def test_it_moves_once_and_waits_for_the_answer(kind: type[AimdLimit]) -> None:
    """Between one cut and the next, calls in flight have come down to the limit and were looked at for two seconds;
    between any two moves there is a second."""
    limit = kind(stand(400.0))
    server = Server(limit, affine(0.02, 0.002))
    moved, cut = [], []
    for _ in range(600):
        count, in_flight = len(server.told), server.calls
        server.run(BEAT_S)
        if len(server.told) > count:
            update = server.told[-1]
            moved.append(server.now)
            if update.new < update.old:
                cut.append(server.now)
                assert in_flight <= update.old + 1.0
    assert len(cut) > 3
    assert min(b - a for a, b in pairwise(cut)) >= 2.0 - 1e-9
    assert min(b - a for a, b in pairwise(moved)) >= 1.0 - 1e-9


@pytest.mark.parametrize("kind", STEERED)
def test_silence_and_failures_raise_nothing(kind: type[AimdLimit]) -> None:
    """Calls that never answer are no fast calls: where no token is seen, nothing moves."""
    limit = kind(stand())
    server = Server(limit, affine(0.01, 0.0))
    server.run(6.0)
    before = limit.value
    for i in range(600):
        limit.update(server.model, Sight(server.now + 6.0 + 0.1 * i, 1000, TPOT_S))
    assert limit.value == before


@pytest.mark.parametrize("kind", STEERED)
def test_late_first_tokens_lower_it_until_that_is_seen_not_to_help(kind: type[AimdLimit]) -> None:
    """A server with a queue of its own is late with first tokens while tokens come fast. Where first tokens stay late
    at any number, the number is not to blame, and it is not driven to nothing."""
    limit = kind(stand(64.0))
    server = Server(limit, affine(0.01, 0.0001))
    server.in_time = False
    server.run(30.0)
    reasons = [u.reason for u in server.told]
    assert "time to first token" in reasons
    server.run(600.0)
    assert limit.value > 100.0


def test_a_gradient_without_an_objective_allows_twice_the_least_pace() -> None:
    """20 ms with nobody else there, so 40 ms and forty calls; ten minutes in, it has not climbed."""
    limit = GradientLimit(stand(4.0))
    server = Server(limit, affine())
    server.tpot_s = None
    server.run(900.0)
    assert 24.0 < limit.value < 50.0


def test_an_aimd_limit_without_an_objective_is_bounded_by_refusals_alone() -> None:
    """Nothing is promised, so nothing is too slow."""
    limit = AimdLimit(stand(high=100.0))
    server = Server(limit, affine(0.02, 0.01))
    server.tpot_s = None
    server.run(120.0)
    assert limit.value == 100.0


@pytest.mark.parametrize("kind", [*STEERED, StepModelLimit])
def test_a_refusal_cuts_at_once_and_the_ceiling_is_tried_again_with_care(kind: type[AimdLimit]) -> None:
    """Refused beside thirty: under thirty in the same moment, no more than a tenth over it in the next twenty seconds,
    and after two minutes without a refusal it is forgotten."""
    limit = kind(stand(50.0))
    server = Server(limit, affine(0.01, 0.0))
    server.run(5.0)
    update = limit.on_refused(30, now=server.now)
    assert update is not None
    assert (update.reason, update.new) == ("refused", 27.0)
    server.run(20.0)
    assert limit.value <= 30.0
    server.run(100.0)
    assert limit.value > 60.0


def test_refusals_that_have_nothing_to_do_with_the_number_do_not_drive_it_to_nothing() -> None:
    """One in three refused, whatever is in flight: half of what it was in half a minute, not one."""
    ceiling = Ceiling()
    used = 40.0
    for i in range(20):
        ceiling.on_refused(used, now=float(i))
        used = 0.7 * ceiling.value
    assert ceiling.value == 20.0


def test_the_step_model_is_the_batch_that_just_keeps_the_objective() -> None:
    """At the limit the predicted step, prefill share included, lasts the objective."""
    limit, model = StepModelLimit(stand(high=4096.0, start=4096.0)), LatencyModel(LARGE)
    for i in range(60):
        limit.update(model, Sight(i * BEAT_S, 4096, TPOT_S, 1200.0, 0.3))
    step = model.step_s(limit.value, limit.value * 1200.0) / (1.0 - 0.3)
    assert step == pytest.approx(TPOT_S, rel=1e-6)


def test_the_step_model_is_trimmed_where_calls_are_outside_while_it_binds() -> None:
    """Where calls are slower than the model says, the limit goes down by what they miss; not while it does not bind,
    and where they are inside again it comes back to the whole objective."""
    limit, model = StepModelLimit(stand(high=4096.0, start=4096.0)), LatencyModel(LARGE)

    def settle(tpot_s: float, *, full: bool, calls: int = 300) -> float:
        for i in range(calls):
            used = 4096 if full else 0
            limit.update(model, Sight(i * BEAT_S, used, TPOT_S, 1200.0, 0.0))
            limit.observe_call(tpot_s, 0.0, now=i * BEAT_S)
        return limit.value

    whole = settle(0.04, full=True)
    assert settle(0.06, full=False) == whole
    assert settle(0.06, full=True, calls=30) < 0.75 * whole
    assert settle(0.04, full=True, calls=600) == pytest.approx(whole)


def test_calls_let_in_under_a_wider_objective_do_not_trim_the_step_model() -> None:
    """Those that began before the objective was halved are late by the new one: that says nothing of the limit."""
    limit, model = StepModelLimit(stand(high=4096.0, start=4096.0)), LatencyModel(LARGE)
    limit.update(model, Sight(0.0, 4096, TPOT_S, 1200.0, 0.0))
    for i in range(1, 61):
        limit.update(model, Sight(i * BEAT_S, 4096, 0.5 * TPOT_S, 1200.0, 0.0))
    allowed = limit.value
    for i in range(61, 121):
        limit.observe_call(0.04, 0.0, now=i * BEAT_S)
        limit.update(model, Sight(i * BEAT_S, 4096, 0.5 * TPOT_S, 1200.0, 0.0))
    assert limit.value == pytest.approx(allowed)


def test_a_slower_server_lowers_the_step_model_at_once_and_it_says_why() -> None:
    """The multiplier is enough; nothing has to miss its objective first."""
    limit, model = StepModelLimit(stand(high=4096.0, start=4096.0)), LatencyModel(LARGE)
    for i in range(60):
        limit.update(model, Sight(i * BEAT_S, 4096, TPOT_S, 1200.0, 0.3))
    before = limit.value
    for i in range(200):
        model._follow(2.0, now=i * 0.05)
    update = limit.update(model, Sight(10.0, 4096, TPOT_S, 1200.0, 0.3))
    assert update is not None
    assert update.reason == "time per output token"
    assert limit.value < before


def test_a_step_model_that_is_far_off_gives_way_to_observation_and_says_so() -> None:
    """The model expects 18 ms where tokens are 50 ms apart: past the bound the limit follows what is seen; once
    predictions hold again, the model."""
    limit = StepModelLimit(stand(200.0))
    server = Server(limit, affine(0.02, 0.0005))

    server.run(10.0)
    assert limit.value > 100.0
    server.off = 1.3
    server.run(60.0)
    assert 35.0 < limit.value < 62.0
    server.off = 0.9
    server.run(1.0)
    assert "predictions hold again" not in [u.reason for u in server.told]
    server.off = 0.2
    server.run(10.0)
    reasons = [u.reason for u in server.told]
    assert reasons.index("predictions are off") < reasons.index("predictions hold again")


@pytest.mark.parametrize("kind", list(LimitKind))
def test_every_kind_stays_inside_the_operators_bounds(kind: LimitKind) -> None:
    """Neither bound is crossed, however good or bad it looks; new bounds move it no further than they must."""
    limit = KINDS[kind](stand(12.0, low=8.0, high=16.0))
    assert limit.kind is kind
    server = Server(limit, affine(0.001, 0.0))
    server.run(60.0)
    assert 8.0 <= limit.value <= 16.0
    server.gap_s, server.model = affine(1.0, 0.0), LatencyModel(StepProfile(1.0, 0.1, 0.0, 0.0))
    server.run(60.0)
    assert 8.0 <= limit.value <= 16.0
    limit.rebound(2.0, 6.0)
    assert limit.value == 6.0


def test_a_fixed_limit_is_what_the_operator_wrote() -> None:
    """Neither slowness nor refusals move it."""
    limit = FixedLimit(7.0)
    server = Server(limit, affine(1.0, 0.0))
    server.run(60.0)
    assert limit.on_refused(3, now=60.0) is None
    assert (limit.value, server.told) == (7.0, [])


def test_the_least_of_ten_minutes_forgets_what_is_older() -> None:
    """A low from before is gone after ten minutes, also where nothing was seen in between."""
    least = Least()
    least.see(1.0, now=0.0)
    least.see(3.0, now=300.0)
    assert least.value == 1.0
    least.see(3.0, now=660.0)
    assert least.value == 3.0
    least.see(5.0, now=1e6)
    assert least.value == 5.0
