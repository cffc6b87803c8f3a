"""Classes beside each other: names, and what they match."""

from __future__ import annotations

from collections.abc import Iterator

from router.complexity.features import USE_CASES
from router.domain.errors import PolicyError
from router.domain.slo import Match
from router.policy.compile_class import compile_match
from router.policy.parse import Path, Source
from router.policy.schema.classes import ClassSpec
from router.policy.schema.json import suggestion
from router.policy.written import Written

DEFAULT_CLASS = "default"


def check_classes(written: Written) -> Iterator[PolicyError]:
    """Names taken twice, what matches nothing, and more than one class that matches everything."""
    names: dict[str, str] = {}
    catch_all: str | None = None
    for source, path, spec in written.classes:
        if spec.name in names:
            message = f"the class `{spec.name}` is already in {names[spec.name]}: rename one"
            yield source.problem((*path, "name"), message)
        names.setdefault(spec.name, source.file)
        yield from _check_match(source, path, spec)
        if compile_match(spec.match) == Match():
            if catch_all is not None:
                message = f"`{spec.name}` matches everything, and so does `{catch_all}`: give one a `match`"
                yield source.problem(path, message)
            catch_all = catch_all or spec.name
        elif spec.name == DEFAULT_CLASS:
            message = "the class `default` takes what no other class matches: drop its `match`, or rename it"
            yield source.problem((*path, "match"), message, key=True)


def _check_match(source: Source, path: Path, spec: ClassSpec) -> Iterator[PolicyError]:
    tokens = spec.match.input_tokens
    if tokens.min is not None and tokens.max is not None and tokens.min > tokens.max:
        yield source.problem((*path, "match", "input_tokens"), "`min` is above `max`: nothing matches")
    for i, name in enumerate(spec.match.use_cases):
        if name not in USE_CASES and not any(c in name for c in "*?["):
            hint = suggestion(name, USE_CASES) or ":"
            message = f"no use case is called `{name}`{hint} there are {', '.join(USE_CASES)}"
            yield source.problem((*path, "match", "use_cases", i), message)
