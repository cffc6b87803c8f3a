"""Asks the decision log about edits that wait for it, one at a time, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from router.core.rollouts.gate import Asked, Verdict

AGAIN_S = 300.0
"""How long after a log that said too little it is asked again."""

log = structlog.get_logger("router.gate")

Judge = Callable[[Asked], Verdict]
Tell = Callable[[Asked, Verdict], None]


class Gate:
    """`asked` are the edits that wait, `judge` reads the log and may take seconds, `tell` takes the verdict up."""

    def __init__(
        self,
        asked: Callable[[], Sequence[Asked]],
        judge: Judge,
        tell: Tell,
        *,
        now: Callable[[], float],
        again_s: float = AGAIN_S,
    ) -> None:
        self._asked, self._judge, self._tell = asked, judge, tell
        self._now, self._again_s = now, again_s
        self._not_before: dict[tuple[str, str], float] = {}

    async def look(self) -> None:
        """Ask about whatever waits and was not asked about lately."""
        waiting = {(one.request_class, f"{one.version} {one.require}"): one for one in self._asked()}
        self._not_before = {key: at for key, at in self._not_before.items() if key in waiting}
        for key, one in waiting.items():
            if self._now() < self._not_before.get(key, float("-inf")):
                continue
            self._not_before[key] = self._now() + self._again_s
            self._tell(one, await asyncio.to_thread(self._ask, one))

    def _ask(self, one: Asked) -> Verdict:
        try:
            return self._judge(one)
        except Exception as error:
            log.exception("gate_failed", request_class=one.request_class)
            return Verdict(None, f"the log cannot be read: {type(error).__name__}: {error}")
