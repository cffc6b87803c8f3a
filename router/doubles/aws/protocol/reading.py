"""The parameters of a request, from its path, query, headers and body, by the input shape."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec
from botocore.model import OperationModel, Shape
from botocore.utils import parse_timestamp

from router.doubles.aws.call import AwsError, Json

_BODY = "body"
_FORM_WORDS = frozenset({"Action", "Version"})


def read_parameters(
    operation: OperationModel,
    places: Mapping[str, str],
    query: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes,
) -> Json:
    """Members by name. What the shape does not know stays in, for the check to refuse.

    Raises `AwsError` SerializationException for a body or a value that cannot be read.
    """
    shape = operation.input_shape
    if shape is None:
        return {}
    if operation.service_model.metadata["protocol"] == "query":
        return {name: text for name, text in query.items() if name not in _FORM_WORDS}
    params: Json = {}
    inside = {}
    for name, member in shape.members.items():
        location = member.serialization.get("location", _BODY)
        spelled = member.serialization.get("name", name)
        if location == _BODY:
            inside[spelled] = name
        elif location == "headers":
            found = {
                key[len(spelled) :]: text for key, text in headers.items() if key.lower().startswith(spelled.lower())
            }
            if found:
                params[name] = found
        else:
            source = {"uri": places, "querystring": query, "header": headers}[location]
            if spelled in source:
                params[name] = _from_text(member, source[spelled])
    payload = shape.serialization.get("payload")
    if payload is None:
        return params | _members(shape, inside, _object(body))
    if shape.members[payload].type_name == "structure":
        return params | ({payload: _value(shape.members[payload], _object(body))} if body else {})
    return params | ({payload: body} if body else {})


def _object(body: bytes) -> Json:
    try:
        return msgspec.json.decode(body or b"{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise AwsError("SerializationException", "the body is not a JSON object") from None


def _members(shape: Shape, names: Mapping[str, str], found: Json) -> Json:
    members = {}
    for key, value in found.items():
        name = names.get(key, key)
        if value is not None:
            members[name] = _value(shape.members[name], value) if key in names else value
    return members


def _value(shape: Shape, value: Any) -> Any:
    """As the SDK's caller gave it; a value of another type is left for the check to refuse."""
    if getattr(shape, "is_document_type", False):
        return value
    kind = shape.type_name
    if kind == "structure" and isinstance(value, dict):
        names = {member.serialization.get("name", name): name for name, member in shape.members.items()}
        return _members(shape, names, value)
    if kind == "list" and isinstance(value, list):
        return [_value(shape.member, item) for item in value]
    if kind == "map" and isinstance(value, dict):
        return {key: _value(shape.value, item) for key, item in value.items()}
    return _scalar(shape, value)


def _scalar(shape: Shape, value: Any) -> Any:
    try:
        if shape.type_name == "blob" and isinstance(value, str):
            return base64.b64decode(value, validate=True)
        if shape.type_name == "timestamp":
            return parse_timestamp(value)
    except (binascii.Error, ValueError, TypeError, RuntimeError):
        raise AwsError("SerializationException", f"a {shape.name} cannot be read") from None
    return value


def _from_text(shape: Shape, text: str) -> Any:
    """A value out of a path, a query or a header."""
    try:
        if shape.type_name in {"integer", "long"}:
            return int(text)
        if shape.type_name in {"float", "double"}:
            return float(text)
    except ValueError:
        raise AwsError("SerializationException", f"{text} is not a number") from None
    if shape.type_name == "boolean":
        return text.lower() == "true"
    if shape.serialization.get("jsonvalue") or shape.type_name in {"map", "structure"}:
        return _object(text.encode())
    return _scalar(shape, text)
