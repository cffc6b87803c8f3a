"""What Bedrock refuses: by the runtime's own service model, and by rules of a conversation beside it.

Field names, types, required members, ranges, enumerations and the status of each error come from the model
that botocore ships, so the double cannot drift from the SDK. The rules on roles, blank text, `toolConfig` and
tool results are not in the model: the service states them only in the messages of its ValidationExceptions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

from botocore.model import ServiceModel, Shape
from botocore.session import Session
from botocore.validate import ParamValidator

_NUMBERS = frozenset({"integer", "long", "float", "double"})
_COMMON_STATUS = {
    "MissingAuthenticationTokenException": 403,
    "UnknownOperationException": 404,
    "SerializationException": 400,
}
"""Errors that every AWS service can give and no service model lists."""


@cache
def service_model() -> ServiceModel:
    """The Bedrock runtime as the installed botocore knows it."""
    return Session().get_service_model("bedrock-runtime")


def status_of(code: str) -> int:
    """HTTP status of an error."""
    for shape in service_model().error_shapes:
        if shape.name == code:
            return int(shape.metadata["error"].get("httpStatusCode", 500))
    return _COMMON_STATUS.get(code, 400)


def violation(operation: str, model_id: str, body: dict[str, Any]) -> str | None:
    """Why Bedrock would answer ValidationException, or `None`."""
    shape = service_model().operation_model(operation).input_shape
    params = {**body, "modelId": model_id}
    report = ParamValidator().validate(params, shape)
    if report.has_errors():
        return str(report.generate_report())
    out_of_range = next(_breaches(shape, params, ""), None)
    if out_of_range is not None or not operation.startswith("Converse"):
        return out_of_range
    return _conversation(body)


def _breaches(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """The constraints that botocore leaves to the service: maxima, patterns, enumerations."""
    if shape.type_name == "structure" and not shape.is_document_type:
        for name, member in value.items():
            yield from _breaches(shape.members[name], member, f"{path}.{name}")
    elif shape.type_name == "list":
        for index, member in enumerate(value):
            yield from _breaches(shape.member, member, f"{path}[{index}]")
    elif shape.type_name == "string":
        yield from _text_breaches(shape, value, path)
    elif shape.type_name in _NUMBERS and value > shape.metadata.get("max", value):
        yield f"Value at '{path}' must be at most {shape.metadata['max']}"


def _text_breaches(shape: Shape, value: str, path: str) -> Iterator[str]:
    if len(value) > shape.metadata.get("max", len(value)):
        yield f"Value at '{path}' is longer than {shape.metadata['max']}"
    if shape.enum and value not in shape.enum:
        yield f"Value at '{path}' must be one of {shape.enum}"
    pattern = shape.metadata.get("pattern")
    if pattern is not None and re.fullmatch(pattern, value) is None:
        yield f"Value at '{path}' does not match {pattern}"


def _conversation(body: dict[str, Any]) -> str | None:
    messages = body.get("messages", [])
    roles = [message["role"] for message in messages]
    if not roles or roles[0] != "user":
        return "A conversation must start with a user message."
    if any(before == after for before, after in pairwise(roles)):
        return "A conversation must alternate between user and assistant roles."
    if any(not message["content"] for message in messages):
        return "The content field in a message is empty."
    blocks = [block for message in messages for block in message["content"]]
    if any("text" in block and not block["text"].strip() for block in blocks):
        return "The text field in the ContentBlock object is blank."
    if "toolConfig" not in body and any("toolUse" in block or "toolResult" in block for block in blocks):
        return "The toolConfig field must be defined when using toolUse and toolResult content blocks."
    return _tool_results(messages)


def _tool_results(messages: list[dict[str, Any]]) -> str | None:
    """Each tool use is answered in the next message, and nothing else is."""
    for before, after in pairwise([{"content": []}, *messages]):
        asked = {block["toolUse"]["toolUseId"] for block in before["content"] if "toolUse" in block}
        given = {block["toolResult"]["toolUseId"] for block in after["content"] if "toolResult" in block}
        if asked != given:
            return "The toolResult blocks must match the toolUse blocks of the previous turn."
    return None
