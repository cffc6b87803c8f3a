"""JSON schemas that senders bring: a subset that is checked in a bounded number of steps.

Understood: `type`, `enum`, `const`, `properties`, `required`, `additionalProperties`, `minProperties`,
`maxProperties`, `items`, `prefixItems`, `minItems`, `maxItems`, `uniqueItems`, `minLength`, `maxLength`, `pattern`,
`minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `multipleOf`, `anyOf`, `oneOf`, `allOf`, `not`, and `$ref`
to `#/$defs/NAME` or `#/definitions/NAME`. Annotations are passed over. Anything else is refused, for a schema that is
half understood would pass what it was written to catch.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from router.learning.verify.pattern import MAX_COST, MAX_TEXT, compiled, cost_of

_ANNOTATIONS = frozenset(
    {"$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples", "deprecated"}
    | {"readOnly", "writeOnly", "format", "strict"}
)
_NESTED = frozenset({"items", "additionalProperties", "not"})
_NESTED_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_MAX_STEPS = 20_000
_MAX_DEPTH = 64
_MAX_SCHEMAS = 10_000
_MAX_COST = 3 * MAX_COST
_WHOLE = 1e-9

Schema = dict[str, Any] | bool


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": _is_number,
    "integer": lambda value: _is_number(value) and float(value).is_integer(),
}
_BOUNDS: dict[str, Callable[[float, float], bool]] = {
    "minimum": operator.ge,
    "maximum": operator.le,
    "exclusiveMinimum": operator.gt,
    "exclusiveMaximum": operator.lt,
    "multipleOf": lambda value, step: abs(value / step - round(value / step)) < _WHOLE,
}
_SIZES: dict[str, tuple[type[str] | type[list[Any]] | type[dict[str, Any]], Callable[[int, float], bool]]] = {
    "minLength": (str, operator.ge),
    "maxLength": (str, operator.le),
    "minItems": (list, operator.ge),
    "maxItems": (list, operator.le),
    "minProperties": (dict, operator.ge),
    "maxProperties": (dict, operator.le),
}
_OF_OBJECTS = frozenset({"properties", "required", "additionalProperties"})
_OF_ARRAYS = frozenset({"items", "prefixItems", "uniqueItems"})
_OF_ALL = frozenset({"type", "enum", "const", "anyOf", "oneOf", "allOf", "not", "pattern"})
KEYWORDS = _OF_OBJECTS | _OF_ARRAYS | _OF_ALL | _BOUNDS.keys() | _SIZES.keys()
"""What is understood besides `$ref`."""


class TooLargeError(Exception):
    """The check took more steps than it may: nothing is known of the value."""


class JsonSchema:
    """A schema whose every keyword is understood; raises `ValueError` where one is not."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._defs: dict[str, Schema] = {}
        self._schemas = self._cost = 0
        self._patterns: set[str] = set()
        if isinstance(schema, dict):
            for place in ("$defs", "definitions"):
                for name, one in _object(schema.get(place, {}), place).items():
                    self._defs[f"#/{place}/{name}"] = one
        for one in (schema, *self._defs.values()):
            self._understand(one, 0)

    def fits(self, value: Any) -> bool:
        """Whether a decoded JSON value fits; raises `TooLargeError` where that takes too many steps to say."""
        return _Run(self._defs).fits(self._schema, value)

    def _understand(self, schema: Any, depth: int) -> None:
        if isinstance(schema, bool):
            return
        if not isinstance(schema, dict) or depth > _MAX_DEPTH:
            raise ValueError("each schema is an object or a boolean, nested 64 deep at most")
        self._schemas += 1
        if self._schemas > _MAX_SCHEMAS:
            raise ValueError(f"it has over {_MAX_SCHEMAS} schemas in it: shorten it")
        for keyword, given in schema.items():
            if keyword == "$ref":
                if not isinstance(given, str) or given not in self._defs:
                    raise ValueError("`$ref` may point to `#/$defs/NAME` of the same schema")
            elif keyword not in KEYWORDS and keyword not in _ANNOTATIONS:
                raise ValueError(
                    f"`{keyword}` is not understood; understood are {', '.join(sorted(KEYWORDS))} and $ref"
                )
            _well_formed(keyword, given)
            if keyword == "pattern":
                self._compile(given)
            for inner in _inner(keyword, given):
                self._understand(inner, depth + 1)

    def _compile(self, pattern: str) -> None:
        if pattern in self._patterns:
            return
        self._patterns.add(pattern)
        self._cost += cost_of(pattern)
        if self._cost > _MAX_COST:
            raise ValueError("its patterns are too large together: leave some out, or write [A-Za-z0-9_] for `\\w`")
        compiled(pattern)


