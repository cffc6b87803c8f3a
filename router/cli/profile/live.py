"""A bar for each level on standard error, with what is known so far."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from router.learning.profiling.calls import Level
from router.learning.profiling.figures import figures
from router.runtime.profiling.purse import Purse
from router.runtime.profiling.users import Plan


class Live:
    """Told of a level after every call; shows nothing where nobody looks."""

    def __init__(self, plan: Plan, users: int | None, purse: Purse) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description:>6}"), BarColumn(bar_width=24), TextColumn("{task.fields[said]}"))
        self._bar = Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal)
        self._plan, self._users, self._purse = plan, users, purse
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> Live:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def seen(self, level: Level) -> None:
        """The level so far."""
        if self._bar.disable:
            return
        n = level.concurrency
        total = self._plan.wanted(self._users or n)
        if n not in self._tasks:
            self._tasks[n] = self._bar.add_task(f"c={n}", total=total, said="")
        self._bar.update(self._tasks[n], completed=len(level.samples), said=self._said(level, total))

    def _said(self, level: Level, total: int | None) -> str:
        calls = f"{len(level.samples)}{'' if total is None else f'/{total}'}"
        if not level.samples:
            return f"{calls} warming up, USD {self._purse.spent_usd:.4f}"
        now = figures(level)
        first = now.time_to_first_token_ms or now.client_latency_ms
        told = "" if first is None else f"first token {first.p50:.0f} ms, " if now.time_to_first_token_ms else ""
        errors = f", {now.client_invocation_errors} errors" if now.client_invocation_errors else ""
        return f"{calls} {told}{now.output_tokens_per_sec:,.0f} tok/s{errors}, USD {self._purse.spent_usd:.4f}"
