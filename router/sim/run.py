"""What would happen if? The daemon's own dispatcher, queue and batcher over a simulated fleet, in virtual time."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from math import inf
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from router.backends.simulated import SimulatedBackend
from router.backends.simulated_fleet import FleetSpec
from router.complexity.estimator import Estimator
from router.core.controller import Controller
from router.domain.control.batches import BatchEnded
from router.domain.control.capacity import LaneChanged, SpillChanged
from router.domain.deployment import Kind
from router.domain.errors import Expired, RouterError
from router.domain.events import DecisionMade, Event, LoadObserved, RequestEnded, RequestRejected
from router.domain.outcome import Reply
from router.domain.request import Request
from router.policy.policy import Policy
from router.ports.backend import Backend
from router.routing.profile import Profile
from router.runtime.dispatcher import Dispatcher
from router.sim.checked.strength import VERIFY, SimulatedChecks, Strength
from router.sim.clock import run_virtual
from router.sim.jobs.lanes import JobLanes
from router.sim.oracle import ExactOracle
from router.sim.report import Aside, Ended, Measured, Sample, Served, report
from router.sim.reserved import CapacityBook
from router.sim.scenarios.telemetry import Delayed
from router.sim.timeline import Timeline
from router.sim.workload import SOURCE, Workload, WorkloadTruth

_TICK_S = 0.1
_QUIET_S = 1.0
"""As often as jobs are looked at."""
_NOT_JUDGED = (
    "judging is left out ({}): simulated answers have no words that a judge could read; a share of outcomes whose truth"
    " is told (--feedback) stands for it"
)
_SAMPLE_TICKS = 10

ProfileMaker = Callable[[ExactOracle], Profile]
Progress = Callable[[int, int], None]


class Setting(Struct, frozen=True):
    """One simulation: what arrives, on what, under which policy. `policy` lists the fleet's deployments."""

    workload: Workload
    fleet: FleetSpec
    policy: Policy
    estimator: Estimator
    seed: int = 0
    feedback_ratio: float = 0.0
    edits: tuple[tuple[float, Policy], ...] = ()
    """Policies that are taken up while it runs, as an edit of the directory would be: simulated seconds, policy."""
    telemetry_lags: tuple[tuple[float, float], ...] = ()
    """How many seconds telemetry is held back besides the fleet's own lag: (from simulated second, seconds)."""
    check: Strength | None = None
    """What stands for the checks of classes that have a cascade with `callback`; `None` leaves them with nothing to
    look at but truncation, for a workload has no text."""


