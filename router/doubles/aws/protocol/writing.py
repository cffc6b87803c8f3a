"""An answer as bytes, by the output shape: a body with its headers, the frames of a stream, an error."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

import msgspec
from botocore.model import OperationModel, ServiceModel, Shape
from msgspec import Struct

from router.doubles import event_stream
from router.doubles.aws.call import AwsError, Json

_COMMON_STATUS = {
    "MissingAuthenticationTokenException": 403,
    "UnknownOperationException": 404,
    "SerializationException": 400,
    "InternalFailure": 500,
}
"""Errors that every AWS service can give and no service model lists."""

_STREAM_TYPE = "application/vnd.amazon.eventstream"


class Written(Struct, frozen=True):
    """An HTTP answer. `stream` names the member that holds the response stream, if one follows."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    stream: str | None = None


def write_answer(operation: OperationModel, members: Json) -> Written:
    """The answer of a call that went well; `members` fit the output shape."""
    shape = operation.output_shape
    status = int(operation.http.get("responseCode", 200))
    protocol = operation.service_model.metadata["protocol"]
    if protocol == "query":
        return Written(status, {"Content-Type": "text/xml"}, _xml(operation, members))
    headers = {"Content-Type": f"application/x-amz-json-{operation.service_model.metadata.get('jsonVersion', '1.1')}"}
    if protocol == "rest-json":
        headers = {"Content-Type": "application/json"}
    if shape is None:
        return Written(status, headers, b"{}" if protocol == "json" else b"")
    body: Json = {}
    for name, value in members.items():
        member = shape.members[name]
        location = member.serialization.get("location")
        if location == "header":
            headers[member.serialization["name"]] = _text(member, value)
        elif location == "statusCode":
            status = value
        elif name != shape.serialization.get("payload") and not member.serialization.get("eventstream"):
            body[member.serialization.get("name", name)] = _json_value(member, value)
    if operation.has_event_stream_output:
        stream = next(name for name, member in shape.members.items() if member.serialization.get("eventstream"))
        return Written(status, headers | {"Content-Type": _STREAM_TYPE}, stream=stream)
    payload = shape.serialization.get("payload")
    if payload is not None:
        return Written(status, headers, _payload(shape.members[payload], members.get(payload)))
    return Written(status, headers, msgspec.json.encode(body))


def _payload(shape: Shape, value: Any) -> bytes:
    if value is None:
        return b""
    if shape.type_name == "structure":
        return msgspec.json.encode(_json_value(shape, value))
    return value.encode() if isinstance(value, str) else bytes(value)


def write_event(stream: Shape, name: str, members: Json) -> bytes:
    """One frame of a response stream. A member marked as the event's payload goes as it is, the others as JSON."""
    shape = stream.members[name]
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    for member_name, member in shape.members.items():
        if member.serialization.get("eventheader") and member_name in members:
            headers[member_name] = _text(member, members[member_name])
        if member.serialization.get("eventpayload"):
            headers[":content-type"] = "application/octet-stream"
            return event_stream.frame(headers, _payload(member, members.get(member_name)))
    return event_stream.frame(headers, msgspec.json.encode(_json_value(shape, members)))


def write_exception(stream: Shape, error: AwsError) -> bytes:
    """An error in a stream: a member of the stream if the model knows it, else a plain error message."""
    for name, member in stream.members.items():
        if error.code in {name, member.name}:
            said = next((one for one in member.members if one.lower() == "message"), "message")
            body = msgspec.json.encode({said: error.message, **error.fields})
            headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
            return event_stream.frame(headers, body)
    return event_stream.frame(
        {":error-code": error.code, ":error-message": error.message, ":message-type": "error"}, b""
    )


def write_error(model: ServiceModel | None, error: AwsError) -> Written:
    """An error answer with the status that the service model gives its code."""
    status = error.status or status_of(model, error.code)
    headers = {"x-amzn-ErrorType": error.code, "Content-Type": "application/json"}
    if error.retry_after_s is not None:
        headers["Retry-After"] = f"{error.retry_after_s:g}"
    if model is not None and model.metadata["protocol"] == "query":
        return Written(status, headers | {"Content-Type": "text/xml"}, _xml_error(error))
    body = {"__type": error.code, "message": error.message, **error.fields}
    return Written(status, headers, msgspec.json.encode(body))


def status_of(model: ServiceModel | None, code: str) -> int:
    """HTTP status of an error."""
    for shape in model.error_shapes if model is not None else ():
        if shape.name == code:
            return int(
                shape.metadata.get("error", {}).get("httpStatusCode", 500 if shape.metadata.get("fault") else 400)
            )
    return _COMMON_STATUS.get(code, 400)


def _json_value(shape: Shape, value: Any) -> Any:
    if getattr(shape, "is_document_type", False):
        return value
    kind = shape.type_name
    if kind == "structure":
        return {
            shape.members[name].serialization.get("name", name): _json_value(shape.members[name], member)
            for name, member in value.items()
            if member is not None
        }
    if kind == "list":
        return [_json_value(shape.member, item) for item in value]
    if kind == "map":
        return {key: _json_value(shape.value, item) for key, item in value.items()}
    if kind == "blob":
        return base64.b64encode(value).decode()
    if kind == "timestamp":
        iso = shape.serialization.get("timestampFormat") == "iso8601"
        return _moment(value).isoformat().replace("+00:00", "Z") if iso else _moment(value).timestamp()
    return value


def _moment(value: datetime | float) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)


def _text(shape: Shape, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if shape.serialization.get("jsonvalue"):
        return msgspec.json.encode(value).decode()
    return str(value)


def _xml(operation: OperationModel, members: Json) -> bytes:
    root = ElementTree.Element(f"{operation.name}Response")
    shape = operation.output_shape
    if shape is not None:
        _fill(
            ElementTree.SubElement(root, shape.serialization.get("resultWrapper", f"{operation.name}Result")), members
        )
    return ElementTree.tostring(root)


def _fill(parent: ElementTree.Element, members: Mapping[str, Any]) -> None:
    for name, value in members.items():
        child = ElementTree.SubElement(parent, name)
        if isinstance(value, dict):
            _fill(child, value)
        else:
            child.text = value.isoformat() if isinstance(value, datetime) else str(value)


def _xml_error(error: AwsError) -> bytes:
    root = ElementTree.Element("ErrorResponse")
    _fill(root, {"Error": {"Type": "Sender", "Code": error.code, "Message": error.message}})
    return ElementTree.tostring(root)
