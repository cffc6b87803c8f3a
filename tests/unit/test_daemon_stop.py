"""A daemon that is told to end does end, whatever its services do."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from router.runtime.daemon import Daemon, Service
from router.runtime.loops import Loops
from router.sim.clock import run_virtual
from tests.regressions.house import House

GRACE_S = 20.0


class Well:
    """Starts, and stops within its grace."""

    def __init__(self) -> None:
        self.is_up = False

    async def start(self) -> None:
        self.is_up = True

    async def stop(self, grace_s: float) -> None:
        await asyncio.sleep(grace_s / 2.0)
        self.is_up = False


class Stuck(Well):
    """Never comes to its end."""

    async def stop(self, grace_s: float) -> None:
        await asyncio.Event().wait()


class Broken(Well):
    """Fails to stop."""

    async def stop(self, grace_s: float) -> None:
        raise OSError("the disk is gone")


def ended(*services: Service) -> tuple[float, list[str], list[dict[str, object]]]:
    """When the daemon ended, what it closed, and what it logged of stops."""
    closed: list[str] = []

    async def close() -> None:
        closed.append("journal")

    async def scene() -> float:
        daemon = Daemon(House().dispatcher, services, Loops(), [close], grace_s=GRACE_S)
        await daemon.run(daemon.stop)
        return asyncio.get_running_loop().time()

    with capture_logs() as logs:
        at = run_virtual(scene())
    return at, closed, [entry for entry in logs if entry["event"].startswith("stop_")]


def test_services_are_stopped_within_the_grace() -> None:
    """All at once, and then what they used is closed."""
    first, second = Well(), Well()
    at, closed, said = ended(first, second)
    assert (at, closed, said) == (GRACE_S / 2.0, ["journal"], [])
    assert [first.is_up, second.is_up] == [False, False]


def test_a_service_that_hangs_keeps_no_router_alive() -> None:
    """It is named, the others end in order, and what must be saved is saved."""
    other = Well()
    at, closed, said = ended(other, Stuck())
    assert GRACE_S < at <= 2.0 * GRACE_S
    assert closed == ["journal"]
    assert [(entry["event"], entry["service"]) for entry in said] == [("stop_hangs", "Stuck")]
    assert not other.is_up


def test_a_service_that_fails_to_stop_is_named() -> None:
    """And no other one is kept from its own end."""
    other = Well()
    _, closed, said = ended(other, Broken())
    assert closed == ["journal"]
    assert [(entry["event"], entry["service"], entry["error"]) for entry in said] == [
        ("stop_failed", "Broken", "OSError")
    ]
    assert not other.is_up
