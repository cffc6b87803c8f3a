"""A second call for a request whose first is silent: whoever speaks first answers, the other is cancelled and paid."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from router.domain.outcome import Outcome
from router.runtime.call import Call

Run = Callable[[Call], Awaitable[Outcome]]
Rival = Callable[[], Awaitable[Call | None]]


class Race:
    """Lets one call of several through at its first token, and cancels the others. One that is cancelled before it
    began is withdrawn."""

    def __init__(self, withdraw: Callable[[Call], None]) -> None:
        self._withdraw = withdraw
        self._winner: Call | None = None
        self._runners: dict[Call, asyncio.Task[Outcome]] = {}

    def is_open(self) -> bool:
        """Whether nobody has spoken and somebody still may."""
        return self._winner is None and any(not task.done() for task in self._runners.values())

    def start(self, call: Call, run: Run) -> asyncio.Task[Outcome]:
        """Set a call going."""
        call.race = self
        task = self._runners[call] = asyncio.ensure_future(run(call))
        task.add_done_callback(lambda done: self._ended(call, done))
        return task

    def _ended(self, call: Call, task: asyncio.Task[Outcome]) -> None:
        if task.cancelled() and not call.sent:
            self._withdraw(call)

    def claim(self, call: Call) -> None:
        """The first token of a call came: the first to claim wins, any other is cancelled where it stands."""
        if self._winner is None:
            self._winner = call
            for other, task in self._runners.items():
                if other is not call:
                    other.permit.overtaken = other.attempt.started < call.attempt.started
                    task.cancel()
        elif self._winner is not call:
            raise asyncio.CancelledError

    async def result(self) -> tuple[Call, Outcome]:
        """The call that answered and its outcome; where none did, the last that failed."""
        pending = dict(self._runners)
        failed: tuple[Call, Outcome] | None = None
        while pending:
            await asyncio.wait(pending.values(), return_when=asyncio.FIRST_COMPLETED)
            for call, task in [(c, t) for c, t in pending.items() if t.done()]:
                del pending[call]
                if task.cancelled():
                    continue
                if call.error is None:
                    return call, task.result()
                failed = call, task.result()
        if failed is None:
            raise asyncio.CancelledError
        return failed

    async def close(self) -> None:
        """Cancel whatever still runs, and wait for it."""
        for task in self._runners.values():
            task.cancel()
        await asyncio.gather(*self._runners.values(), return_exceptions=True)


async def run_hedged(
    first: Call, rival: Rival, run: Run, withdraw: Callable[[Call], None], after_s: float
) -> tuple[Call, Outcome]:
    """Run `first`; after `after_s` without a token run what `rival()` gives beside it, if anything. The call that
    answered, and its outcome. A rival that comes too late is withdrawn: it is never made."""
    race = Race(withdraw)
    task = race.start(first, run)
    try:
        await asyncio.wait({task}, timeout=after_s)
        if race.is_open():
            second = await rival()
            if second is not None and race.is_open():
                race.start(second, run)
            elif second is not None:
                withdraw(second)
        return await race.result()
    finally:
        await race.close()
