"""Where did the author write what a compiled class says?"""

from __future__ import annotations

from router.domain.slo import Indicator
from router.policy.checks.problem import Problem, Severity, as_problem
from router.policy.compile_class import promises
from router.policy.parse import Path, Source
from router.policy.schema.classes import ClassTerms, ObjectiveTerms
from router.policy.schema.fleet import DeploymentSpec
from router.policy.written import Written


class Places:
    """Findings about a compiled policy, placed in the documents it came from.

    What a class does not say itself is looked for in the defaults; what nobody says stands where the class has its
    name. A class that was added unasked has no place but the defaults: what would stand elsewhere is not told.
    """

    def __init__(self, written: Written) -> None:
        self._classes = {w.spec.name: w for w in written.classes}
        self._sources = written.sources
        self._defaults = next((t for t in written.terms() if t.path == ("defaults",)), None)

    def warn(self, code: str, name: str, path: Path, message: str, *, key: bool = False) -> Problem | None:
        """A warning about a class; the path begins with a field of `ClassSpec`, or is empty for all of it."""
        place = self._place(name, path)
        if place is None:
            return None
        source, where = place
        return as_problem(source.problem(where, message, key=key), severity=Severity.WARNING, code=code)

    def warn_deployment(self, code: str, group: str, message: str, field: Path = ("name",)) -> Problem | None:
        """A warning about a deployment, by the name it has in the documents, or about one of its fields."""
        for source, path, spec in self._deployments():
            if spec.name == group:
                return as_problem(source.problem((*path, *field), message), severity=Severity.WARNING, code=code)
        return None

    def warn_bound(self, code: str, field: str, message: str) -> Problem | None:
        """A warning about one of the bounds, where it was written."""
        for source in self._sources:
            bounds = source.document.bounds
            if bounds is not None and field in bounds.model_fields_set:
                error = source.problem(("bounds", field), message)
                return as_problem(error, severity=Severity.WARNING, code=code)
        return None

    def objective(self, name: str, indicator: Indicator) -> Path:
        """The path of what an objective of a class compares with."""
        terms = self.saying(name, "objectives")
        for where, found, value in promises(terms) if terms is not None else ():
            if found is indicator:
                here = ("objectives", where)
                if not isinstance(value, ObjectiveTerms):
                    return here
                return (*here, "threshold" if value.threshold is not None else "slo")
        return ("objectives",)

    def says(self, name: str, field: str) -> bool:
        """Whether the class itself writes this field."""
        return name in self._classes and field in self._classes[name].spec.model_fields_set

    def saying(self, name: str, field: str) -> ClassTerms | None:
        """The terms that a field of a class comes from: its own, else the defaults."""
        if self.says(name, field):
            return self._classes[name].spec
        return self._defaults.terms if self._defaults is not None else None

    def _place(self, name: str, path: Path) -> tuple[Source, Path] | None:
        written = self._classes.get(name)
        if written is not None and path and self.says(name, str(path[0])):
            return written.source, (*written.path, *path)
        defaults = self._defaults
        if path and defaults is not None and path[0] in defaults.terms.model_fields_set:
            return defaults.source, ("defaults", *path)
        return (written.source, (*written.path, "name")) if written is not None else None

    def _deployments(self) -> list[tuple[Source, Path, DeploymentSpec]]:
        return [
            (source, (key, i), spec)
            for source in self._sources
            for key, specs in (("deployments", source.document.deployments), ("fleet", source.document.fleet))
            for i, spec in enumerate(specs)
        ]
