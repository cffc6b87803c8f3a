"""Quotas, circuits and batch sizes move for the reasons they say."""

from __future__ import annotations

from router.control.capacity import Quota
from router.control.circuit import Circuit
from router.domain.deployment import TokenQuota
from router.domain.view import Health


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
