"""YAML text to a schema document that remembers where everything stood.

PyYAML composes nodes with marks; nothing is constructed, so no tag can run code. What YAML allows but people
do not mean (duplicate keys, foreign tags, aliases that multiply) is refused with the line it stands on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import yaml
from msgspec import Struct
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from router.domain.errors import PolicyError, RouterError
from router.policy.schema.document import Document
from router.policy.schema.json import wording

MAX_CHARS = 1_000_000
MAX_DEPTH = 24
MAX_NODES = 20_000
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset(_TAG + t for t in ("str", "timestamp", "value", "merge"))
_LOADER: type[yaml.SafeLoader] | type[yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONSTRUCTOR = yaml.constructor.SafeConstructor()

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
Path = Sequence[str | int]
T = TypeVar("T")


class PolicyErrors(PolicyError):
    """Everything that is wrong with a set of documents; `problems` holds each with its place."""

    def __init__(self, problems: Sequence[PolicyError]) -> None:
        RouterError.__init__(self, "\n".join(str(p) for p in problems))
        self.problems = tuple(problems)
        first = self.problems[0]
        self.file, self.line, self.column, self.path = first.file, first.line, first.column, first.path
        self.problem = first.problem


class Place(NamedTuple):
    """Where something stands: line and column from 1, path as people write it (`classes[0].match`)."""

    line: int
    column: int
    path: str


class Tree(NamedTuple):
    """One YAML document of a file: its nodes, and the line on which it begins, its `---` where it has one."""

    root: yaml.Node
    line: int


class Source(Struct, frozen=True):
    """One accepted document and the nodes it was read from (`None` for a file of comments only)."""

    file: str
    document: Document
    root: yaml.Node | None

    def problem(self, path: Path, message: str, *, key: bool = False) -> PolicyError:
        """An error placed at a path: at the value, or at its key."""
        return problem_at(self.file, self.root, path, message, key=key)


def problem_at(file: str, root: yaml.Node | None, path: Path, message: str, *, key: bool = False) -> PolicyError:
    """An error placed at a path of one document of a file: at the value, or at its key."""
    line, column, shown = locate(root, path, key=key)
    return PolicyError(message, file=file, line=line, column=column, path=shown)


def locate(root: yaml.Node | None, path: Path, *, key: bool = False) -> Place:
    """The place of a path. Steps that are not there are skipped, so a missing field is at its parent."""
    if root is None:
        return Place(1, 1, "")
    node, mark, shown = root, root.start_mark, ""
    for step in path:
        found = _step(node, step)
        if found is None:
            continue
        key_node, node = found
        mark = (key_node if key and key_node is not None else node).start_mark
        shown += f"[{step}]" if isinstance(step, int) else f".{step}"
    return Place(*_from_one(mark), shown.lstrip("."))


def _step(node: yaml.Node, step: str | int) -> tuple[yaml.Node | None, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return None, node.value[step]
    if isinstance(node, yaml.MappingNode):
        for key_node, value in node.value:
            if key_node.value == step:
                return key_node, value
    return None


def read_document(file: str, text: str) -> tuple[Source | None, tuple[PolicyError, ...]]:
    """One file of the router's own: the document, or everything that is wrong with it."""
    try:
        trees = compose(file, text)
    except PolicyError as error:
        return None, (error,)
    return read_source(file, trees)


def read_source(file: str, trees: Sequence[Tree]) -> tuple[Source | None, tuple[PolicyError, ...]]:
    """The one document that a file holds, or everything that is wrong with it."""
    if len(trees) > 1:
        message = "one file holds one document; put the part after `---` in a file of its own"
        return None, (PolicyError(message, file=file, line=trees[1].line, column=1),)
    root = trees[0].root if trees else None
    document, problems = read_node(file, root, Document.model_validate_json, wording)
    return (None if document is None else Source(file, document, root)), problems


def read_node(
    file: str, root: yaml.Node | None, validate: Callable[[str], T], word: Callable[[ErrorDetails], str]
) -> tuple[T | None, tuple[PolicyError, ...]]:
    """What a model makes of a node tree (`validate` takes JSON), or everything that is wrong with it, by line."""
    reading = _Reading(file)
    try:
        value = reading.plain(root, 0) if root is not None else {}
    except PolicyError as error:
        return None, (error,)
    problems = [*reading.problems]
    found = None
    try:
        found = validate(json.dumps(value))
    except ValidationError as error:
        seen = {(p.line, p.column) for p in problems}
        for details in _causes(error.errors(include_url=False)):
            line, column, path = locate(root, details["loc"], key=details["type"] == "extra_forbidden")
            if (line, column) not in seen:
                problems.append(PolicyError(word(details), file=file, line=line, column=column, path=path))
    problems.sort(key=lambda p: (p.line, p.column))
    return (None if problems else found), tuple(problems)


