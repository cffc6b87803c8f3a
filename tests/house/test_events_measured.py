"""The house: every event is told to someone, every error has a code that is known and an HTTP status."""

from __future__ import annotations

import ast
import io
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import structlog
from prometheus_client import CollectorRegistry

import router
from bench.traffic import policy
from router.core import stability
from router.domain import errors
from router.domain.errors import RouterError
from router.domain.events import Event
from router.ingress.http_answers import status_of
from router.telemetry.labels import error_codes
from router.telemetry.logs import configure
from router.telemetry.metrics import Metrics
from router.telemetry.sink import Subscriber

SOURCES = sorted(Path(router.__file__).parent.rglob("*.py"))
OPENAI_TYPES = {"api_error", "invalid_request_error", "rate_limit_error", "timeout_error"}


@pytest.fixture
def subscribers() -> Iterator[tuple[Subscriber, ...]]:
    """Everyone who is told at the level a daemon runs at."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield (*Metrics(policy(), CollectorRegistry()).subscribers, configure(io.StringIO()))
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def error_classes(root: type[RouterError] = RouterError) -> Iterator[type[RouterError]]:
    """The tree as `domain/errors.py` draws it."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from error_classes(child)


def carrying(cls: type[RouterError], code: str) -> RouterError:
    """An instance with this code."""
    error = cls("x")
    error.code = code  # type: ignore[misc]
    return error


def constants(node: ast.expr, names: dict[str, ast.expr]) -> Iterator[str]:
    """The strings an expression can be: a constant, either side of a choice, or what a name was given."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from constants(body, names)
            yield from constants(orelse, names)
        case ast.Name(id=name) if name in names:
            yield from constants(names[name], {})
        case _:
            return


def assigned(statements: Iterable[ast.AST]) -> dict[str, ast.expr]:
    """What is assigned to single names by these statements."""
    return {
        target.id: node.value
        for node in statements
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def codes_raised() -> Iterator[tuple[str, type[RouterError], str]]:
    """Where, which class, which code: for every `SomeError(..., code=...)` in a function of the sources."""
    classes = {cls.__name__: cls for cls in error_classes()}
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        for function in functions:
            names = assigned(tree.body) | assigned(ast.walk(function))
            for node in ast.walk(function):
                if not isinstance(node, ast.Call):
                    continue
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                for keyword in node.keywords:
                    if name in classes and keyword.arg == "code":
                        for code in constants(keyword.value, names):
                            yield f"{path.name}:{node.lineno}", classes[name], code


def test_every_event_is_measured_or_logged(subscribers: tuple[Subscriber, ...]) -> None:
    """A new event fails here until metrics or logs take it."""
    told = {event_type for subscriber in subscribers for event_type in subscriber.handlers()}
    assert {event.__name__ for event in Event.__subclasses__()} - {event.__name__ for event in told} == set()


def test_nobody_listens_for_what_is_no_event(subscribers: tuple[Subscriber, ...]) -> None:
    """A handler for a type that is never emitted is dead."""
    known = set(Event.__subclasses__())
    assert all(event_type in known for subscriber in subscribers for event_type in subscriber.handlers())


def test_subscribers_have_names_of_their_own(subscribers: tuple[Subscriber, ...]) -> None:
    """Failures are counted by name."""
    names = [subscriber.name for subscriber in subscribers]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("error", list(error_classes()))
def test_every_code_has_an_http_status(error: type[RouterError]) -> None:
    """Each code of each class is answered with a 4xx or 5xx and one of OpenAI's error types."""
    for code in (error.code, *error.codes):
        assert 400 <= status_of(carrying(error, code)) < 600
    assert error.openai_type in OPENAI_TYPES


@pytest.mark.parametrize("error", list(error_classes()))
def test_a_retryable_error_has_a_status_that_sdks_retry(error: type[RouterError]) -> None:
    """What says it is retryable is answered with a status that clients retry: 408, 409, 429 or 5xx."""
    if error.retryable:
        for code in (error.code, *error.codes):
            status = status_of(carrying(error, code))
            assert status in (408, 409, 429) or status >= 500, code


def test_every_code_raised_is_one_its_class_lists() -> None:
    """A code is a metric label and a wire value: it stands in the error tree before it is used."""
    raised = list(codes_raised())
    assert len(raised) > 10, "the scan finds what it looks for"
    unlisted = {
        f"{where}: {code} is not in {cls.__name__}.codes"
        for where, cls, code in raised
        if code not in {cls.code, *cls.codes}
    }
    assert unlisted == set()


def test_codes_are_words_that_can_be_labels() -> None:
    """Lower-case words joined by underscores, each class with a code of its own."""
    codes = error_codes()
    assert all(code.isidentifier() and code == code.lower() for code in codes)
    own = [cls.code for cls in error_classes()]
    assert len(set(own)) == len(own)


def test_the_tree_in_the_docstring_names_every_class() -> None:
    """The drawing at the head of errors.py is complete."""
    drawn = errors.__doc__ or ""
    assert [cls.__name__ for cls in error_classes() if cls.__name__ not in drawn] == []


def test_the_inventory_of_automatic_changes_names_events_with_old_new_and_reason() -> None:
    """Each row names an event that exists; one whose name says that something changed carries why."""
    known = {event.__name__: event for event in Event.__subclasses__()}
    rows = [line.split("|") for line in (stability.__doc__ or "").splitlines() if line.startswith("| ")][1:]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row[2])}
    assert len(rows) >= 15
    assert named - known.keys() == set()
    movers = {name for name in known if name.endswith(("Update", "Changed")) or name == "WantedReplicas"}
    assert movers - named == set()
    for name in movers:
        fields = set(known[name].__struct_fields__)
        assert "reason" in fields, name
        assert {"old", "new"} <= fields or {"old_tokens", "new_tokens"} <= fields or fields & {"state", "open"}, name
