"""What became of edits that were taken up while a simulation ran: transitions, and each side minute by minute."""

from __future__ import annotations

from collections import defaultdict

from router.domain.events import Event, PolicyApplied, RequestEnded, RequestRejected, RolloutChanged
from router.domain.slo import Indicator, RequestClass

_MINUTE_S = 60.0
_DIGITS = 6


class Timeline:
    """Gathers the events of rollouts; `origin_s` is when the simulation began."""

    def __init__(self, origin_s: float) -> None:
        self._origin_s = origin_s
        self._applied: list[dict[str, object]] = []
        self._changes: list[dict[str, object]] = []
        self._bad: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._minutes: defaultdict[tuple[str, str], defaultdict[int, list[float]]] = defaultdict(
            lambda: defaultdict(lambda: [0, 0, 0.0, 0.0])
        )
        self._offered: defaultdict[str, int] = defaultdict(int)

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
        minute = self._minutes[event.request_class, event.arm][int((event.at - self._origin_s) // _MINUTE_S)]
        minute[0] += 1
        minute[1] += event.slo_met
        minute[2] += event.p_adequate or 0.0
        minute[3] += event.cost_usd
        for indicator, good in event.met:
            self._bad[event.request_class, event.arm, indicator] += not good

    def _refused(self, event: RequestRejected) -> None:
        """No promise was kept, whatever was promised."""
        self._offered[event.request_class] += 1
        if event.arm:
            self._minutes[event.request_class, event.arm][int((event.now - self._origin_s) // _MINUTE_S)][0] += 1
            for indicator in Indicator:
                self._bad[event.request_class, event.arm, indicator.value] += 1

    def _since(self, at: float) -> float:
        return round(at - self._origin_s, 3)

    def report(self, classes: tuple[RequestClass, ...], *, lasted_s: float) -> dict[str, object]:
        """Edits, transitions, sides by minute, and the share of a whole window's error budget that each side spent,
        counted over all traffic of the class at the rate of this run."""
        return {
            "applied": self._applied,
            "transitions": self._changes,
            "sides": {
                f"{request_class}/{arm}": [
                    {
                        "minute": minute,
                        "requests": int(n),
                        "slo_met": round(met / n, _DIGITS),
                        "p_adequate": round(adequate / n, _DIGITS),
                        "cost_usd": round(cost, _DIGITS),
                    }
                    for minute, (n, met, adequate, cost) in sorted(minutes.items())
                ]
                for (request_class, arm), minutes in sorted(self._minutes.items())
            },
            "error_budget_spent": self._spent(classes, lasted_s),
        }

    def _spent(self, classes: tuple[RequestClass, ...], lasted_s: float) -> dict[str, float]:
        windows = {(c.name, o.indicator.value): o for c in classes for o in c.objectives.each()}
        spent: dict[str, float] = {}
        for (request_class, arm, indicator), bad in sorted(self._bad.items()):
            objective = windows.get((request_class, indicator))
            if objective is not None and lasted_s > 0.0:
                window = self._offered[request_class] / lasted_s * objective.window_s
                spent[f"{request_class}/{arm}/{indicator}"] = round(bad / (1.0 - objective.target) / window, _DIGITS)
        return spent
