"""The batch endpoint: one batch at a time, all of it ends together."""

from __future__ import annotations

from fractions import Fraction

from router.backends.simulated_batch import BatchServer
from router.backends.simulated_events import Disturbance, Disturbances, Refusal
from router.backends.simulated_fleet import BatchMs, DeploymentSpec
from router.backends.simulated_steps import Batch, Stage
from router.domain.deployment import Kind, Tier

MS = 1_000_000
SPEC = DeploymentSpec(
    name="scorer", model="m", tier=Tier.SMALL, kind=Kind.BATCH, batch_ms=BatchMs(30, 2), max_items=128
)


def ends(endpoint: BatchServer) -> dict[Batch, int]:
    found = {}
    while (wake := endpoint.wake_ns()) is not None:
        found |= dict.fromkeys(endpoint.advance(wake), wake)
    return found


def put(endpoint: BatchServer, items: int, now: int) -> Batch:
    endpoint.advance(now)
    batch = Batch(items)
    assert endpoint.arrive(batch, now) is None
    return batch


def test_batches_run_one_after_the_other() -> None:
    """10 items take 30 + 20 ms; the 5 that came meanwhile start then and take 40 more."""
    endpoint = BatchServer(SPEC, Disturbances(), seed="")
    first, second = put(endpoint, 10, 0), put(endpoint, 5, 7 * MS)
    assert ends(endpoint) == {first: 50 * MS, second: 90 * MS}


def test_a_slowdown_holds_for_batches_that_start_in_it() -> None:
    """The first starts before it, the second in it and takes 1.6 times as long."""
    slow = Disturbances([Disturbance(10 * MS, 60 * MS, slowdown=Fraction("1.6"))])
    endpoint = BatchServer(SPEC, slow, seed="")
    first, second = put(endpoint, 10, 0), put(endpoint, 5, 0)
    assert ends(endpoint) == {first: 50 * MS, second: 114 * MS}


def test_an_outage_loses_what_runs_and_what_waits() -> None:
    """Both fail when it begins; afterwards the endpoint is free."""
    endpoint = BatchServer(SPEC, Disturbances([Disturbance(20 * MS, 30 * MS, down=True)]), seed="")
    batches = [put(endpoint, 10, 0), put(endpoint, 5, 0)]
    assert endpoint.wake_ns() == 20 * MS
    assert endpoint.advance(20 * MS) == batches
    assert {batch.stage for batch in batches} == {Stage.LOST}
    assert endpoint.arrive(Batch(1), 29 * MS) is Refusal.DOWN
    assert ends(endpoint) == {}
    after = put(endpoint, 1, 30 * MS)
    assert ends(endpoint) == {after: 62 * MS}


def test_cancel_takes_a_waiting_batch_out_and_lets_a_running_one_end() -> None:
    """The running one goes on for nobody; the third starts when it is over."""
    endpoint = BatchServer(SPEC, Disturbances(), seed="")
    running, waiting, third = put(endpoint, 10, 0), put(endpoint, 100, 0), put(endpoint, 1, 0)
    endpoint.cancel(running, 5)
    endpoint.cancel(waiting, 5)
    assert endpoint.gauge(5).waiting == 1
    assert ends(endpoint) == {third: 82 * MS}


def test_more_than_the_endpoint_takes_is_refused() -> None:
    """129 items do not fit into 128."""
    assert BatchServer(SPEC, Disturbances(), seed="").arrive(Batch(129), 0) is Refusal.TOO_LARGE
