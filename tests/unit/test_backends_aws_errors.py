"""`router.backends.aws.errors`: what the SDK raises, in the router's error tree."""

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
from botocore.session import Session
from botocore.validate import ParamValidator

from router.backends.aws.errors import BY_CODE, backend_error
from router.domain.errors import (
    BackendError,
    Overloaded,
    ProtocolError,
    Refused,
    Throttled,
    TimedOut,
    Unreachable,
)
from router.doubles.aws.protocol.models import service_model

URL = "http://127.0.0.1:1"


def answered(code: str, message: str = "m", status: int = 500, retry_after: str | None = None) -> ClientError:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    meta = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": meta}, "Converse")


def test_the_operator_is_told_what_the_service_calls_it_and_no_text() -> None:
    """Status, exception and request id; the SDK's exception where no service answered. A code that is no name could be
    anything, and is left out."""
    error = answered("ThrottlingException", "you wrote: secret words", 429)
    error.response["ResponseMetadata"]["RequestId"] = "1f0c-77"
    assert backend_error(error).said == (429, "ThrottlingException", "1f0c-77")
    assert backend_error(EndpointConnectionError(endpoint_url=URL)).said == (None, "EndpointConnectionError", None)
    assert backend_error(answered("you wrote: secret words", status=400)).said == (400, None, None)


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


@pytest.mark.parametrize("service", ["bedrock-runtime", "sagemaker-runtime"])
def test_no_modelled_exception_is_forgotten(service: str) -> None:
    """Every exception of the service model, those of streams included, has a row of its own in the table."""
    model = Session().get_service_model(service)
    shapes = [model.shape_for(name) for name in model.shape_names]
    exceptions = {shape.name for shape in shapes if shape.metadata.get("exception")}
    assert len(exceptions) > 7
    assert {name for name in exceptions if name.lower().removesuffix("exception") not in BY_CODE} == set()


@pytest.mark.parametrize(
    ("code", "fields", "kind"),
    [
        ("ModelErrorException", {"originalStatusCode": 400}, Refused),
        ("ModelErrorException", {"originalStatusCode": 429}, Throttled),
        ("ModelErrorException", {"originalStatusCode": 500}, BackendError),
        ("ModelError", {"OriginalStatusCode": 503}, Overloaded),
        ("ModelError", {}, BackendError),
        ("ModelStreamError", {"ErrorCode": "ModelInvocationTimeExceeded"}, TimedOut),
        ("ModelStreamError", {"ErrorCode": "StreamBroken"}, ProtocolError),
        ("ThrottlingException", {"originalStatusCode": 400}, Throttled),
    ],
)
def test_what_the_models_own_server_said(code: str, fields: dict[str, object], kind: type[BackendError]) -> None:
    """Where the service passes on the status of the model's server, that decides; the account's throttle stays one."""
    error = answered(code, status=424)
    error.response.update(fields)
    assert type(backend_error(error)) is kind


def test_a_model_that_is_not_ready_is_no_throttle() -> None:
    """Both have status 429: one is the account's rate, the other a server that warms up."""
    assert type(backend_error(answered("ModelNotReadyException", status=429))) is Overloaded
    assert type(backend_error(answered("ThrottlingException", status=429))) is Throttled


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
    shape = service_model("bedrock-runtime").operation_model("Converse").input_shape
    report = ParamValidator().validate({"modelId": "m", "messages": "my secret"}, shape).generate_report()
    error = backend_error(ParamValidationError(report=report))
    assert type(error) is Refused
    assert "messages" in error.message
    assert "secret" not in error.message
