"""Whom the dispatcher calls."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from typing import Protocol, runtime_checkable

from router.domain.errors import BackendError
from router.domain.outcome import Attempt, Delta


class Backend(Protocol):
    """One way of calling models.

    `open` yields the answer in pieces and ends after the last; it raises a `BackendError` (see
    `router.domain.errors`) and nothing else. Closing the generator early cancels the call and frees its
    connection at once. The last piece (or one before it) carries `usage` where the backend reports it, and
    exactly one piece carries `finish_reason` per choice. An empty piece may come first, when the backend has accepted
    the call: the time to it is the network's. It never retries: the one deadline is the router's.
    """

    def open(self, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        """Start the call and stream its answer."""
        ...

    async def close(self) -> None:
        """Free connections; called once at shutdown."""
        ...


class BatchBackend(Protocol):
    """A backend that takes a formed batch: all of it ends together."""

    async def run_batch(self, attempts: tuple[Attempt, ...]) -> tuple[Delta | BackendError, ...]:
        """One whole answer for each attempt, in order, or why there is none where others have one; raises a
        `BackendError` for the batch."""
        ...

    async def close(self) -> None:
        """Free connections."""
        ...


@runtime_checkable
class ReadsFiles(Protocol):
    """A backend that keeps what it has read from files: keys and certificate authorities."""

    def forget(self, files: Collection[str]) -> None:
        """These files, by path as the policy writes it, hold something else now; without effect on calls under way."""
        ...
