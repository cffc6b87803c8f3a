"""Which class does a request fall in? The first whose every condition holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import translate

from router.domain.errors import RequestError
from router.domain.request import Request
from router.domain.slo import Match, RequestClass

Test = Callable[[str], object]
Pairs = tuple[tuple[str, str], ...]
Conditions = tuple[tuple[int, Callable[..., object]], ...]

REQUEST_CLASS, TOPIC, TENANT, MODEL, USE_CASE, ATTRIBUTES, INPUT_TOKENS = range(7)


def topic_filter_problem(topic_filter: str) -> str | None:
    """Why an MQTT topic filter is malformed, or `None` (MQTT 5.0, section 4.7.1)."""
    levels = topic_filter.split("/")
    if not topic_filter:
        return "an empty topic filter matches nothing"
    if any("+" in level and level != "+" for level in levels):
        return "`+` must stand alone between slashes"
    if any("#" in level and level != "#" for level in levels) or "#" in levels[:-1]:
        return "`#` must be the last level and stand alone"
    return None


def _topic_pattern(topic_filter: str) -> str:
    """A regular expression for one topic filter; `a/#` also matches `a` itself."""
    levels = topic_filter.split("/")
    tail = levels[-1] == "#"
    if tail:
        levels.pop()
    body = "/".join("[^/]*" if level == "+" else re.escape(level) for level in levels)
    if not levels:
        return "(?s:.*)"
    return f"{body}(?s:/.*)?" if tail else body


def _any_of(values: Sequence[str], wild: str, pattern: Callable[[str], str]) -> Test:
    """True for a text equal to one of the values, or matched by one that holds a `wild` character."""
    exact = frozenset(v for v in values if not any(c in wild for c in v))
    patterns = [pattern(v) for v in values if v not in exact]
    if not patterns:
        return exact.__contains__
    joined = re.compile("|".join(f"(?:{p})" for p in (*patterns, *map(re.escape, exact))))
    return joined.fullmatch


def _globs(values: Sequence[str]) -> Test:
    return _any_of(values, "*?[", translate)


def _attributes(required: Pairs) -> Callable[[Pairs], bool]:
    """True when every required user property is there with a matching value."""
    tests = tuple((key, _globs([value])) for key, value in required)

    def holds(attributes: Pairs) -> bool:
        return all(any(k == key and test(v) for k, v in attributes) for key, test in tests)

    return holds


def _between(low: int | None, high: int | None) -> Callable[[int], bool]:
    least, most = low or 0, float("inf") if high is None else high
    return lambda tokens: least <= tokens <= most


def _compile(match: Match) -> Conditions:
    """Only the conditions that are stated, each as the index of the value it reads and its test."""
    conditions: list[tuple[int, Callable[..., object]]] = []
    for index, values in (
        (REQUEST_CLASS, match.classes),
        (TENANT, match.tenants),
        (MODEL, match.models),
        (USE_CASE, match.use_cases),
    ):
        if values:
            conditions.append((index, _globs(values)))
    if match.topics:
        conditions.append((TOPIC, _any_of(match.topics, "+#", _topic_pattern)))
    if match.min_input_tokens is not None or match.max_input_tokens is not None:
        conditions.append((INPUT_TOKENS, _between(match.min_input_tokens, match.max_input_tokens)))
    if match.attributes:
        conditions.append((ATTRIBUTES, _attributes(match.attributes)))
    return tuple(conditions)


def _values(request: Request, use_case: str) -> tuple[str | Pairs | int, ...]:
    """What conditions read, by their index."""
    return (
        request.request_class or "",
        request.topic,
        request.tenant,
        request.model or "",
        use_case,
        request.attributes,
        request.input_tokens,
    )


def conditions_met(match: Match, request: Request, use_case: str) -> tuple[tuple[int, bool], ...]:
    """Each condition that is stated, by its index, and whether the request meets it."""
    values = _values(request, use_case)
    return tuple((index, bool(test(values[index]))) for index, test in _compile(match))


class ClassMatcher:
    """The classes of one policy, ready to be asked.

    A request may name its class (`request_class`, or `model` equal to a class name): then the conditions of
    that class do not matter, except its tenants: a class kept for some tenants cannot be claimed by others.
    """

    def __init__(self, classes: Sequence[RequestClass]) -> None:
        self._ordered = tuple((_compile(c.match), c) for c in classes)
        self._by_claim = tuple(pair for pair in self._ordered if pair[1].match.classes)
        self._named = {c.name: (c, _globs(c.match.tenants) if c.match.tenants else None) for c in classes}

    def classify(self, request: Request, use_case: str) -> RequestClass:
        """The class of a request whose use case was estimated.

        Raises `RequestError` (unknown_class) when the request names a class that is not there for its tenant.
        """
        claimed = request.request_class
        if claimed is None and request.model in self._named:
            claimed = request.model
        named = self._named.get(claimed) if claimed is not None else None
        if named is not None and (named[1] is None or named[1](request.tenant)):
            return named[0]
        found = self._first(self._ordered if claimed is None else self._by_claim, request, use_case)
        if found is None:
            known = ", ".join(self._named)
            raise RequestError(
                f"no request class `{claimed}` for this tenant; there are: {known}",
                code="unknown_class",
                param="class",
            )
        return found

    @staticmethod
    def _first(
        candidates: Sequence[tuple[Conditions, RequestClass]], request: Request, use_case: str
    ) -> RequestClass | None:
        values = _values(request, use_case)
        for conditions, request_class in candidates:
            for index, test in conditions:
                if not test(values[index]):
                    break
            else:
                return request_class
        return None


def classify(classes: Sequence[RequestClass], request: Request, use_case: str) -> RequestClass:
    """One question asked of classes that are not kept compiled; the daemon keeps a `ClassMatcher`."""
    return ClassMatcher(classes).classify(request, use_case)
