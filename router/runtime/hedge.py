"""A second call for a request whose first is silent: whoever speaks first answers, the other is cancelled and paid."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from router.domain.outcome import Outcome
from router.runtime.call import Call

Run = Callable[[Call], Awaitable[Outcome]]
Rival = Callable[[], Awaitable[Call | None]]


class Race:
    """Lets one call of several through at its first token, and cancels the others."""

    def __init__(self) -> None:
        self.winner: Call | None = None
        self._runners: dict[Call, asyncio.Task[Outcome]] = {}

    def start(self, call: Call, run: Run) -> asyncio.Task[Outcome]:
        """Set a call going."""
        call.race = self
        task = self._runners[call] = asyncio.ensure_future(run(call))
        return task

    def claim(self, call: Call) -> None:
        """The first token of a call came: it wins."""
        if self.winner is None:
            self.winner = call
            for other, task in self._runners.items():
                if other is not call:
                    task.cancel()

    async def close(self) -> None:
        """Cancel whatever still runs, and wait for it."""
        for task in self._runners.values():
            task.cancel()
        await asyncio.gather(*self._runners.values(), return_exceptions=True)

    async def result(self) -> tuple[Call, Outcome]:
        """The call that answered and its outcome; where none did, the last that failed."""
        pending = dict(self._runners)
        while True:
            await asyncio.wait(pending.values(), return_when=asyncio.FIRST_COMPLETED)
            for call, task in list(pending.items()):
                if not task.done():
                    continue
                del pending[call]
                if task.cancelled():
                    continue
                outcome = task.result()
                if call.error is None or not pending:
                    return call, outcome


async def run_hedged(first: Call, rival: Rival, run: Run, after_s: float) -> tuple[Call, Outcome]:
    """Run `first`; after `after_s` without a token run `rival()` beside it. The call that answered, and its outcome."""
    race = Race()
    task = race.start(first, run)
    try:
        await asyncio.wait({task}, timeout=after_s)
        if race.winner is None and not task.done():
            second = await rival()
            if second is not None:
                race.start(second, run)
        return await race.result()
    finally:
        await race.close()
