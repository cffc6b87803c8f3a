"""What came of the lanes of batch jobs: told under `jobs` of a report, one entry for each lane."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from router.domain.aws.job import ENDED, JobStatus
from router.domain.control.jobs import AnswersUnused, JobChanged, JobsObserved, RecordsReturned
from router.domain.deployment import Deployment
from router.domain.events import DecisionMade, Event, RequestEnded
from router.domain.slo import RequestClass
from router.sim.report import quantile

_EVERY_S = 60.0
_DIGITS = 6
_QUANTILES = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))
_IDLE = (
    "{}: no request waited for a batch job: none had the hours that one takes. A row says so with `deadline_s`, a class"
    " with `deadline`; a class that promises seconds never waits"
)
_ENDED = frozenset(status.value for status in ENDED)


class _Lane:
    """Of one lane."""

    def __init__(self, lane: Deployment, online: Deployment | None) -> None:
        self.lane, self.online = lane, online
        self.moved = Counter[str]()
        self.statuses = Counter[str]()
        self.handed = self.kept = self.failed_calls = self.records = self.unused = 0
        self.waits_s: list[float] = []
        self.took_s: list[float] = []
        self.paid_usd = self.online_usd = self.unused_usd = 0.0
        self.seen: list[tuple[float, JobsObserved]] = []

    def answered(self, event: RequestEnded) -> None:
        """It answered a request."""
        self.waits_s.append(event.e2e_s)
        self.paid_usd += event.answer_cost_usd
        if self.online is not None:
            self.online_usd += self.online.price.cost_usd(event.input_tokens, event.output_tokens)

    def changed(self, event: JobChanged) -> None:
        """A job went on, or the service could not be asked about it."""
        if event.new == event.old:
            self.failed_calls += 1
        elif event.new == JobStatus.SUBMITTED:
            self.statuses["Submitted"] += 1
            self.records += event.records
        elif event.new in _ENDED:
            self.statuses[event.new] += 1
            self.took_s.append(event.seconds)

    def report(self) -> dict[str, object]:
        """Its entry. `saved_usd` is `None` where nothing else serves its model."""
        saved = None if self.online is None else self.online_usd - self.paid_usd - self.unused_usd
        return {
            "requests": self.handed,
            "answered": len(self.waits_s),
            "moved": dict(sorted(self.moved.items())),
            "deadline_kept": round(self.kept / self.handed, _DIGITS) if self.handed else None,
            "wait_s": _quantiles(self.waits_s),
            "jobs": dict(sorted(self.statuses.items())),
            "records": self.records,
            "job_s": _quantiles(self.took_s),
            "failed_calls": self.failed_calls,
            "cost_usd": round(self.paid_usd, _DIGITS),
            "unused": self.unused,
            "unused_usd": round(self.unused_usd, _DIGITS),
            "online": None if self.online is None else str(self.online.name),
            "saved_usd": None if saved is None else round(saved, _DIGITS),
            "over_time": {
                "at_s": [round(at_s, _DIGITS) for at_s, _ in self.seen],
                "collecting": [one.collecting for _, one in self.seen],
                "running": [one.running for _, one in self.seen],
                "least_slack_s": [_rounded(one.least_slack_s) for _, one in self.seen],
            },
        }


class JobBook:
    """Gathers what the lanes of a fleet do. `classes` gives those in force."""

    def __init__(self, fleet: Sequence[Deployment], classes: Callable[[], Sequence[RequestClass]]) -> None:
        self._lanes = {str(d.name): _Lane(d, _online(d, fleet)) for d in fleet if d.job is not None}
        self._classes = classes
        self._handed: dict[str, str] = {}

    @property
    def unused_usd(self) -> Mapping[str, float]:
        """What was paid for answers that nobody was given, by deployment."""
        return {name: lane.unused_usd for name, lane in self._lanes.items()}

    def emit(self, event: Event, now: float) -> None:
        """One event."""
        if isinstance(event, DecisionMade):
            self._decided(event)
        elif isinstance(event, RequestEnded):
            self._ended(event)
        elif isinstance(event, JobChanged):
            self._lanes[event.deployment].changed(event)
        elif isinstance(event, RecordsReturned):
            self._lanes[event.deployment].moved[event.code] += event.records
        elif isinstance(event, AnswersUnused):
            lane = self._lanes[event.deployment]
            lane.unused += event.records
            lane.unused_usd += event.cost_usd
        elif isinstance(event, JobsObserved):
            seen = self._lanes[event.deployment].seen
            if not seen or now - seen[-1][0] >= _EVERY_S:
                seen.append((now, event))

    def report(self) -> dict[str, object]:
        """Every lane."""
        return {name: lane.report() for name, lane in self._lanes.items()}

    def notes(self) -> list[str]:
        """What a reader should know of lanes that nobody waited for."""
        return [_IDLE.format(name) for name, lane in self._lanes.items() if not lane.handed]

    def _decided(self, event: DecisionMade) -> None:
        chosen, request_id = str(event.decision.chosen), str(event.decision.request_id)
        if chosen in self._lanes and request_id not in self._handed:
            self._handed[request_id] = chosen
            self._lanes[chosen].handed += 1

    def _ended(self, event: RequestEnded) -> None:
        """A request that was in a lane at some time is answered, there or elsewhere, or is not."""
        handed = self._handed.pop(str(event.request.id), None)
        if handed is None or event.status != "completed":
            return
        self._lanes[handed].kept += event.slo_met and event.e2e_s <= self._due_s(event)
        if event.deployment in self._lanes:
            self._lanes[event.deployment].answered(event)

    def _due_s(self, event: RequestEnded) -> float:
        """Seconds from its arrival to its deadline, its own or that of its class."""
        request = event.request
        dues = [c.deadline_s for c in self._classes() if c.name == event.request_class]
        dues.append(None if request.deadline is None else request.deadline - request.arrived)
        return min((due for due in dues if due is not None), default=float("inf"))


def _online(lane: Deployment, fleet: Sequence[Deployment]) -> Deployment | None:
    """Where the model of a lane is had at once, for the least money."""
    others = [d for d in fleet if d.job is None and d.model == lane.model]
    return min(others, key=lambda d: d.price.cost_usd(1.0, 1.0), default=None)


def _quantiles(values: Sequence[float]) -> dict[str, float | None]:
    ordered = sorted(values)
    return {name: quantile(ordered, q) for name, q in _QUANTILES}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
