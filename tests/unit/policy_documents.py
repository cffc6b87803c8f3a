"""Documents drawn from a JSON Schema, as far as the router's own schemas go: every one is accepted by it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Schema = Mapping[str, Any]
WORDS = ("small", "large", "llama-3.1-8b", "eu", "extraction", "chat", "a", "b", "s", "*", "x/#", "auto", "ms", "none")
ROLE = "arn:aws:iam::123456789012:role/r"
FITTING = ("a", "b", "c", "5s", "2m", "90%", "http://h/v1", "DRAFT", "s3://bucket/a", ROLE)
"""Of each pattern of the schemas at least one."""
FEW_FIELDS = 5


class Drawn:
    """Strategies for the parts of one schema; references are followed once and kept."""

    def __init__(self, schema: Schema) -> None:
        self._definitions = schema.get("$defs", {})
        self._known: dict[str, st.SearchStrategy[Any]] = {}
        self.whole = self.of(schema)

    def of(self, node: Schema) -> st.SearchStrategy[Any]:
        """Values that a node of the schema accepts."""
        if "$ref" in node:
            return self._reference(node["$ref"].rsplit("/", 1)[1])
        for word in ("anyOf", "oneOf"):
            if word in node:
                return st.one_of([self.of(child) for child in node[word]])
        if "const" in node:
            return st.just(node["const"])
        if "enum" in node:
            return st.sampled_from(node["enum"])
        match node.get("type"):
            case "object":
                return self._mapping(node)
            case "array":
                low, high = node.get("minItems", 0), node.get("maxItems", 2)
                return st.lists(self.of(node.get("items", {})), min_size=low, max_size=max(low, min(high, 3)))
            case kind:
                return _scalar(node, kind)

    def _reference(self, name: str) -> st.SearchStrategy[Any]:
        if name not in self._known:
            self._known[name] = st.deferred(lambda: self.of(self._definitions[name]))
        return self._known[name]

    def _mapping(self, node: Schema) -> st.SearchStrategy[Any]:
        fields = {name: self.of(child) for name, child in node.get("properties", {}).items()}
        required = [name for name in node.get("required", ()) if name in fields]
        others = [name for name in fields if name not in required]
        more = node.get("additionalProperties")
        if isinstance(more, Mapping) and not fields:
            return st.dictionaries(st.sampled_from(WORDS), self.of(more), max_size=2)

        @st.composite
        def mapping(draw: st.DrawFn) -> dict[str, Any]:
            some = draw(st.lists(st.sampled_from(others), unique=True, max_size=FEW_FIELDS)) if others else []
            return {name: draw(fields[name]) for name in (*required, *some)}

        return mapping()


def _scalar(node: Schema, kind: str | None) -> st.SearchStrategy[Any]:
    if kind == "boolean":
        return st.booleans()
    if kind == "null":
        return st.none()
    if kind in ("integer", "number"):
        return _number(node, whole=kind == "integer")
    if kind == "string":
        pattern = node.get("pattern")
        if pattern is not None:
            fitting = [word for word in FITTING if re.search(pattern, word)]
            return st.sampled_from(fitting) | st.from_regex(pattern, fullmatch=True).map(str.strip)
        return st.one_of(st.sampled_from(WORDS), st.text(min_size=node.get("minLength", 0), max_size=4))
    return st.sampled_from((None, 1, "x", [], {}))


def _number(node: Schema, *, whole: bool) -> st.SearchStrategy[Any]:
    low, high = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    least = low if low is not None else above if above is not None else -1
    most = high if high is not None else below if below is not None else 10**6
    some = [v for v in (0, 1, 2, 5, 0.5, 0.25, 100) if least <= v <= most and v not in (above, below)]
    if whole:
        return st.integers(int(least), int(most)) | st.sampled_from([v for v in some if v == int(v)] or [int(most)])
    anything = st.floats(least, most, exclude_min=above is not None, exclude_max=below is not None)
    return st.sampled_from(some) | anything if some else anything
