"""Limits, quotas, circuits and batch sizes move for the reasons they say."""

from __future__ import annotations

import pytest

from router.control.batching import BatchTuner
from router.control.capacity import Quota
from router.control.circuit import Circuit
from router.control.limits import FixedLimit, StepModelLimit
from router.domain.deployment import BatchProfile, StepProfile, TokenQuota
from router.domain.view import Health
from router.learning.latency import LatencyModel

LARGE = StepProfile(0.0164, 0.00008, 0.000000023, 0.000065)


def retune(limit: StepModelLimit, model: LatencyModel, *, used: int = 1000, share: float = 0.3) -> None:
    for _ in range(60):
        limit.update(model, tpot_s=0.05, context_per_sequence=1200.0, prefill_share=share, used=used)


def test_step_limit_is_the_batch_that_just_keeps_the_objective() -> None:
    """At the limit the predicted step, prefill share included, lasts exactly the objective."""
    limit, model = StepModelLimit("large", low=1, high=4096), LatencyModel(LARGE)
    retune(limit, model)
    step = model.step_s(limit.value, limit.value * 1200.0) / (1.0 - 0.3)
    assert step == pytest.approx(0.05, rel=1e-6)


def test_slower_server_gets_a_lower_limit_and_says_why() -> None:
    """A slowdown lowers the limit, with the reason."""
    limit, model = StepModelLimit("large", low=1, high=4096), LatencyModel(LARGE)
    retune(limit, model)
    before = limit.value
    for i in range(200):
        model._follow(2.0, now=i * 0.05)
    update = limit.update(model, tpot_s=0.05, context_per_sequence=1200.0, prefill_share=0.3, used=1000)
    assert update is not None
    assert update.reason == "time per output token"
    assert limit.value < before


def test_unused_limit_does_not_grow() -> None:
    """What is not exercised proves nothing."""
    limit, model = StepModelLimit("large", low=1, high=4096), LatencyModel(LARGE)
    retune(limit, model, share=0.6)
    low = limit.value
    retune(limit, model, share=0.0, used=1)
    assert limit.value == low
    retune(limit, model, share=0.0, used=1000)
    assert limit.value > low


def test_limit_stays_inside_the_operators_bounds() -> None:
    """Neither bound is crossed, however good or bad it looks."""
    limit, model = StepModelLimit("large", low=8, high=16), LatencyModel(LARGE)
    retune(limit, model, share=0.0)
    assert limit.value == 16
    retune(limit, model, share=0.89)
    assert limit.value == 8


def test_fixed_limit_never_moves() -> None:
    """What the operator wrote stays."""
    limit = FixedLimit(7.0)
    model = LatencyModel(LARGE)
    assert limit.update(model, tpot_s=0.001, context_per_sequence=1.0, prefill_share=0.9, used=7) is None
    assert limit.value == 7.0


def test_quota_reserves_settles_and_refills() -> None:
    """Input is taken at the start, output at its expected length and corrected at the end; a minute refills all."""
    quota = Quota(TokenQuota(6000, 600))
    assert quota.has_room(6000, 600, now=0.0)
    quota.reserve(6000, 300, now=0.0)
    assert not quota.has_room(1, 1, now=0.0)
    quota.settle(300, 100)
    assert quota.output.level == 500
    assert quota.has_room(1000, 500, now=10.0)
    assert quota.saturation_ratio(now=60.0) == 0.0


def test_throttled_quota_is_believed_empty() -> None:
    """The backend's word beats our own count."""
    quota = Quota(TokenQuota(6000, 600))
    quota.has_room(1, 1, now=0.0)
    quota.on_throttled(now=0.0)
    assert not quota.has_room(1, 1, now=0.0)
    assert quota.has_room(100, 10, now=1.5)


def test_what_no_full_bucket_could_hold_never_fits() -> None:
    """Waiting would not help it."""
    quota = Quota(TokenQuota(6000, 600))
    assert quota.fits(6000, 600)
    assert not quota.fits(6001, 1)


def opened(circuit: Circuit) -> Circuit:
    for i in range(3):
        circuit.on_failed(f"a{i}", "unreachable", None, now=0.0)
    return circuit


