"""What every HTTP route shares: errors, receipt headers, keys and bounded bodies."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from math import ceil
from typing import Any

from router.domain.errors import RequestError, RouterError
from router.domain.outcome import Receipt
from router.wire.openai import debug_fields, error_body, receipt_fields

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_STATUS = {
    "admin_key_required": 403,
    "backend_forbidden": 502,
    "body_too_large": 413,
    "decision_not_found": 404,
    "draining": 503,
    "invalid_api_key": 401,
    "method_not_allowed": 405,
    "model_not_found": 404,
    "not_found": 404,
    "unsupported_media_type": 415,
}
"""Codes whose HTTP status is more precise than that of their error class."""
_PASSES_LATE = frozenset({"insufficient_quota"})
"""Codes of what does pass, but later than an SDK's own retries would have any use."""


class HangUpError(Exception):
    """The client hung up before its request was complete."""


def status_of(error: RouterError) -> int:
    """The HTTP status of an error."""
    return _STATUS.get(error.code, error.http_status)


def error_headers(error: RouterError, body: bytes) -> Headers:
    """Content and retry headers: SDKs obey `x-should-retry`, then `retry-after-ms`, then `retry-after`."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-should-retry", b"true" if error.retryable and error.code not in _PASSES_LATE else b"false"),
    ]
    if error.retry_after_s is not None:
        wait_s = max(error.retry_after_s, 0.0)
        headers.append((b"retry-after-ms", str(ceil(wait_s * 1e3)).encode()))
        headers.append((b"retry-after", str(ceil(wait_s)).encode()))
    if error.code == "invalid_api_key":
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


async def send_error(send: Send, error: RouterError, extra: Headers) -> None:
    """A complete error response; nothing may have been sent before."""
    body = error_body(error)
    headers = error_headers(error, body) + extra
    await send({"type": "http.response.start", "status": status_of(error), "headers": headers})
    await send({"type": "http.response.body", "body": body})


def header_value(text: str) -> bytes:
    """Text that is safe in a header: printable ASCII, anything else escaped."""
    if text.isascii() and text.isprintable():
        return text.encode()
    return ascii(text)[1:-1].encode()


def receipt_headers(receipt: Receipt, *, debug: bool, is_opening: bool = False) -> Headers:
    """The `x-router-*` headers of an answer, or of a stream that begins."""
    fields = receipt_fields(receipt, is_opening=is_opening)
    if debug:
        fields += debug_fields(receipt)
    return [(b"x-router-" + name.encode(), header_value(value)) for name, value in fields]


def check_key(headers: Mapping[bytes, bytes], keys: frozenset[str] | None) -> None:
    """`RequestError` (invalid_api_key) unless the bearer token is one of the keys; `None` admits everyone.

    Every key is compared, in constant time, so timing tells neither a prefix nor a position.
    """
    if keys is None:
        return
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    given = token.strip() if scheme.lower() == b"bearer" else b""
    matches = [hmac.compare_digest(key.encode(), given) for key in keys]
    if not any(matches):
        raise RequestError("The API key is missing or not known here.", code="invalid_api_key")


async def read_limited(headers: Mapping[bytes, bytes], receive: Receive, limit_bytes: int) -> bytes:
    """The whole body; `RequestError` (body_too_large) as soon as it is known to be longer than the limit."""
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    pieces: list[bytes] = []
    size_bytes = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HangUpError
        piece: bytes = message.get("body", b"")
        size_bytes += len(piece)
        if size_bytes > limit_bytes:
            raise _too_large(limit_bytes)
        pieces.append(piece)
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_large(limit_bytes: int) -> RequestError:
    return RequestError(f"The body is larger than {limit_bytes} bytes.", code="body_too_large")
