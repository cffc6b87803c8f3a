"""The two ways in which an answer made of parts is streamed: the merge as it is made, or the parts in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from router.domain.outcome import Delta, Receipt, Reply
from router.ports.dispatch import Responder
from router.wire.openai import delta_choices
from router.wire.openai.fanout.report import Told, section


class MergeStream:
    """`Responder` of the merge: its pieces pass through, its receipt becomes that of the whole."""

    def __init__(self, to: Responder, whole: Callable[[Receipt], Receipt]) -> None:
        self._to, self._whole = to, whole
        self.begun = False

    async def begin(self, receipt: Receipt) -> None:
        """See `router.ports.dispatch.Responder.begin`."""
        self.begun = True
        await self._to.begin(self._whole(receipt))

    async def delta(self, delta: Delta) -> None:
        """See `router.ports.dispatch.Responder.delta`."""
        await self._to.delta(delta)


class PartsStream:
    """Gives each part to a reader as soon as it and all before it have ended. Nothing is sent before one is answered:
    where none is, the error is still an ordinary one."""

    def __init__(self, to: Responder, whole: Callable[[Sequence[Told]], Receipt]) -> None:
        self._to, self._whole = to, whole
        self._given = 0
        self._begun = self._spoken = False

    async def hear(self, parts: Sequence[Told]) -> None:
        """The parts that have ended so far, in order."""
        if not self._begun:
            if not any(isinstance(told, Reply) for told in parts):
                return
            self._begun = True
            await self._to.begin(self._whole(parts))
            await self._to.delta(Delta(delta_choices(role=True)))
        for index in range(self._given, len(parts)):
            text = section(parts[index], index)
            if text:
                await self._to.delta(Delta(delta_choices(f"\n\n{text}" if self._spoken else text)))
                self._spoken = True
        self._given = len(parts)

    async def end(self) -> None:
        """All parts were heard."""
        await self._to.delta(Delta(delta_choices(finish_reason="stop"), finish_reason="stop"))
