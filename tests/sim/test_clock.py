"""The virtual clock: waiting costs nothing, and every run of a program is the same run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from router.sim.clock import DeadlockError, run_virtual


def test_waiting_moves_the_clock_and_nothing_else() -> None:
    """A day passes exactly, from 0."""

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        times = [loop.time()]
        for wait in (0.5, 86_400.0, 0.0):
            await asyncio.sleep(wait)
            times.append(loop.time())
        return times

    assert run_virtual(main()) == [0.0, 0.5, 86_400.5, 86_400.5]


def test_timers_of_one_instant_fire_in_the_order_they_were_set() -> None:
    """A heap that compares times alone would shuffle them."""
    fired: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for n in range(100):
            loop.call_at(5.0 if n % 3 else 4.0, fired.append, n)
        await asyncio.sleep(6.0)

    run_virtual(main())
    assert fired == [n for n in range(100) if n % 3 == 0] + [n for n in range(100) if n % 3]


def test_a_timer_fires_at_its_time_and_not_a_nanosecond_early() -> None:
    """Timers a nanosecond apart are two instants, also late in a long run."""
    seen: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        times = [1e5 + n * 1e-9 for n in range(3)]
        for at in times:
            loop.call_at(at, lambda: seen.append(loop.time()))
        await asyncio.sleep(2e5)
        assert seen == times

    run_virtual(main())


def test_a_timeout_cuts_what_takes_longer() -> None:
    """asyncio.timeout works unmodified."""

    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await asyncio.sleep(4)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 3.0


def test_a_deadlock_is_an_error() -> None:
    """Waiting for what nobody can bring raises instead of hanging."""

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match=r"at 0\.0 s"):
        run_virtual(main())


def test_executor_jobs_run_inline() -> None:
    """They run on the loop's own thread, take no time, and their errors reach the awaiter."""

    def fail() -> None:
        raise ValueError("inline")

    async def main() -> None:
        assert await asyncio.to_thread(threading.get_ident) == threading.get_ident()
        with pytest.raises(ValueError, match="inline"):
            await asyncio.to_thread(fail)
        assert asyncio.get_running_loop().time() == 0.0

    run_virtual(main())


def test_what_is_left_running_is_cancelled() -> None:
    """The end of the main coroutine ends the run, with cleanup."""
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(1e9)
        finally:
            ended.append("cleaned up")

    async def main() -> str:
        task = asyncio.create_task(background())
        await asyncio.sleep(1)
        return "done" if not task.done() else "too soon"

    assert run_virtual(main()) == "done"
    assert ended == ["cleaned up"]


PROGRAM = """
import asyncio, hashlib
from router.sim.clock import run_virtual

log = []

async def worker(n, queue, lock):
    while True:
        item = await queue.get()
        async with lock:
            await asyncio.sleep(item % 3 / 10)
        log.append((n, item, asyncio.get_running_loop().time()))
        if item > 90:
            raise RuntimeError(str(n))

async def main():
    queue, lock = asyncio.Queue(), asyncio.Lock()
    waits = {asyncio.create_task(asyncio.sleep(n % 4, n)) for n in range(40)}
    while waits:
        done, waits = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        log.append([task.result() for task in done])
    try:
        async with asyncio.TaskGroup() as group:
            for n in range(7):
                group.create_task(worker(n, queue, lock))
            for item in range(100):
                queue.put_nowait(item)
    except* RuntimeError as errors:
        log.append([str(e) for e in errors.exceptions])

run_virtual(main())
print(hashlib.sha256(repr(log).encode()).hexdigest())
"""


def test_runs_are_the_same_for_every_hash_seed() -> None:
    """Sets of tasks, groups that fail, locks and queues: one log, whatever PYTHONHASHSEED is."""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1
    assert len(outputs.pop().strip()) == 64
