"""What time is it in a simulation? An asyncio event loop on which waiting takes no wall time.

The clock stands still while callbacks run and then jumps to the next timer. Everything is deterministic,
whatever PYTHONHASHSEED is: timers of one instant fire in the order they were set, sets of tasks are walked
in the order the tasks were made, and executor jobs run inline (the clock would run away from a real thread).
"""

from __future__ import annotations

import asyncio
import heapq
import math
import selectors
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from itertools import count
from typing import Any, TypeVar, TypeVarTuple

Result = TypeVar("Result")
Args = TypeVarTuple("Args")


class DeadlockError(RuntimeError):
    """Tasks wait, and there is no timer that could ever wake them."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Virtual seconds from 0. No sockets, no threads: what waits for the outside waits for ever."""

    _clock_resolution: float
    _scheduled: list[TimerHandle]

    def __init__(self) -> None:
        self._now = 0.0
        self._timers = count()
        super().__init__(_ClockSelector(self))
        self._clock_resolution = math.ulp(0.0)
        self.set_task_factory(_task_factory())

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def advance(self) -> None:
        """Jump to the next timer; raises `DeadlockError` if there is none."""
        if not self._scheduled:
            raise DeadlockError(f"all tasks wait and no timer is set, at {self._now} s")
        self._now = max(self._now, self._scheduled[0].when())
        self._clock_resolution = math.ulp(self._now)

    def call_at(
        self, when: float, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> TimerHandle:
        """As the base class, but timers of one instant fire in the order they were set."""
        timer = _Timer(when, callback, args, self, context)
        timer.sequence = next(self._timers)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True  # by it the base class counts cancelled timers
        return timer

    def run_in_executor(
        self,
        executor: Any,
        func: Callable[[*Args], Result],
        *args: *Args,
    ) -> asyncio.Future[Result]:
        """Run the job at once, in no virtual time."""
        done: asyncio.Future[Result] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


def run_virtual(main: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end on a fresh virtual clock that starts at 0; what is left running is cancelled."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class _Timer(TimerHandle):
    """A timer that is ordered by (when, sequence)."""

    __slots__ = ("sequence",)
    _when: float
    _scheduled: bool
    sequence: int

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, _Timer):
            return NotImplemented
        return (self._when, self.sequence) < (other._when, other.sequence)


class _ClockSelector(selectors.BaseSelector):
    """Nothing is ever ready: where a selector would sleep, the clock jumps."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self._loop.advance()
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


class _NumberedTask(asyncio.Task[Any]):
    """Hashes to its number, so that a set of tasks has one order in every run."""

    def __init__(self, coro: Any, *, number: int, **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


def _task_factory() -> Callable[..., asyncio.Task[Any]]:
    numbers = count()

    def make(loop: AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        return _NumberedTask(coro, number=next(numbers), loop=loop, **options)

    return make
