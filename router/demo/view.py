"""What does a newcomer see? The router at work: a live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

from msgspec import Struct
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from router.domain.events import (
    BudgetObserved,
    DecisionMade,
    Event,
    FeedbackReceived,
    LoadObserved,
    QueueObserved,
    RequestEnded,
    RequestReceived,
    RequestRejected,
    RolloutChanged,
)

_REFRESH_S = 0.25
_LINE_S = 2.0
_DECISIONS = 8


class _Class(Struct):
    """Requests of one class that are over, and those within every objective."""

    over: int = 0
    met: int = 0


class View:
    """Fed by events; shows what they add up to, and keeps no prompt. Reserved capacity costs `hourly_usd` in all."""

    def __init__(
        self,
        console: Console | None = None,
        *,
        hourly_usd: float = 0.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Console()
        self._hourly_usd, self._now = hourly_usd, now
        self._start = now()
        self._received = self._completed = self._failed = self._feedback = self._waiting = 0
        self._cost_usd = self._baseline_usd = 0.0
        self._rejected: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()
        self._models: dict[str, str] = {}
        self._classes: dict[str, _Class] = {}
        self._loads: dict[str, LoadObserved] = {}
        self._rollouts: dict[str, RolloutChanged] = {}
        self._budgets: dict[str, BudgetObserved] = {}
        self._decisions: deque[DecisionMade] = deque(maxlen=_DECISIONS)
        self._handlers: dict[type[Event], Callable[..., None]] = {
            RequestReceived: self._on_received,
            RequestRejected: self._on_rejected,
            RequestEnded: self._on_ended,
            DecisionMade: self._decisions.append,
            FeedbackReceived: self._on_feedback,
            LoadObserved: self._on_load,
            QueueObserved: self._on_queue,
            RolloutChanged: self._on_rollout,
            BudgetObserved: self._on_budget,
        }

    name = "view"

    def handlers(self) -> Mapping[type[Event], Callable[..., None]]:
        """A subscriber of the telemetry sink."""
        return self._handlers

    def flush(self) -> None:
        """Nothing is held back."""

    def on_event(self, event: Event) -> None:
        """Take one event."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    async def run(self) -> None:
        """Show until cancelled."""
        if not self._console.is_terminal:
            while True:
                await asyncio.sleep(_LINE_S)
                self._console.print(self.line(), soft_wrap=True, highlight=False)
        with Live(self.table(), console=self._console, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(_REFRESH_S)
                live.update(self.table(), refresh=True)

    def line(self) -> str:
        """Where things stand, on one line."""
        shares = ", ".join(f"{name} {share:.0%}" for name, share in self._shares())
        in_flight = sum(load.in_flight for load in self._loads.values())
        return (
            f"{self._now() - self._start:4.0f} s  received {self._received}, answered {self._completed}, "
            f"shed {self._rejected.total()}, failed {self._failed}; SLO met {_percent(self._slo_met())}; "
            f"{shares or 'no answer yet'}; {self._spend()}; in flight {in_flight}, queued {self._waiting}"
            f"{self._changes()}"
        )

    def _changes(self) -> str:
        """Rollouts and budgets, where there are any."""
        rollouts = ", ".join(
            f"{name} {event.state.replace('_', ' ')}{f' at {event.ratio:.0%}' if event.state == 'canary' else ''}"
            for name, event in sorted(self._rollouts.items())
        )
        budgets = ", ".join(
            f"{name} {event.spent_usd:.2f} of {event.limit_usd:.2f} USD"
            for name, event in sorted(self._budgets.items())
        )
        return (f"; rollouts: {rollouts}" if rollouts else "") + (f"; budgets: {budgets}" if budgets else "")

    def summary(self) -> str:
        """What it all came to."""
        lines = [
            f"{self._received} requests in {self._now() - self._start:.0f} s: {self._completed} answered, "
            f"{self._rejected.total()} shed, {self._failed} failed",
            f"objectives met: {_percent(self._slo_met())}",
        ]
        lines += [f"  {name}: {_percent(c.met / c.over)} of {c.over}" for name, c in sorted(self._classes.items())]
        lines += [f"answered by {name}: {share:.0%}" for name, share in self._shares()]
        lines += [f"shed as {code}: {count}" for code, count in sorted(self._rejected.items())]
        lines.append(f"spent: {self._spend()}")
        lines.append(f"feedback learned from: {self._feedback}")
        return "\n".join(lines)

    def table(self) -> RenderableType:
        """Everything at once."""
        return Group(self.line(), self._deployment_table(), self._class_table(), self._decision_table())

    def _deployment_table(self) -> Table:
        table = _table("deployment", "model", "answers", "share", "in flight", "limit", "saturation")
        for name in sorted({*self._answers, *self._loads}):
            load = self._loads.get(name)
            table.add_row(
                name,
                self._models.get(name, ""),
                str(self._answers[name]),
                _percent(self._answers[name] / self._completed if self._completed else None),
                str(load.in_flight) if load else "",
                f"{load.limit:.0f}" if load and load.limit is not None else "",
                f"{load.saturation_ratio:.2f}" if load else "",
            )
        return table

    def _class_table(self) -> Table:
        table = _table("request class", "over", "objectives met")
        for name, seen in sorted(self._classes.items()):
            table.add_row(name, str(seen.over), _percent(seen.met / seen.over))
        return table

    def _decision_table(self) -> Table:
        table = _table("last decisions", "class", "complexity", "why", "P(SLO)", "P(adequate)", "propensity")
        for made in reversed(self._decisions):
            decision = made.decision
            terms = next((c.terms for c in decision.candidates if c.deployment == decision.chosen), None)
            table.add_row(
                decision.chosen,
                decision.request_class,
                f"{decision.complexity:.2f}",
                decision.binding,
                f"{terms.p_slo:.2f}" if terms else "",
                f"{terms.p_adequate:.2f}" if terms else "",
                f"{decision.propensity:.2f}",
            )
        return table

    def _shares(self) -> list[tuple[str, float]]:
        return [(name, count / self._completed) for name, count in self._answers.most_common()]

    def _slo_met(self) -> float | None:
        over = sum(seen.over for seen in self._classes.values())
        return sum(seen.met for seen in self._classes.values()) / over if over else None

    def _spend(self) -> str:
        spent = self._cost_usd + self._hourly_usd * (self._now() - self._start) / 3600
        text = f"{spent:.4f} USD"
        if self._baseline_usd <= 0:
            return text
        return f"{text}, {spent / self._baseline_usd:.0%} of always-large ({self._baseline_usd:.4f})"

    def _on_received(self, _: RequestReceived) -> None:
        self._received += 1

    def _on_rejected(self, event: RequestRejected) -> None:
        self._rejected[event.code] += 1
        self._classes.setdefault(event.request_class, _Class()).over += 1

    def _on_ended(self, event: RequestEnded) -> None:
        seen = self._classes.setdefault(event.request_class, _Class())
        seen.over += 1
        seen.met += event.slo_met
        self._cost_usd += event.cost_usd
        if event.status == "completed":
            self._completed += 1
            self._answers[event.deployment] += 1
            self._models[event.deployment] = event.model
            self._baseline_usd += event.baseline_cost_usd
        else:
            self._failed += 1

    def _on_feedback(self, event: FeedbackReceived) -> None:
        self._feedback += event.known

    def _on_load(self, event: LoadObserved) -> None:
        self._loads[event.deployment] = event

    def _on_queue(self, event: QueueObserved) -> None:
        self._waiting = event.waiting

    def _on_rollout(self, event: RolloutChanged) -> None:
        self._rollouts[event.request_class] = event

    def _on_budget(self, event: BudgetObserved) -> None:
        self._budgets[event.request_class] = event


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
