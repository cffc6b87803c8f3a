"""Which SageMaker session belongs to which conversation.

A stateful endpoint opens a session when asked for `NEW_SESSION` and says its name and end; a call that names it goes to
the instance that holds it. Only InvokeEndpoint opens one, so the first turn of a conversation is answered whole.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime

from router.domain.outcome import Attempt

NEW_SESSION = "NEW_SESSION"
NAMES = ("session", "session_id")
"""Metadata by which a request says which conversation it is of."""
_MOST = 100_000

Conversation = tuple[str, str | None, str, str]


class StickySessions:
    """The open sessions, the least used forgotten first; `at` is the wall clock, in which the service tells an end."""

    def __init__(self, at: Callable[[], float] = time.time) -> None:
        self._at = at
        self._open: OrderedDict[Conversation, tuple[str, float]] = OrderedDict()

    def of(self, attempt: Attempt) -> str | None:
        """What a call says as its `SessionId`: an open session, `NEW_SESSION`, or nothing where it is not sticky."""
        conversation = conversation_of(attempt)
        if conversation is None:
            return None
        name, ends = self._open.get(conversation, ("", 0.0))
        if ends <= self._at():
            return NEW_SESSION
        self._open.move_to_end(conversation)
        return name

    def opened(self, attempt: Attempt, said: str) -> None:
        """The service opened a session: `name; Expires=2026-01-01T00:00:00Z`."""
        conversation = conversation_of(attempt)
        name, _, until = said.partition("; Expires=")
        ends = _seconds(until)
        if conversation is None or ends is None:
            return
        self._open[conversation] = (name, ends)
        while len(self._open) > _MOST:
            self._open.popitem(last=False)

    def closed(self, attempt: Attempt) -> None:
        """The service holds the conversation's session no longer."""
        conversation = conversation_of(attempt)
        if conversation is not None:
            self._open.pop(conversation, None)


def _seconds(until: str) -> float | None:
    """Wall time of what a container wrote; `None` for what is no time: the conversation sticks to nothing then."""
    try:
        return datetime.fromisoformat(until).timestamp()
    except ValueError:
        return None


def conversation_of(attempt: Attempt) -> Conversation | None:
    """Deployment, region, tenant and what the request calls its session; `None` where it is not to stick."""
    address, request = attempt.deployment.address, attempt.request
    if address.aws is None or not address.aws.sticky:
        return None
    said = next((value for name, value in request.attributes if name in NAMES and value), None)
    return None if said is None else (address.target, address.region, request.tenant, said)
