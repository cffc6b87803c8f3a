"""What ends an answer, as a sender wrote it."""

from __future__ import annotations

from router.wire.openai.request import ChatBody


def sent_stops(body: ChatBody) -> list[str]:
    """One string or several; an empty one, which AWS refuses, stops nothing."""
    given = [body.stop] if isinstance(body.stop, str) else body.stop or ()
    return [stop for stop in given if stop]
