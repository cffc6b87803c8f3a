"""What became of edits that were taken up while a simulation ran: transitions, and each side minute by minute."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from typing import NamedTuple

from router.domain.events import Event, PolicyApplied, RequestEnded, RequestRejected, RolloutChanged
from router.domain.slo import Indicator, RequestClass

_MINUTE_S = 60.0
_DIGITS = 6


class _End(NamedTuple):
    """One request of one side, at the time it came."""

    at_s: float
    slo_met: bool
    p_adequate: float
    cost_usd: float


class Timeline:
    """Gathers the events of rollouts; `origin_s` is when the simulation began."""

    def __init__(self, origin_s: float) -> None:
        self._origin_s = origin_s
        self._applied: list[dict[str, object]] = []
        self._changes: list[dict[str, object]] = []
        self._bad: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._offered: defaultdict[str, int] = defaultdict(int)
        self._ends: defaultdict[tuple[str, str], list[_End]] = defaultdict(list)

    def emit(self, event: Event) -> None:
        """One event."""
        if isinstance(event, RolloutChanged):
            self._changes.append(
                {
                    "at_s": self._since(event.at),
                    "request_class": event.request_class,
                    "state": event.state,
                    "ratio": event.ratio,
                    "version": event.version,
                    "reason": event.reason,
                }
            )
        elif isinstance(event, PolicyApplied):
            self._applied.append({"at_s": self._since(event.at), "policy": event.new, "diff": list(event.diff)})
        elif isinstance(event, RequestEnded):
            self._ended(event)
        elif isinstance(event, RequestRejected):
            self._refused(event)

    def _ended(self, event: RequestEnded) -> None:
        self._offered[event.request_class] += 1
        if not event.arm:
            return
        begun = self._since(event.at - event.e2e_s)
        self._ends[event.request_class, event.arm].append(
            _End(begun, event.slo_met, event.p_adequate or 0.0, event.cost_usd)
        )
        for indicator, good in event.met:
            self._bad[event.request_class, event.arm, indicator] += not good

    def _refused(self, event: RequestRejected) -> None:
        """No promise was kept, whatever was promised."""
        self._offered[event.request_class] += 1
        if event.arm:
            self._ends[event.request_class, event.arm].append(_End(self._since(event.now), False, 0.0, 0.0))
            for indicator in Indicator:
                self._bad[event.request_class, event.arm, indicator.value] += 1

    def _since(self, at: float) -> float:
        return round(at - self._origin_s, 3)

    def report(self, classes: tuple[RequestClass, ...], *, lasted_s: float) -> dict[str, object]:
        """Edits, transitions, both sides minute by minute and step by step (a step begins with a transition; a request
        belongs to the time it came), and the share of a whole window's error budget that each side spent, counted over
        all traffic of the class at the rate of this run."""
        sides = sorted(self._ends.items())
        return {
            "applied": self._applied,
            "transitions": self._changes,
            "sides": {f"{name}/{arm}": self._by_minute(ends) for (name, arm), ends in sides},
            "steps": {f"{name}/{arm}": self._by_step(name, ends) for (name, arm), ends in sides},
            "error_budget_spent": self._spent(classes, lasted_s),
        }

    @staticmethod
    def _by_minute(ends: list[_End]) -> list[dict[str, object]]:
        minutes: defaultdict[int, list[_End]] = defaultdict(list)
        for end in ends:
            minutes[int(end.at_s // _MINUTE_S)].append(end)
        return [{"minute": minute, **_summed(inside)} for minute, inside in sorted(minutes.items())]

    def _by_step(self, name: str, ends: list[_End]) -> list[dict[str, object]]:
        begins = [float(str(c["at_s"])) for c in self._changes if c["request_class"] == name]
        steps: defaultdict[int, list[_End]] = defaultdict(list)
        for end in ends:
            steps[max(bisect_right(begins, end.at_s) - 1, 0)].append(end)
        return [{"step": step, **_summed(inside)} for step, inside in sorted(steps.items())]

    def _spent(self, classes: tuple[RequestClass, ...], lasted_s: float) -> dict[str, float]:
        windows = {(c.name, o.indicator.value): o for c in classes for o in c.objectives.each()}
        spent: dict[str, float] = {}
        for (request_class, arm, indicator), bad in sorted(self._bad.items()):
            objective = windows.get((request_class, indicator))
            if objective is not None and lasted_s > 0.0:
                window = self._offered[request_class] / lasted_s * objective.window_s
                spent[f"{request_class}/{arm}/{indicator}"] = round(bad / (1.0 - objective.target) / window, _DIGITS)
        return spent


def _summed(ends: list[_End]) -> dict[str, object]:
    count = len(ends)
    return {
        "requests": count,
        "slo_met": round(sum(e.slo_met for e in ends) / count, _DIGITS),
        "p_adequate": round(sum(e.p_adequate for e in ends) / count, _DIGITS),
        "cost_usd": round(sum(e.cost_usd for e in ends), _DIGITS),
    }
