"""What an HTTP status or a broken connection means in the router's own errors."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from math import isfinite

import aiohttp
import msgspec
from msgspec import Raw, Struct

from router.domain.errors import (
    BackendError,
    Overloaded,
    ProtocolError,
    Refused,
    Throttled,
    TimedOut,
    Unreachable,
    named,
)
from router.wire.openai import error_of

_MESSAGE_CHARS = 500
_REQUEST_IDS = ("x-request-id", "request-id", "apim-request-id")
"""Under these names OpenAI, Anthropic and Azure send the id by which their support finds a call."""


class _Body(Struct, frozen=True):
    error: Raw = Raw()


def error_of_status(status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
    """The error of a response that is no answer. 401 and 403 are `Refused` with code backend_forbidden: this
    deployment's key or address is wrong, and the sender can do nothing about it."""
    told = _told(body)
    error = _of_status(status, headers, body, told)
    request_id = next((headers[name] for name in _REQUEST_IDS if name in headers), None)
    error.said = named(status, None if told.said is None else told.said.code, request_id)
    return error


def _of_status(status: int, headers: Mapping[str, str], body: bytes, told: BackendError) -> BackendError:
    message = f"the upstream answered {status}: {told.message[:_MESSAGE_CHARS]}"
    retry_after_s = _retry_after_s(headers)
    if status == 429:
        return Throttled(message, retry_after_s=retry_after_s)
    if status in {502, 503, 529}:
        return Overloaded(message, retry_after_s=retry_after_s)
    if status in {408, 504}:
        return TimedOut(message)
    if status in {401, 403}:
        return Refused(message, code="backend_forbidden")
    if 400 <= status < 500:
        code = "context_length_exceeded" if b"context_length_exceeded" in body else None
        return Refused(message, code=code, param=told.param)
    return ProtocolError(message, retry_after_s=retry_after_s)


def error_of_transport(error: Exception, *, started: bool) -> BackendError:
    """The error of a connection: nobody there, or broken off once the response had `started`."""
    if started or isinstance(error, aiohttp.ClientResponseError):
        found: BackendError = ProtocolError(f"the upstream broke off: {error!r}")
    else:
        found = Unreachable(f"no connection to the upstream: {error!r}")
    found.said = named(getattr(error, "status", None), type(error).__name__)
    return found


def timed_out(error: Exception, *, started: bool) -> TimedOut:
    """Which wait it was: for the connection, for the first token, between tokens, or the deadline itself."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return TimedOut("the upstream could not be connected to in time", code="timeout_connect")
    if isinstance(error, aiohttp.SocketTimeoutError):
        code = "timeout_gap" if started else "timeout_first_token"
        return TimedOut("the upstream fell silent", code=code)
    return TimedOut("the deadline passed during the call", code="timeout_deadline")


def _told(body: bytes) -> BackendError:
    try:
        error = bytes(msgspec.json.decode(body, type=_Body).error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        error = b""
    return error_of(error) if error else BackendError(body.decode("utf-8", "replace"))


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The wait that the server asks for: `retry-after-ms`, else `retry-after` in seconds or as a date."""
    for name, unit_s in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            wait_s = float(headers.get(name, "")) * unit_s
        except ValueError:
            continue
        if isfinite(wait_s):
            return max(wait_s, 0.0)
    try:
        return max(parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time(), 0.0)
    except (KeyError, ValueError):
        return None
