"""What the schema says to an editor (JSON Schema) and to a person who got it wrong (one plain sentence)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic_core import ErrorDetails

from router.policy.schema.aws import GUARDRAIL_VERSION, ROLE_ARN
from router.policy.schema.document import Document
from router.policy.schema.job import S3_PREFIX
from router.policy.schema.values import ENV_NAME, NAME, URL

Schema = Mapping[str, Any]
_FEW = 6

_KINDS: dict[str, str] = {
    "bool_type": "true or false",
    "dict_type": "a mapping such as {name: value}",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "model_type": "a mapping",
    "string_type": "text",
    "tuple_type": "a list",
}
_PATTERNS: dict[str, str] = {
    NAME: "a name is up to 63 letters, digits, `.`, `_` and `-`, and starts with a letter or digit",
    URL: "expected an address such as http://host:8000/v1",
    ENV_NAME: "expected the name of an environment variable such as OPENAI_API_KEY, not the key itself",
    S3_PREFIX: "expected a bucket and prefix such as s3://bucket/router",
    ROLE_ARN: "expected the ARN of a role such as arn:aws:iam::123456789012:role/router",
    GUARDRAIL_VERSION: "expected the number of a version, or DRAFT",
}


@cache
def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one policy document, for editors that complete and underline."""
    schema = Document.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Router policy"}


def fields_at(path: Iterable[str | int], schema: Schema | None = None) -> tuple[str, ...]:
    """The fields that may stand in the mapping at a path; steps the schema does not know are skipped."""
    whole = json_schema() if schema is None else schema
    here: list[Schema] = [whole]
    for step in path:
        below = [child for node in _branches(here, whole) if (child := _child(node, step)) is not None]
        here = below or here
    names = {name: None for node in _branches(here, whole) for name in node.get("properties", {})}
    return tuple(names)


def _branches(nodes: Iterable[Schema], whole: Schema) -> list[Schema]:
    """The nodes with references and alternatives followed."""
    found: list[Schema] = []
    for node in nodes:
        reference = node.get("$ref")
        if reference is not None:
            found += _branches([whole["$defs"][reference.rsplit("/", 1)[1]]], whole)
        found += _branches([*node.get("anyOf", ()), *node.get("oneOf", ())], whole)
        found.append(node)
    return found


def _child(node: Schema, step: str | int) -> Schema | None:
    child = node.get("items") if isinstance(step, int) else node.get("properties", {}).get(step)
    if child is None and isinstance(step, str):
        child = node.get("additionalProperties")
    return child if isinstance(child, Mapping) else None


def suggestion(word: str, known: Sequence[str]) -> str:
    """`, did you mean ...?` or nothing."""
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f", did you mean `{close[0]}`?" if close else ""


def wording(error: ErrorDetails, schema: Schema | None = None) -> str:
    """One schema error as a sentence that says what is wrong and what to write; `schema` is that of a policy document
    unless another is given."""
    kind = error["type"]
    if kind == "extra_forbidden":
        return _unknown(error, schema)
    if kind in _KINDS:
        quote = " (quote it if it is text)" if kind == "string_type" else ""
        fields = _few_fields(error, schema) if kind == "model_type" else ""
        return f"expected {_KINDS[kind]}{fields}, got {named(error['input'])}{quote}"
    special = _SPECIAL.get(kind)
    if special is not None:
        return special(error)
    return error["msg"].replace("Input should", "must").replace("String should", "text must")


def _missing(error: ErrorDetails) -> str:
    return f"missing required field `{error['loc'][-1]}`"


def _unknown(error: ErrorDetails, schema: Schema | None) -> str:
    *parent, name = error["loc"]
    known = fields_at(parent, schema)
    hint = suggestion(str(name), known)
    return f"unknown field `{name}`" + (hint or f"; there are: {', '.join(known)}")


def _few_fields(error: ErrorDetails, schema: Schema | None) -> str:
    """What the mapping holds, where that is little."""
    fields = fields_at(error["loc"], schema)
    return f" of {', '.join(fields)}" if 0 < len(fields) <= _FEW else ""


def _choice(error: ErrorDetails) -> str:
    options = re.findall(r"'([^']*)'", error["ctx"]["expected"])
    if not options:
        return f"must be {error['ctx']['expected'].lower()}"
    value = error["input"]
    hint = suggestion(value, options) if isinstance(value, str) else ""
    return f"{named(value)} is not one of {', '.join(options)}{hint}"


def _pattern(error: ErrorDetails) -> str:
    return _PATTERNS[error["ctx"]["pattern"]]


def _length(error: ErrorDetails) -> str:
    bound = error["ctx"].get("min_length", error["ctx"].get("max_length"))
    return f"expected {'at least' if error['type'] == 'too_short' else 'at most'} {bound} in the list"


_SPECIAL: dict[str, Callable[[ErrorDetails], str]] = {
    "enum": _choice,
    "literal_error": _choice,
    "missing": _missing,
    "string_pattern_mismatch": _pattern,
    "too_long": _length,
    "too_short": _length,
}


def named(value: object) -> str:
    """What a value is, for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value:g}"
    if isinstance(value, str):
        return f"`{value if len(value) <= 40 else value[:37] + '...'}`"
    return "a mapping" if isinstance(value, dict) else "a list"
