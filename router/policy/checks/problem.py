"""One finding and its place, as editors and pull requests show it."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from router.domain.errors import PolicyError


class Severity(StrEnum):
    """An error keeps the policy from being taken up, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


class Problem(Struct, frozen=True):
    """What is wrong and where: line and column from 1, `path` as people write it, `code` a stable word for the kind."""

    severity: Severity
    code: str
    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        field = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}:{self.column}: {self.severity}: {field}{self.message}"


def as_problem(error: PolicyError, *, severity: Severity = Severity.ERROR, code: str | None = None) -> Problem:
    """A placed error as a finding."""
    return Problem(severity, code or error.code, error.file, error.line, error.column, error.path, error.problem)
