"""Many runs: one after the other, or as many at once as there are processors for. The results do not depend on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from multiprocessing.sharedctypes import SynchronizedArray

from router.sim.run import Played, Setting, play

Progress = Callable[[int, int], None]
"""Requests done and in all."""
_LOOK_EVERY_S = 0.25
_WORTH_A_PROCESS = 5_000
"""Requests in all, from which on starting another process takes less time than it saves."""

_done: SynchronizedArray[int] | None = None


def play_many(settings: Sequence[Setting], *, jobs: int, progress: Progress | None = None) -> list[Played]:
    """The runs in the order of their settings. `progress` is called with the requests that are done and all of them."""
    total = sum(len(s.workload.arrivals) for s in settings)
    if min(jobs, len(settings)) > 1 and total >= _WORTH_A_PROCESS:
        return _at_once(settings, jobs, total, progress)
    played: list[Played] = []
    before = 0
    for setting in settings:
        tell = None if progress is None else _telling(progress, before, total)
        played.append(play(setting, progress=tell))
        before += len(setting.workload.arrivals)
    return played


def _telling(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _: progress(before + done, total)


def _at_once(settings: Sequence[Setting], jobs: int, total: int, progress: Progress | None) -> list[Played]:
    """Fresh processes, so that no thread of this one is copied; each counts what it has done where all can see it."""
    context = get_context("spawn")
    done = context.Array("L", len(settings))
    with ProcessPoolExecutor(min(jobs, len(settings)), context, _begin, (done,)) as pool:
        futures = [pool.submit(_play, number, setting) for number, setting in enumerate(settings)]
        waiting: set[Future[Played]] = set(futures)
        while waiting:
            ended, waiting = wait(waiting, _LOOK_EVERY_S, FIRST_COMPLETED)
            if progress is not None:
                progress(sum(done[:]), total)
            for future in ended:
                future.result()
    return [future.result() for future in futures]


def _begin(done: SynchronizedArray[int]) -> None:
    global _done  # noqa: PLW0603  # handed to a process once, when it begins
    _done = done


def _play(number: int, setting: Setting) -> Played:
    done = _done
    assert done is not None

    def tell(count: int, _: int) -> None:
        done[number] = count

    return play(setting, progress=tell)