class World:
    """A run under way: the sink of its events, and the clock of its loop."""

    def __init__(self, setting: Setting, profile: ProfileMaker | None, progress: Progress | None) -> None:
        self._setting = setting
        self._truth = WorkloadTruth(setting.workload)
        loop = asyncio.get_running_loop()
        self.now = self.at = loop.time
        self.stopwatch = time.perf_counter
        self._rng = Random(f"{setting.seed}/feedback")
        self._backend = SimulatedBackend(setting.fleet, self._truth, origin_s=loop.time(), seed=setting.seed)
        self.controller = Controller(
            setting.policy,
            setting.estimator,
            rng=Random(f"{setting.seed}/picker"),
            name="sim",
            profile=None if profile is None else profile(ExactOracle(setting.fleet, self._backend)),
        )
        backends: dict[str, Backend] = {"simulated": self._backend}
        self.dispatcher = Dispatcher(self.controller, backends, self, self)
        self.lanes: JobLanes | None = None
        if any(group.kind is Kind.JOB for group in setting.fleet.deployments):
            self.lanes = JobLanes(setting.fleet, self._truth, self.dispatcher, backends, self, seed=setting.seed)
        self._references: dict[str, str | None] = {}
        if setting.check is not None:
            models = {str(d.name): d.model for d in setting.policy.deployments}
            checks = SimulatedChecks(setting.check, self._truth, models, self._references, seed=setting.seed)
            self.dispatcher.cascade.verifier = checks
        self._progress = progress
        self._delayed = Delayed(setting.telemetry_lags, loop.time())
        self.timeline = Timeline(loop.time())
        self.served: list[Served] = []
        self.samples: list[Sample] = []
        self.decide_s: list[float] = []
        self.capacity = CapacityBook()
        self.busy_s = {str(d.name): 0.0 for d in setting.policy.deployments if d.kind is Kind.BATCH}
        self._beats = self._open = 0
        self._comes_at_s = 0.0
        """When the next request comes."""

    def emit(self, event: Event) -> None:
        """Gather what the report needs."""
        if self.lanes is not None:
            self.lanes.emit(event)
        if self._setting.edits:
            self.timeline.emit(event)
        if isinstance(event, DecisionMade):
            self.decide_s.append(event.decision.decide_s)
            if self._setting.check is not None:
                self._references[event.decision.request_id] = self._reference(event.decision.request_class)
        elif isinstance(event, RequestEnded):
            self._over(self._ended(event))
        elif isinstance(event, RequestRejected):
            self._over(Served(event.request.id, event.request_class, _fate(event.code)))
        elif isinstance(event, SpillChanged | LaneChanged):
            self.capacity.emit(event)
        elif isinstance(event, BatchEnded):
            self.busy_s[event.deployment] += event.took_s
        elif isinstance(event, LoadObserved) and self._beats % _SAMPLE_TICKS == 0:
            self.samples.append(Sample(self.now(), event.deployment, event.in_flight, event.limit))

    def _over(self, served: Served) -> None:
        self.served.append(served)
        if self._progress is not None:
            self._progress(len(self.served), len(self._setting.workload.arrivals))

    def _ended(self, event: RequestEnded) -> Served:
        completed = event.status == "completed"
        return Served(
            request_id=event.request.id,
            request_class=event.request_class,
            ended=Ended.COMPLETED if completed else _fate(event.code or ""),
            deployment=event.deployment or None,
            ttft_s=event.ttft_s,
            tpot_s=event.tpot_s,
            e2e_s=event.e2e_s,
            slo_met=event.slo_met,
            adequate=self._adequate(event) if completed else None,
            cost_usd=event.cost_usd,
            attempts=event.attempts,
        )

    def _reference(self, request_class: str) -> str | None:
        """The model whose quality is a class's standard, if one is."""
        floors = (c.floor for c in self._setting.policy.classes if c.name == request_class)
        floor = next(floors, None)
        return None if floor is None else floor.reference

    def _adequate(self, event: RequestEnded) -> bool | None:
        reference = self._reference(event.request_class)
        adequate = self._truth.adequate(event.request.id, event.model, reference=reference)
        return adequate and not self._is_cut(event)

    def _is_cut(self, event: RequestEnded) -> bool:
        """Whether the model had more to say than a bound of tokens let it."""
        return event.output_tokens < self._truth.answer(event.request, event.model).output_tokens

    async def run(self) -> float:
        """Run to the last answer; returns the simulated seconds it took."""
        heart = asyncio.ensure_future(self._beat())
        editor = asyncio.ensure_future(self._edit())
        if self.lanes is not None:
            await self.lanes.start()
        tasks = []
        for number, row in enumerate(self._setting.workload.arrivals):
            self._comes_at_s, ahead = row.at_s, row.at_s - self.now()
            if ahead > 0.0:
                await asyncio.sleep(ahead)
            request = self._setting.workload.request(number, now=self.now(), at=self.at())
            if self._setting.check is not None:
                request = replace(request, verify=VERIFY)
            self._open += 1
            tasks.append(asyncio.ensure_future(self._one(request)))
        self._comes_at_s = inf
        await asyncio.gather(*tasks)
        lasted = self.now()
        if self.lanes is not None:
            await self.lanes.drain()
        if heart.done():
            heart.result()  # it beats to the end, or the run is worth nothing
        heart.cancel()
        editor.cancel()
        await self._backend.close()
        return lasted

    async def _one(self, request: Request) -> None:
        try:
            self._feed_back(await self.dispatcher.submit(request))
        except RouterError:
            return
        finally:
            self._open -= 1

    def _feed_back(self, reply: Reply) -> None:
        if self._setting.feedback_ratio <= 0.0 or self._rng.random() >= self._setting.feedback_ratio:
            return
        quality = self._truth.quality(reply.request.id, reply.receipt.model)
        if quality is not None:
            self.dispatcher.feedback(reply.receipt.decision_id, quality)

    async def _edit(self) -> None:
        """Take up each edit at its time."""
        for at_s, policy in sorted(self._setting.edits, key=lambda edit: edit[0]):
            await asyncio.sleep(max(at_s - self.now(), 0.0))
            for event in self.controller.apply(policy, now=self.now(), at=self.at()):
                self.emit(event)

    def _step_s(self) -> float:
        """Seconds to the next beat: longer while nobody is under way but who waits for a batch job or a budget."""
        if self.lanes is None or self._open > self.dispatcher.held(SOURCE):
            return _TICK_S
        return max(min(self._comes_at_s - self.now(), _QUIET_S), _TICK_S)

    async def _beat(self) -> None:
        while True:
            step_s = self._step_s()
            await asyncio.sleep(step_s)
            long = _SAMPLE_TICKS - self._beats % _SAMPLE_TICKS  # a long step is worth a sample
            self._beats += 1 if step_s == _TICK_S else long
            self.dispatcher.tick()
            for load in self._delayed.through(await self._backend.poll(), self.now()):
                self.controller.on_load(load)


