"""What the queue ingress needs so that nothing is lost and nothing is paid twice."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


def key_of(tenant: str, request_id: str) -> str:
    """What the journal knows a request by: an id belongs to its tenant. (No MQTT string holds U+0000.)"""
    return f"{tenant}\0{request_id}"


class Asker(Struct, frozen=True):
    """Where one answer goes. Several messages may ask under one request id."""

    response_topic: str
    correlation_data: bytes | None


class Received(Struct, frozen=True):
    """A message as it must survive a crash. `expires_at` is wall time; `properties` are user properties."""

    request_id: str
    topic: str
    payload: bytes
    response_topic: str
    correlation_data: bytes | None
    properties: tuple[tuple[str, str], ...]
    received_at: float
    expires_at: float | None
    tenant: str = "default"

    @property
    def key(self) -> str:
        """See `key_of`."""
        return key_of(self.tenant, self.request_id)

    @property
    def asker(self) -> Asker:
        """Who asks by this message."""
        return Asker(self.response_topic, self.correlation_data)


class Published(Struct, frozen=True):
    """One reply publish: enough to send it again byte for byte."""

    payload: bytes
    properties: tuple[tuple[str, str], ...]
    content_type: str = "application/json"


class Entry(Struct, frozen=True):
    """A journalled request. `calls` counts calls started; `replies` is set once it is answered.

    `askers` are those who still wait for the reply, in order of receipt. `keep` is false for an answer that
    is forgotten once delivered. `same` is false where the message just received has another payload than the
    first under this id. The payload of `received` is empty once it is answered.
    """

    received: Received
    calls: int
    replies: tuple[Published, ...] | None
    askers: tuple[Asker, ...] = ()
    keep: bool = True
    same: bool = True


class Journal(Protocol):
    """Durable memory of requests and their replies. Every coroutine returns only when the write is on disk.

    Writes take effect in the order in which the coroutines were first awaited. Each raises `JournalError`
    when the disk will not take it; nothing of it is written then, and it may be tried again.
    """

    async def receive(self, message: Received, *, attach: bool = True) -> Entry | None:
        """Write a message. `None` if new; else what is already known under that key, its asker added to those
        who wait. Nothing is written if the payload is another one (`Entry.same`), nor if the key is known and
        `attach` is false."""
        ...

    async def call_started(self, key: str) -> None:
        """A model is about to be called for this request: if we crash now, the call counts as cut."""
        ...

    async def answered(self, key: str, replies: tuple[Published, ...], *, keep: bool = True) -> None:
        """The reply that will be sent; from here on a duplicate is answered from the journal.

        With `keep` false only until it is delivered: then the key is free again.
        """
        ...

    async def delivered(self, key: str, asker: Asker) -> None:
        """The broker has acknowledged the reply to this asker."""
        ...

    async def unfinished(self) -> tuple[Entry, ...]:
        """What a former life left: not answered, or answered but not delivered. In order of receipt."""
        ...

    async def purge(self, *, before_at: float) -> int:
        """Forget delivered entries older than the retention; how many."""
        ...

    async def close(self) -> None:
        """Flush and close."""
        ...

    @property
    def backlog(self) -> int:
        """Writes waiting for the disk."""
        ...
