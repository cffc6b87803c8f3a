"""A call as a service's handler sees it, and the ways for the handler to refuse or break it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from msgspec import Struct

Json = dict[str, Any]
"""Members of a structure, as the SDK takes and gives them: blobs are bytes, timestamps are `datetime`."""

Event = tuple[str, Json]
"""One event of a response stream: its name in the model, and its members."""


HEADERS = "$headers"
"""Key under which a handler gives headers that the service sends and the model leaves out."""


class Call(Struct, frozen=True):
    """A request that fits the service model. `params` are its members by name; `region` is the one it is signed for."""

    service: str
    operation: str
    params: Json
    region: str
    account: str


class AwsError(Exception):
    """An error answer. `code` is a shape of the service model, e.g. `ThrottlingException`; `status` is modelled.

    Raised before an answer it is the answer; raised in a response stream it is an exception in the stream.
    `fields` are further members of the error's shape, such as `originalStatusCode`.
    """

    def __init__(
        self,
        code: str,
        message: str,
        status: int | None = None,
        retry_after_s: float | None = None,
        fields: Json | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.retry_after_s = retry_after_s
        self.fields = fields or {}


class Cut(Exception):
    """Raised by a handler or in a stream: the connection is dropped without another byte."""


class Garbage(Exception):
    """Raised in a stream: bytes that are no event-stream frame, then the end."""


Stream = AsyncIterator[Event | AwsError]
"""The value of a member that is a response stream."""
