"""What goes wrong in a call to Bedrock or SageMaker, in the router's error tree."""

from __future__ import annotations

import math
import re
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
    Said,
    Throttled,
    TimedOut,
    Unreachable,
    named,
)

BY_CODE: dict[str, type[BackendError]] = {
    "throttling": Throttled,
    "toomanyrequests": Throttled,
    "servicequotaexceeded": Throttled,
    "modelnotready": Overloaded,
    "serviceunavailable": Overloaded,
    "internaldependency": Overloaded,
    "modeltimeout": TimedOut,
    "internalserver": BackendError,
    "internalfailure": BackendError,
    "internalstreamfailure": ProtocolError,
    "modelerror": BackendError,
    "modelstreamerror": ProtocolError,
    "validation": Refused,
    "validationerror": Refused,
    "conflict": Refused,
    "accessdenied": Refused,
    "resourcenotfound": Refused,
}
"""The modelled exceptions of both runtimes (and of STS: throttled or denied) without `Exception`, in lower case: a
stream spells them otherwise. A model that is not ready has status 429 too, and is no sign of the account's rate."""

_BY_STATUS: dict[int, type[BackendError]] = {
    408: TimedOut,
    429: Throttled,
    502: Overloaded,
    503: Overloaded,
    504: TimedOut,
}
_OF_MODEL: dict[int, type[BackendError]] = {
    400: Refused,
    408: TimedOut,
    413: Refused,
    422: Refused,
    424: BackendError,
    429: Throttled,
    503: Overloaded,
    504: TimedOut,
}
"""What the model's own server answered, by its status (`originalStatusCode` of a ModelError)."""
_STREAM_CODES: dict[str, type[BackendError]] = {"ModelInvocationTimeExceeded": TimedOut, "StreamBroken": ProtocolError}
"""`ErrorCode` of SageMaker's ModelStreamError."""
_FORBIDDEN = "backend_forbidden"
"""Code of a refusal for which this deployment's credentials or address are to blame, not the sender."""
_NOT_THERE = re.compile(
    r"The provided model identifier is invalid|Invocation of model ID \S+ with on-demand throughput isn"
    r"|Endpoint \S+ of account \d+ not found"
    r"|(?:Variant|Inference Component) .*(?:not found|is required)"
)
"""How services say in a validation error that there is no such model, that only an inference profile of it may be
called, or that the account has no such endpoint, or the endpoint no such variant or component. What a sender wrote
stands further on, where it is quoted."""
_TOO_LONG = (
    "too long",
    "too many input tokens",
    "input tokens exceed",
    "maximum context",
    "context length",
    "context limit",
    "context window",
)
"""How models say that the prompt does not fit; there is no exception of its own for it."""


def backend_error(error: Exception, *, begun: bool = False, service: str = "Bedrock") -> BackendError:
    """The router's error for anything that the SDK raises during a call, before or after its answer has `begun`."""
    found = _found(error, begun, service)
    found.said = _said(error)
    return found


def _said(error: Exception) -> Said:
    if not isinstance(error, ClientError):
        return named(None, type(error).__name__)
    meta: Any = error.response.get("ResponseMetadata", {})
    return named(meta.get("HTTPStatusCode"), error.response.get("Error", {}).get("Code"), meta.get("RequestId"))


def _found(error: Exception, begun: bool, service: str) -> BackendError:
    if isinstance(error, ClientError):
        return _answered(error)
    if isinstance(error, ConnectTimeoutError):
        return TimedOut(f"no connection to {service} in time", code="timeout_connect")
    if isinstance(error, (ReadTimeoutError, TimeoutError)):
        return TimedOut(f"{service} fell silent", code="timeout_gap" if begun else "timeout_first_token")
    if isinstance(error, ParamValidationError):
        return Refused(_without_values(str(error)))
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, NoRegionError)):
        return Refused(str(error), code=_FORBIDDEN)
    if isinstance(error, BotoCoreError):
        return Unreachable(f"{service} cannot be called: {error}")
    if isinstance(error, (aiohttp.ClientError, OSError)):
        return ProtocolError(f"the answer broke off: {type(error).__name__}")
    return ProtocolError(f"not an answer of {service}: {type(error).__name__}")


def _answered(error: ClientError) -> BackendError:
    """An error that the service itself reported, before the answer or in the stream (`EventStreamError`)."""
    response: dict[str, Any] = error.response
    said = response.get("Error", {})
    meta = response.get("ResponseMetadata", {})
    code = str(said.get("Code", "unknown"))
    message = f"{code}: {said.get('Message') or 'no message'}"
    status = meta.get("HTTPStatusCode", 500)
    fallback = _BY_STATUS.get(status, Refused if 400 <= status < 500 else BackendError)
    kind = _of_model(response, BY_CODE.get(code.lower().removesuffix("exception"), fallback))
    if status in {401, 403} or (kind is Refused and _is_of_address(code, str(said.get("Message")))):
        return Refused(message, code=_FORBIDDEN)
    if kind is Refused and any(words in message.lower() for words in _TOO_LONG):
        return Refused(message, code="context_length_exceeded")
    return kind(message, retry_after_s=_seconds(meta.get("HTTPHeaders", {}).get("retry-after")))


def _is_of_address(code: str, message: str) -> bool:
    """Whether what the policy calls is not there, or not like this: another deployment may well answer."""
    return code.lower().startswith("resourcenotfound") or _NOT_THERE.match(message) is not None


def _of_model(response: dict[str, Any], kind: type[BackendError]) -> type[BackendError]:
    """The kind of error by what the model's own server said, where the service passes that on."""
    status = response.get("originalStatusCode") or response.get("OriginalStatusCode")
    if kind in {BackendError, ProtocolError} and status is not None:
        return _OF_MODEL.get(int(status), kind)
    return _STREAM_CODES.get(str(response.get("ErrorCode")), kind)


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
