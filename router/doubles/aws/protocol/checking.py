"""Does it fit the model? What botocore's own validator checks, and the constraints it leaves to the service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from botocore.model import Shape
from botocore.validate import ParamValidator

from router.doubles.aws.call import Json

_NUMBERS = frozenset({"integer", "long", "float", "double"})


def violation(shape: Shape | None, members: Json) -> str | None:
    """Why the members do not fit the shape, or `None`: unknown, missing, of a wrong type, out of range or pattern."""
    if shape is None:
        return f"no parameters are taken: {sorted(members)}" if members else None
    report = ParamValidator().validate(members, shape)
    if report.has_errors():
        return str(report.generate_report())
    return next(_breaches(shape, members, ""), None)


def _breaches(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """What botocore does not check: maxima, patterns, enumerations."""
    if shape.serialization.get("eventstream") or getattr(shape, "is_document_type", False):
        return
    kind = shape.type_name
    if kind == "structure":
        for name, member in value.items():
            yield from _breaches(shape.members[name], member, f"{path}.{name}" if path else name)
    elif kind == "list":
        yield from _too_many(shape, value, path)
        for index, item in enumerate(value):
            yield from _breaches(shape.member, item, f"{path}[{index}]")
    elif kind == "map":
        yield from _too_many(shape, value, path)
        for key, item in value.items():
            yield from _breaches(shape.value, item, f"{path}.{key}")
    elif kind == "string":
        yield from _text_breaches(shape, value, path)
    elif kind in _NUMBERS and value > shape.metadata.get("max", value):
        yield f"Value at '{path}' must be at most {shape.metadata['max']}"


def _too_many(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if len(value) > shape.metadata.get("max", len(value)):
        yield f"'{path}' has more than {shape.metadata['max']} members"


def _text_breaches(shape: Shape, value: str, path: str) -> Iterator[str]:
    if len(value) > shape.metadata.get("max", len(value)):
        yield f"Value at '{path}' is longer than {shape.metadata['max']}"
    if shape.enum and value not in shape.enum:
        yield f"Value at '{path}' must be one of {shape.enum}"
    pattern = shape.metadata.get("pattern")
    if pattern is not None and _matches(pattern, value) is False:
        yield f"Value at '{path}' does not match {pattern}"


def _matches(pattern: str, value: str) -> bool | None:
    """`None`: the pattern is in a dialect that Python does not read."""
    try:
        return re.fullmatch(pattern, value) is not None
    except re.error:
        return None