def test_circuit_opens_after_three_failures_and_probes_once() -> None:
    """Closed, open, one probe, closed again."""
    circuit = Circuit()
    circuit.on_failed("a", "unreachable", None, now=0.0)
    circuit.on_failed("b", "unreachable", None, now=0.0)
    assert circuit.health is Health.OK
    circuit.on_failed("c", "unreachable", None, now=0.0)
    assert circuit.health is Health.OPEN
    assert circuit.blocked(now=0.5) is not None
    assert circuit.blocked(now=1.5) is None
    circuit.on_sent("probe", now=1.5)
    assert circuit.health is Health.PROBING
    assert circuit.blocked(now=1.6) == "probing"
    circuit.on_alive("probe")
    assert circuit.health is Health.OK
    assert circuit.blocked(now=1.6) is None


def test_failed_probe_opens_for_longer() -> None:
    """Each failed probe doubles the cool-down."""
    circuit = opened(Circuit())
    circuit.on_sent("probe", now=1.0)
    circuit.on_failed("probe", "unreachable", None, now=1.0)
    assert circuit.blocked(now=2.5) is not None
    assert circuit.blocked(now=3.1) is None


def test_only_the_probe_decides_while_probing() -> None:
    """Calls that were in flight before neither close the circuit, nor let a second probe out, nor double its rest."""
    circuit = opened(Circuit())
    circuit.on_sent("probe", now=1.0)
    circuit.on_withdrawn("straggler")
    circuit.on_alive("straggler")
    circuit.on_failed("straggler", "unreachable", None, now=1.1)
    assert circuit.blocked(now=1.2) == "probing"
    circuit.on_withdrawn("probe")
    assert circuit.blocked(now=1.3) is None


def test_retry_after_is_kept_and_the_later_end_holds() -> None:
    """A throttle closes the door for as long as it said; a shorter one does not reopen it."""
    circuit = Circuit()
    circuit.on_failed("a", "throttled", 5.0, now=0.0)
    circuit.on_failed("b", "throttled", 1.0, now=1.0)
    assert circuit.blocked(now=4.9) is not None
    assert circuit.blocked(now=5.1) is None
    assert circuit.health is Health.OK


def test_a_retry_after_of_a_day_is_not_believed() -> None:
    """It is asked again after five minutes."""
    circuit = Circuit()
    circuit.on_failed("a", "throttled", 86_400.0, now=0.0)
    assert circuit.blocked(now=301.0) is None


def test_refused_requests_do_not_open_the_circuit_but_a_refused_key_does_at_once() -> None:
    """A wrong request says nothing about the deployment; a wrong key says everything."""
    circuit = Circuit()
    for i in range(10):
        circuit.on_failed(f"a{i}", "backend_refused", None, now=0.0)
    assert circuit.health is Health.OK
    circuit.on_failed("b", "backend_forbidden", None, now=0.0)
    assert circuit.health is Health.OPEN


def tuner() -> BatchTuner:
    return BatchTuner(BatchProfile(0.030, 0.002), max_items=128)


def test_batch_size_is_all_that_keeps_the_oldest_in_time() -> None:
    """The next larger batch would be late."""
    batch = tuner()
    size = batch.size(200, 0.2)
    assert 1 < size < 128
    assert batch.upper_s(size) <= 0.2 < batch.upper_s(size + 1)


def test_what_cannot_be_in_time_is_not_served_one_by_one() -> None:
    """Where no size can save the oldest, all go: small batches would only make the next late too."""
    assert tuner().size(50, -1.0) == 50
    assert tuner().size(1, -1.0) == 1


def test_a_batch_that_takes_no_time_teaches_without_harm() -> None:
    """A clock that did not move is no infinite speed."""
    batch = tuner()
    batch.observe(4, 0.0, now=1.0)
    assert 0.0 < batch.expected_s(4) < 1.0


def test_batch_curve_follows_a_slowdown() -> None:
    """After twenty batches at twice the time, the prediction is close."""
    batch = tuner()
    for i in range(20):
        batch.observe(10, 0.1, now=i * 0.1)
    assert batch.expected_s(10) == pytest.approx(0.1, rel=0.1)


def test_waits_only_within_slack_and_policy() -> None:
    """No wait without leave, none past the slack, none when full."""
    batch = tuner()
    assert batch.wait_s(1, 0.2, 0.0) == 0.0
    assert batch.wait_s(1, 0.2, 1.0) == pytest.approx(0.2 - batch.upper_s(2))
    assert batch.wait_s(1, 0.0, 1.0) == 0.0
    assert batch.wait_s(128, None, 1.0) == 0.0
    assert batch.wait_s(3, None, 0.4) == 0.4
