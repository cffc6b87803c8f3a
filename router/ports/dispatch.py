"""What an ingress needs of the router."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from router.domain.deployment import Deployment
from router.domain.events import Event
from router.domain.outcome import Delta, Receipt, Reply
from router.domain.request import Request

BeforeCall = Callable[[], Awaitable[None]]


class Responder(Protocol):
    """The way back to a client that streams. Awaiting either call is the back-pressure."""

    async def begin(self, receipt: Receipt) -> None:
        """The first piece is about to come; cost, attempts and overhead in the receipt are as of now."""
        ...

    async def delta(self, delta: Delta) -> None:
        """One piece, in order."""
        ...


class Dispatch(Protocol):
    """The router as an ingress sees it."""

    async def submit(
        self,
        request: Request,
        responder: Responder | None = None,
        *,
        on_call: BeforeCall | None = None,
    ) -> Reply:
        """Answer one request; raises a `RouterError` whose `code` goes to the sender.

        With a responder the pieces go there first (only once the first piece exists, so an error before it is
        still an ordinary error) and the reply comes when all is sent. Cancelling the awaiting task cancels the call.
        `on_call` is awaited just before every upstream call: a journal counts there what a crash may cut off.
        """
        ...

    def feedback(self, decision_id: str, quality: float) -> bool:
        """Teach the quality of an answer; false when the id is unknown or too old."""
        ...

    def deployments(self) -> tuple[Deployment, ...]:
        """What can be asked for by name."""
        ...

    def classes(self) -> tuple[str, ...]:
        """Request class names, which may also be asked for as `model`."""
        ...

    def is_ready(self) -> tuple[bool, str]:
        """Whether traffic should come, and why not."""
        ...

    def has_room(self) -> bool:
        """False while an ingress should stop reading."""
        ...

    def held(self, source: str) -> int:
        """Requests of an ingress that wait for the next day's budget of their class. They may be many and wait for
        long, and stand for no load: an ingress that bounds what it has open leaves them out."""
        ...


class EventSink(Protocol):
    """Where events go. Never raises; never blocks."""

    def emit(self, event: Event) -> None:
        """Take one event."""
        ...
