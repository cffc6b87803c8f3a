"""The one error tree.

RouterError
├── PolicyError        a policy file is wrong (file, line, column, path)
├── SettingsError      the environment is wrong
├── WorkloadError      a workload for the simulator is wrong (file, line, field)
├── JournalError       the journal cannot write: nothing is acknowledged until it can
├── RequestError       the sender's request is wrong: never retried
├── Rejected           never queued (admission): answered at once
├── Expired            its deadline passed
├── Evicted            pushed out of the queue by something more urgent
├── Cancelled          taken back by its sender, queued or under way
└── BackendError       one attempt failed
    ├── Throttled      the account or deployment is over its rate (429)
    ├── Overloaded     the server is busy (503) or warming up
    ├── TimedOut       connect, first_token, gap or deadline
    ├── Refused        the backend says the request itself is wrong: not retried
    ├── Unreachable    no connection
    ├── ProtocolError  it answered nonsense, or broke off in mid-stream
    └── Returned       a batch lane gave it back before it was answered: it goes elsewhere

`code` is stable: a metric label and the wire value; `codes` lists every more precise one an instance of the
class may carry. `retryable` is about the same request, later or elsewhere.
"""

from __future__ import annotations

import re
from typing import ClassVar, NamedTuple


class RouterError(Exception):
    """Base of everything the router raises on purpose."""

    code: ClassVar[str] = "internal_error"
    codes: ClassVar[tuple[str, ...]] = (
        "invalid_artefact",
        "invalid_checkpoint",
        "invalid_outcomes",
        "reply_too_large",
        "refused",
    )
    http_status: ClassVar[int] = 500
    openai_type: ClassVar[str] = "api_error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        if code is not None:
            self.code = code  # type: ignore[misc]  # an instance may be more precise than its class


class PolicyError(RouterError):
    """A policy document that cannot be accepted; the old one stays in force."""

    code = "invalid_policy"

    def __init__(self, message: str, *, file: str = "", line: int = 0, column: int = 0, path: str = "") -> None:
        where = f"{file}:{line}:{column}: " if file else ""
        field = f"{path}: " if path else ""
        super().__init__(f"{where}{field}{message}")
        self.file, self.line, self.column, self.path, self.problem = file, line, column, path, message


class SettingsError(RouterError):
    """The process settings cannot be used."""

    code = "invalid_settings"


class JournalError(RouterError):
    """The journal cannot be opened, read or written."""

    code = "journal_unavailable"
    codes = ("journal_full",)
    http_status = 503
    retryable = True


class WorkloadError(RouterError):
    """A workload for the simulator that cannot be read; the message begins with file and line."""

    code = "invalid_workload"


class RequestError(RouterError):
    """The request itself is wrong."""

    code = "invalid_request"
    codes = (
        "invalid_json",
        "model_not_found",
        "body_too_large",
        "unknown_class",
        "unsupported",
        "context_length_exceeded",
        "decision_not_found",
        "admin_key_required",
        "idempotency_conflict",
        "invalid_api_key",
        "method_not_allowed",
        "no_response_topic",
        "not_found",
        "unsupported_media_type",
    )
    http_status = 400
    openai_type = "invalid_request_error"


class Rejected(RouterError):
    """Refused at admission."""

    code = "overloaded"
    codes = (
        "no_deployment",
        "queue_full",
        "tenant_queue_full",
        "queue_timeout",
        "floor_unreachable",
        "slo_unreachable",
        "over_budget",
        "insufficient_quota",
        "draining",
    )
    http_status = 429
    openai_type = "rate_limit_error"
    retryable = True


class Expired(RouterError):
    """The deadline passed: before it was queued, in the queue, or while it was served."""

    code = "deadline_exceeded"
    codes = ("client_gone",)
    http_status = 504
    openai_type = "timeout_error"


class Evicted(RouterError):
    """Pushed out of the queue by something more urgent."""

    code = "evicted"
    http_status = 429
    openai_type = "rate_limit_error"
    retryable = True


class Cancelled(RouterError):
    """Its sender took it back, over a queue: who asks over HTTP hangs up, and reads no answer."""

    code = "cancelled"
    http_status = 499


class Said(NamedTuple):
    """How the service names a failure, for its operator: HTTP status, its own code or the SDK's exception, and the id
    by which its support finds the call. Never its message, which may quote a prompt."""

    status: int | None = None
    code: str | None = None
    request_id: str | None = None


_NAME, _ID = re.compile(r"[A-Za-z0-9_.-]{1,64}"), re.compile(r"[A-Za-z0-9_.:=+/-]{1,128}")


def named(status: object = None, code: object = None, request_id: object = None) -> Said:
    """What of this is a status, a name and an id; anything else could be text, and is left out."""
    return Said(
        status if isinstance(status, int) else None,
        code if isinstance(code, str) and _NAME.fullmatch(code) else None,
        request_id if isinstance(request_id, str) and _ID.fullmatch(request_id) else None,
    )


class BackendError(RouterError):
    """One attempt failed."""

    code = "backend_error"
    http_status = 502
    retryable = True
    said: Said | None = None
    """What is known of it beside the router's own code."""


class Throttled(BackendError):
    """The backend says slow down; `retry_after_s` where it said for how long."""

    code = "throttled"
    http_status = 429
    openai_type = "rate_limit_error"

    @property
    def short_of(self) -> str | None:
        """`requests` or `tokens`, where the backend says of which there were too many."""
        said = self.message.lower()
        return next((what for what in ("tokens", "requests") if f"too many {what}" in said), None)


class Overloaded(BackendError):
    """The backend is busy or not ready."""

    code = "backend_overloaded"
    http_status = 503


class TimedOut(BackendError):
    """Nothing came in time."""

    code = "timeout"
    codes = ("timeout_connect", "timeout_first_token", "timeout_gap", "timeout_deadline")
    http_status = 504
    openai_type = "timeout_error"


class Refused(BackendError):
    """The backend says the request itself is wrong, or forbids it."""

    code = "backend_refused"
    codes = ("backend_forbidden", "context_length_exceeded", "unsupported")
    http_status = 400
    openai_type = "invalid_request_error"
    retryable = False


class Unreachable(BackendError):
    """No connection to the backend."""

    code = "unreachable"
    http_status = 502


class ProtocolError(BackendError):
    """The backend answered something that is not its protocol, or broke off."""

    code = "protocol_error"
    http_status = 502


class Returned(BackendError):
    """A lane of batch jobs gave the request back: too few came for a job, its slack ran out, or its job or record
    failed. Nobody is overloaded by that: it costs no retry."""

    code = "batch_too_few"
    codes = ("batch_late", "batch_failed", "batch_record_failed")
    http_status = 503
