"""What the tests of the journal write into it."""

from __future__ import annotations

from msgspec.structs import replace

from router.ports.journal import Published, Received

REPLY = (Published(b'{"id":"1"}', (("router-model", "small"),)),)


def message(request_id: str = "a", **changes: object) -> Received:
    """A message from one producer."""
    fixed = Received(
        request_id=request_id,
        topic="router/requests/chat",
        payload=b'{"messages":[]}',
        response_topic="replies/1",
        correlation_data=b"\x00\xff",
        properties=(("request-id", request_id), ("class", "chat")),
        received_at=1000.0,
        expires_at=1060.5,
    )
    return replace(fixed, **changes)
