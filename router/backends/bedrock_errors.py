"""What goes wrong in a call to Bedrock, in the router's error tree."""

from __future__ import annotations

import math
from typing import Any

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ReadTimeoutError,
)

from router.domain.errors import (
    BackendError,
    Overloaded,
    ProtocolError,
    Refused,
    Throttled,
    TimedOut,
    Unreachable,
)

_BY_CODE: dict[str, type[BackendError]] = {
    "throttling": Throttled,
    "toomanyrequests": Throttled,
    "servicequotaexceeded": Throttled,
    "modelnotready": Overloaded,
    "serviceunavailable": Overloaded,
    "modeltimeout": TimedOut,
    "internalserver": BackendError,
    "modelerror": BackendError,
    "modelstreamerror": ProtocolError,
    "validation": Refused,
    "accessdenied": Refused,
    "resourcenotfound": Refused,
}
"""The runtime's modelled exceptions without `Exception`, in lower case: a stream spells them otherwise."""

_BY_STATUS: dict[int, type[BackendError]] = {
    408: TimedOut,
    429: Throttled,
    502: Overloaded,
    503: Overloaded,
    504: TimedOut,
}
_FORBIDDEN = "backend_forbidden"
"""Code of a refusal for which this deployment's credentials or address are to blame, not the sender."""
_TOO_LONG = ("too long", "too many input tokens", "maximum context", "context length", "context window")
"""How Bedrock's models say that the prompt does not fit; there is no exception of its own for it."""


def backend_error(error: Exception, *, begun: bool = False) -> BackendError:
    """The router's error for anything that the SDK raises during a call, before or after its answer has `begun`."""
    if isinstance(error, ClientError):
        return _answered(error)
    if isinstance(error, ConnectTimeoutError):
        return TimedOut("no connection to Bedrock in time", code="timeout_connect")
    if isinstance(error, (ReadTimeoutError, TimeoutError)):
        return TimedOut("Bedrock fell silent", code="timeout_gap" if begun else "timeout_first_token")
    if isinstance(error, ParamValidationError):
        return Refused(_without_values(str(error)))
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, NoRegionError)):
        return Refused(str(error), code=_FORBIDDEN)
    if isinstance(error, BotoCoreError):
        return Unreachable(f"Bedrock cannot be called: {error}")
    if isinstance(error, (aiohttp.ClientError, OSError)):
        return ProtocolError(f"the answer broke off: {type(error).__name__}")
    return ProtocolError(f"not an answer of Bedrock: {type(error).__name__}")


def _answered(error: ClientError) -> BackendError:
    """An error that Bedrock itself reported, before the answer or in the stream (`EventStreamError`)."""
    response: dict[str, Any] = error.response
    said = response.get("Error", {})
    meta = response.get("ResponseMetadata", {})
    code = str(said.get("Code", "unknown"))
    message = f"{code}: {said.get('Message') or 'no message'}"
    status = meta.get("HTTPStatusCode", 500)
    fallback = _BY_STATUS.get(status, Refused if 400 <= status < 500 else BackendError)
    kind = _BY_CODE.get(code.lower().removesuffix("exception"), fallback)
    if status in {401, 403}:
        return Refused(message, code=_FORBIDDEN)
    if kind is Refused and any(words in message.lower() for words in _TOO_LONG):
        return Refused(message, code="context_length_exceeded")
    return kind(message, retry_after_s=_seconds(meta.get("HTTPHeaders", {}).get("retry-after")))


def _seconds(header: str | None) -> float | None:
    """`Retry-After` in seconds; dates, which AWS does not send, are not read."""
    try:
        seconds = float(header or "nan")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _without_values(report: str) -> str:
    """The first problem of botocore's report, less the value: the sender's text must not reach a log."""
    problems = report.splitlines()
    return problems[min(1, len(problems) - 1)].partition(", value:")[0]
