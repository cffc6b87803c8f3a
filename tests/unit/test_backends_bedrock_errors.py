"""`router.backends.bedrock_errors`: what the SDK raises, in the router's error tree."""

from __future__ import annotations

import aiohttp
import pytest
from botocore.eventstream import ChecksumMismatch
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)
from botocore.validate import ParamValidator

from router.backends.bedrock_errors import backend_error
from router.domain.errors import (
    BackendError,
    Overloaded,
    ProtocolError,
    Refused,
    Throttled,
    TimedOut,
    Unreachable,
)
from router.doubles.bedrock_rules import service_model

URL = "http://127.0.0.1:1"


def answered(code: str, message: str = "m", status: int = 500, retry_after: str | None = None) -> ClientError:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    meta = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": meta}, "Converse")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ThrottlingException", Throttled),
        ("ServiceQuotaExceededException", Throttled),
        ("ModelNotReadyException", Overloaded),
        ("ServiceUnavailableException", Overloaded),
        ("ModelTimeoutException", TimedOut),
        ("ModelErrorException", BackendError),
        ("InternalServerException", BackendError),
        ("ModelStreamErrorException", ProtocolError),
        ("ValidationException", Refused),
        ("AccessDeniedException", Refused),
        ("ResourceNotFoundException", Refused),
    ],
)
def test_modelled_exceptions(code: str, kind: type[BackendError]) -> None:
    """Each exception of the service model has its own place in the tree, in both spellings."""
    in_stream = code[0].lower() + code[1:]
    assert type(backend_error(answered(code))) is kind
    assert type(backend_error(answered(in_stream))) is kind


def test_no_modelled_exception_is_forgotten() -> None:
    """Every exception that Converse, its stream or InvokeModel can give is mapped by name, not by its status."""
    operations = [service_model().operation_model(name) for name in ("Converse", "ConverseStream", "InvokeModel")]
    events = operations[1].output_shape.members["stream"].members.values()
    names = {shape.name for operation in operations for shape in operation.error_shapes}
    names |= {shape.name for shape in events if shape.metadata.get("exception")}
    unmapped = {name for name in names if type(backend_error(answered(name, status=418))) is Refused}
    assert unmapped == {"ValidationException", "AccessDeniedException", "ResourceNotFoundException"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, Throttled), (503, Overloaded), (408, TimedOut), (403, Refused), (502, Overloaded), (500, BackendError)],
)
def test_unknown_codes_go_by_status(status: int, kind: type[BackendError]) -> None:
    """A code that the model does not know is judged by its HTTP status."""
    assert type(backend_error(answered("SomethingNew", status=status))) is kind


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("0.5", 0.5), (None, None), ("soon", None), ("-1", None), ("inf", None)],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    """`Retry-After` is read in seconds; anything else is unknown."""
    error = backend_error(answered("ThrottlingException", status=429, retry_after=header))
    assert error.retry_after_s == seconds


@pytest.mark.parametrize(
    "message",
    ["Input is too long for requested model.", "prompt is too long: 250000 tokens > 200000 maximum"],
)
def test_prompt_too_long(message: str) -> None:
    """A prompt that does not fit has the code that OpenAI clients look for."""
    error = backend_error(answered("ValidationException", message, 400))
    assert (type(error), error.code) == (Refused, "context_length_exceeded")


@pytest.mark.parametrize(
    ("raised", "kind", "code"),
    [
        (EndpointConnectionError(endpoint_url=URL), Unreachable, "unreachable"),
        (ConnectionClosedError(endpoint_url=URL), Unreachable, "unreachable"),
        (NoCredentialsError(), Refused, "backend_forbidden"),
        (answered("ExpiredTokenException", status=403), Refused, "backend_forbidden"),
        (answered("AccessDeniedException", status=403), Refused, "backend_forbidden"),
        (ConnectTimeoutError(endpoint_url=URL), TimedOut, "timeout_connect"),
        (ReadTimeoutError(endpoint_url=URL), TimedOut, "timeout_first_token"),
        (aiohttp.SocketTimeoutError(), TimedOut, "timeout_first_token"),
        (aiohttp.ClientPayloadError(), ProtocolError, "protocol_error"),
        (ConnectionResetError(), ProtocolError, "protocol_error"),
        (ChecksumMismatch(1, 2), ProtocolError, "protocol_error"),
        (KeyError("x"), ProtocolError, "protocol_error"),
    ],
)
def test_transport(raised: Exception, kind: type[BackendError], code: str) -> None:
    """What the SDK or its transport raises says whether there was a connection, a time-out or nonsense."""
    error = backend_error(raised)
    assert (type(error), error.code) == (kind, code)


def test_silence_in_mid_stream() -> None:
    """Silence after the answer has begun is a gap."""
    assert backend_error(aiohttp.SocketTimeoutError(), begun=True).code == "timeout_gap"


def test_no_prompt_in_the_message() -> None:
    """A refusal by the SDK names the field, and does not repeat the sender's text."""
    shape = service_model().operation_model("Converse").input_shape
    report = ParamValidator().validate({"modelId": "m", "messages": "my secret"}, shape).generate_report()
    error = backend_error(ParamValidationError(report=report))
    assert type(error) is Refused
    assert "messages" in error.message
    assert "secret" not in error.message
