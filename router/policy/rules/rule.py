"""The parts of a Prometheus rules file."""

from __future__ import annotations

from msgspec import Struct

from router.policy.rules.burn import window_text


class Recording(Struct, frozen=True):
    """A series that is kept: its name (`level:metric:operations`) and what it is."""

    record: str
    expr: str

    def written(self) -> dict[str, object]:
        """As it stands in the file."""
        return {"record": self.record, "expr": self.expr}


class Alert(Struct, frozen=True):
    """What must be told to somebody. Its labels are the severity and those of the series that it is about."""

    name: str
    expr: str
    severity: str
    summary: str
    description: str
    runbook: str
    pending_s: float = 0.0
    """How long it must hold before it fires."""
    labels: tuple[tuple[str, str], ...] = ()
    """What it is about, where it is about one thing only; no two alerts have the same name and labels."""

    def written(self) -> dict[str, object]:
        """As it stands in the file."""
        pending = {"for": window_text(self.pending_s)} if self.pending_s else {}
        return {
            "alert": self.name,
            "expr": self.expr,
            **pending,
            "labels": {"severity": self.severity, **dict(self.labels)},
            "annotations": {"summary": self.summary, "description": self.description, "runbook": self.runbook},
        }


class Group(Struct, frozen=True):
    """Rules that are evaluated one after the other; every `interval_s` where that is not the server's default."""

    name: str
    rules: tuple[Recording | Alert, ...]
    interval_s: float | None = None

    def written(self) -> dict[str, object]:
        """As it stands in the file."""
        interval = {} if self.interval_s is None else {"interval": window_text(self.interval_s)}
        return {"name": self.name, **interval, "rules": [rule.written() for rule in self.rules]}