def _causes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without lists that are too short only because an item in them is wrong."""
    places = [e["loc"] for e in errors]
    return [e for e in errors if e["type"] != "too_short" or not any(_is_below(p, e["loc"]) for p in places)]


def _is_below(place: tuple[str | int, ...], above: tuple[str | int, ...]) -> bool:
    return len(place) > len(above) and place[: len(above)] == above


def compose(file: str, text: str) -> list[Tree]:
    """The documents of a file (none where there are comments only), after a look at the events: the composer recurses,
    so depth is bounded first. Raises `PolicyError`."""
    if not text.strip():
        raise PolicyError("the file is empty: delete it, or write at least one comment", file=file, line=1, column=1)
    if len(text) > MAX_CHARS:
        raise PolicyError(f"longer than {MAX_CHARS} characters", file=file, line=1, column=1)
    if bad := _UNPRINTABLE.search(text, 1 if text[0] == "\ufeff" else 0):
        before = text[: bad.start()]
        line, column = before.count("\n") + 1, bad.start() - before.rfind("\n")
        message = f"character U+{ord(bad[0]):04X} is not allowed"
        raise PolicyError(message, file=file, line=line, column=column)
    try:
        lines = _bound_depth(file, text)
        return [Tree(root, line) for root, line in zip(yaml.compose_all(text, Loader=_LOADER), lines, strict=True)]
    except yaml.MarkedYAMLError as error:
        raise _syntax_problem(file, error) from None


def _bound_depth(file: str, text: str) -> list[int]:
    """The lines on which documents begin, from 1; raises where one is nested too deep."""
    lines = []
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            lines.append(_from_one(event.start_mark)[0])
        if depth > MAX_DEPTH:
            line, column = _from_one(event.start_mark)
            raise PolicyError(f"nested deeper than {MAX_DEPTH} levels", file=file, line=line, column=column)
    return lines


class _Mark(Protocol):
    line: int
    column: int


def _from_one(mark: _Mark | None) -> tuple[int, int]:
    """Line and column counted from 1, as editors do."""
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def _syntax_problem(file: str, error: yaml.MarkedYAMLError) -> PolicyError:
    line, column = _from_one(error.problem_mark or error.context_mark)
    problem = error.problem or error.context or "unreadable"
    return PolicyError(f"not YAML: {_in_plain_words(problem)}", file=file, line=line, column=column)


def _in_plain_words(problem: str) -> str:
    if "tab character" in problem:
        return "tabs may not indent, use spaces"
    if "cannot start any token" in problem:
        return "this character cannot start a value: indent with spaces, not tabs, and quote text that starts so"
    if "mapping values are not allowed" in problem:
        return "a second `: ` on the line, or wrong indentation; quote text that holds `: `"
    if "did not find expected key" in problem:
        return "expected a key here: the indentation differs from the lines above, or a bracket or quote is open"
    return problem


class _Reading:
    """Nodes to plain values; problems that still leave something to validate are collected."""

    def __init__(self, file: str) -> None:
        self.problems: list[PolicyError] = []
        self._file = file
        self._nodes = 0

    def plain(self, node: yaml.Node, depth: int) -> Plain:
        """The value of a node; raises when aliases multiply it beyond reason."""
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise self._problem(node, "aliases (`*name`) make the document too large, or refer to themselves")
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.plain(item, depth + 1) for item in node.value]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        return self._note(node, f"the tag `{node.tag}` is not allowed")

    def _mapping(self, node: yaml.MappingNode, depth: int) -> Plain:
        result: dict[str, Plain] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in _TEXT_TAGS:
                self._note(key_node, "a key must be text; quote it")
            elif key in lines:
                self._note(key_node, f"`{key}` is here twice; the first is on line {lines[key]}")
            else:
                lines[key] = key_node.start_mark.line + 1
                result[key] = self.plain(value_node, depth + 1)
        return result

    def _scalar(self, node: yaml.ScalarNode) -> Plain:
        if node.tag in _TEXT_TAGS:
            return str(node.value)
        if node.tag == _TAG + "null":
            return None
        try:
            if node.tag == _TAG + "bool":
                return bool(_CONSTRUCTOR.construct_yaml_bool(node))
            if node.tag == _TAG + "float":
                return float(_CONSTRUCTOR.construct_yaml_float(node))
            if node.tag == _TAG + "int":
                number = int(_CONSTRUCTOR.construct_yaml_int(node))
                return number if abs(number) < 2**63 else self._note(node, "a number out of range")
        except (ValueError, OverflowError, KeyError):
            return self._note(node, "not a number that can be read; quote it if it is text")
        return self._note(node, f"the tag `{node.tag}` is not allowed")

    def _note(self, node: yaml.Node, message: str) -> Plain:
        self.problems.append(self._problem(node, message))
        return None

    def _problem(self, node: yaml.Node, message: str) -> PolicyError:
        line, column = _from_one(node.start_mark)
        return PolicyError(message, file=self._file, line=line, column=column)
