"""What happens again and again: one task per loop, each iteration guarded, all stopped together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from router.domain.errors import BackendError

Step = Callable[[], Awaitable[None] | None]
_SDKS = frozenset({"botocore", "aiobotocore"})

log = structlog.get_logger("router.loops")


class Loops:
    """Runs named steps at fixed intervals until stopped. A step that raises is logged and runs again next time."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, float, Step]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def every(self, seconds: float, name: str, step: Step) -> None:
        """Add a step before `start`."""
        self._steps.append((name, seconds, step))

    def start(self) -> None:
        """Begin all loops on the running event loop."""
        loop = asyncio.get_running_loop()
        for name, seconds, step in self._steps:
            self._tasks.append(loop.create_task(_repeat(name, seconds, step), name=name))

    async def stop(self) -> None:
        """Cancel all loops and wait for them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


def detail_of(error: Exception) -> str:
    """What the log may hold of an error: of a service's only its code, for its words may quote a sender's."""
    if isinstance(error, BackendError):
        return error.code
    return "" if type(error).__module__.partition(".")[0] in _SDKS else str(error)


async def _repeat(name: str, seconds: float, step: Step) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            result = step()
            if result is not None:
                await result
        except Exception as error:
            log.error("loop_failed", loop=name, error=type(error).__name__, detail=detail_of(error))