class Played(Struct, frozen=True):
    """A run that is over: its requests in order of arrival, and its report."""

    served: tuple[Served, ...]
    report: dict[str, object]


def simulate(
    setting: Setting, profile: ProfileMaker | None = None, progress: Progress | None = None
) -> dict[str, object]:
    """Run one setting and report it; `profile` makes a baseline's, the router's own where absent."""
    return play(setting, profile, progress).report


def play(setting: Setting, profile: ProfileMaker | None = None, progress: Progress | None = None) -> Played:
    """As `simulate`, with what became of each request."""
    started = time.perf_counter()

    async def scene() -> tuple[World, float]:
        world = World(setting, profile, progress)
        return world, await world.run()

    gc.freeze()  # what is loaded stays to the end: walking a hundred thousand arrivals again and again costs a tenth
    try:
        world, lasted_s = run_virtual(scene())
    finally:
        gc.unfreeze()
    served = tuple(sorted(world.served, key=lambda s: int(s.request_id)))
    whole = report(
        served,
        setting.policy.deployments,
        world.samples,
        lasted_s=lasted_s,
        measured=Measured(world.decide_s, time.perf_counter() - started),
        aside=Aside(world.busy_s, {} if world.lanes is None else world.lanes.book.unused_usd),
    )
    judged = ", ".join(c.name for c in setting.policy.classes if c.judge is not None)
    notes = [_NOT_JUDGED.format(judged)] if judged else []
    notes += [] if world.lanes is None else world.lanes.book.notes()
    if notes:
        whole["notes"] = notes
    whole |= world.capacity.report(world.controller, now=lasted_s)
    if world.lanes is not None:
        whole["jobs"] = world.lanes.book.report()
    if setting.edits:
        whole["rollouts"] = world.timeline.report(world.controller.policy.classes, lasted_s=lasted_s)
    return Played(served, whole)


def _fate(code: str) -> Ended:
    """Shed are those refused or pushed out with a reason; past the deadline is expired; anything else failed."""
    if code == Expired.code:
        return Ended.EXPIRED
    return Ended.SHED if code in _SHED else Ended.FAILED


_SHED = frozenset(
    {
        "overloaded",
        "no_deployment",
        "queue_full",
        "tenant_queue_full",
        "queue_timeout",
        "slo_unreachable",
        "evicted",
        "draining",
    }
)