def _inner(keyword: str, given: Any) -> list[Any]:
    """The schemas that stand under a keyword."""
    if keyword == "properties":
        return list(_object(given, keyword).values())
    if keyword in _NESTED_LISTS:
        return list(given)
    return [given] if keyword in _NESTED else []


def _object(given: Any, keyword: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"`{keyword}` takes an object")
    return given


def _well_formed(keyword: str, given: Any) -> None:
    """Raise `ValueError` where the argument of a keyword is of the wrong kind."""
    if keyword in _NESTED_LISTS or keyword == "enum":
        is_well = isinstance(given, list) and bool(given)
    elif keyword == "required":
        is_well = isinstance(given, list) and all(isinstance(name, str) for name in given)
    elif keyword == "type":
        names = given if isinstance(given, list) else [given]
        is_well = all(isinstance(name, str) and name in _TYPES for name in names)
    elif keyword in _BOUNDS or keyword in _SIZES:
        is_well = _is_number(given) and (keyword != "multipleOf" or given > 0)
    elif keyword == "pattern":
        is_well = isinstance(given, str)
    else:
        is_well = True
    if not is_well:
        raise ValueError(f"`{keyword}` does not take {str(given)[:60]}")


class _Run:
    """One check of one value, with its steps counted."""

    def __init__(self, defs: dict[str, Schema]) -> None:
        self._defs = defs
        self._steps = self._depth = self._text = 0

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MAX_STEPS:
            raise TooLargeError

    def fits(self, schema: Schema, value: Any) -> bool:
        """Whether a value fits a schema."""
        self._spend(1)
        if isinstance(schema, bool):
            return schema
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise TooLargeError
        try:
            return all(self._keyword(keyword, given, value, schema) for keyword, given in schema.items())
        finally:
            self._depth -= 1

    def _keyword(self, keyword: str, given: Any, value: Any, schema: dict[str, Any]) -> bool:
        self._spend(len(given) if isinstance(given, list | dict) else 1)
        if keyword in _BOUNDS:
            return not _is_number(value) or _BOUNDS[keyword](value, given)
        if keyword in _SIZES:
            kind, holds = _SIZES[keyword]
            return not isinstance(value, kind) or holds(len(value), given)
        if keyword in _OF_OBJECTS:
            return not isinstance(value, dict) or self._of_object(keyword, given, value, schema)
        if keyword in _OF_ARRAYS:
            return not isinstance(value, list) or self._of_array(keyword, given, value, schema)
        return self._of_all(keyword, given, value)

    def _of_object(self, keyword: str, given: Any, value: dict[str, Any], schema: dict[str, Any]) -> bool:
        if keyword == "properties":
            return all(self.fits(one, value[name]) for name, one in given.items() if name in value)
        if keyword == "required":
            return all(name in value for name in given)
        self._spend(len(value))
        known = schema.get("properties", {})
        return all(self.fits(given, one) for name, one in value.items() if name not in known)

    def _of_array(self, keyword: str, given: Any, value: list[Any], schema: dict[str, Any]) -> bool:
        if keyword == "items":
            return all(self.fits(given, one) for one in value[len(schema.get("prefixItems", ())) :])
        if keyword == "prefixItems":
            return all(self.fits(one, item) for one, item in zip(given, value, strict=False))
        return not given or not any(self._same(one, other) for i, one in enumerate(value) for other in value[:i])

    def _of_all(self, keyword: str, given: Any, value: Any) -> bool:
        match keyword:
            case "type":
                return any(_TYPES[name](value) for name in (given if isinstance(given, list) else (given,)))
            case "const":
                return self._same(value, given)
            case "enum":
                return any(self._same(value, one) for one in given)
            case "pattern":
                return not isinstance(value, str) or self._matches(given, value)
        return self._joined(keyword, given, value)

    def _joined(self, keyword: str, given: Any, value: Any) -> bool:
        match keyword:
            case "anyOf":
                return any(self.fits(one, value) for one in given)
            case "oneOf":
                return sum(self.fits(one, value) for one in given) == 1
            case "allOf":
                return all(self.fits(one, value) for one in given)
            case "not":
                return not self.fits(given, value)
            case "$ref":
                return self.fits(self._defs[given], value)
        return True

    def _matches(self, pattern: str, text: str) -> bool:
        self._text += len(text)
        if self._text > MAX_TEXT:
            raise TooLargeError
        return compiled(pattern).found_in(text)

    def _same(self, one: Any, other: Any) -> bool:
        """Equality of JSON: true is not 1. What it looks at costs steps."""
        self._spend(1)
        if isinstance(one, bool) is not isinstance(other, bool):
            return False
        if isinstance(one, list) and isinstance(other, list):
            return len(one) == len(other) and all(self._same(a, b) for a, b in zip(one, other, strict=True))
        if isinstance(one, dict) and isinstance(other, dict):
            return one.keys() == other.keys() and all(self._same(one[key], other[key]) for key in one)
        return bool(one == other)
