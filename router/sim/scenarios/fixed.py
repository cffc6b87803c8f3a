"""What would a fixed setting have done? Two thresholds and a limit for each tier, on the simulated servers themselves.

The rule knows P(small adequate) and the prompt tokens of a request and how many calls each server holds, nothing else.
It decides on arrival and takes no time; a call that a server loses is made again elsewhere, as in the daemon. The
servers are those of the dispatcher's runs: the same calls at the same times end at the same times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from router.backends.simulated_events import NS_PER_S
from router.backends.simulated_fleet import FleetSpec
from router.backends.simulated_server import ContinuousServer
from router.backends.simulated_steps import Job, Stage
from router.domain.deployment import Deployment, Tier
from router.domain.slo import RequestClass
from router.sim.report import Ended, Served
from router.sim.workload import Workload, WorkloadTruth
from router.slo.judge import judge

_AT_ENDS = 1_000_000_000
"""Pieces so long that a job has news at its first token and at its end."""
_NS = 1e-9


class FixedSetting(Struct, frozen=True):
    """`small_from`: P(small adequate), plus `length_weight` for each thousand prompt tokens, from which on small is
    asked first; below it large. `never_below`: under this P an answer of small is not good enough, and the request is
    shed where large has no room. Limits are calls in flight of each deployment of a tier; `tenant_ratio` bounds one
    tenant's part of the small and the large limit together."""

    small_from: float = 0.6
    length_weight: float = 0.0
    never_below: float = 0.0
    small_limit: int = 128
    large_limit: int = 48
    tenant_ratio: float = 1.0


class Asked(Struct, frozen=True):
    """One request as the rule sees it, and by what it is judged."""

    p_small: float
    request_class: RequestClass


class _Flight:
    """A call under way."""

    __slots__ = ("first_ns", "number", "server")

    def __init__(self, number: int, server: _Server) -> None:
        self.number, self.server = number, server
        self.first_ns: int | None = None


class _Server:
    """A simulated server and the calls that it holds."""

    def __init__(self, deployment: Deployment, server: ContinuousServer) -> None:
        self.deployment, self.server = deployment, server
        self.calls: dict[Job, _Flight] = {}


class FixedRun:
    """One run under a schedule of settings: (from second, setting), in order."""

    def __init__(
        self,
        workload: Workload,
        asked: Sequence[Asked],
        fleet: FleetSpec,
        fleet_deployments: Sequence[Deployment],
        *,
        seed: int,
    ) -> None:
        self._rows = workload.arrivals
        self._workload = workload
        self._asked = asked
        self._fleet, self._deployments, self._seed = fleet, fleet_deployments, seed
        self._truth = WorkloadTruth(workload)

    def play(self, schedule: Sequence[tuple[float, FixedSetting]]) -> tuple[Served, ...]:
        """What became of each request, in order of arrival."""
        self._servers = [self._put_up(d) for d in self._deployments]
        self._tenants: Counter[str | None] = Counter()
        self._served: dict[int, Served] = {}
        self._setting, later = schedule[0][1], list(schedule[1:])
        for number, row in enumerate(self._rows):
            now = round(row.at_s * NS_PER_S)
            self._run_to(now)
            while later and row.at_s >= later[0][0]:
                self._setting = later.pop(0)[1]
            self._send(number, now, frozenset())
        self._run_to(None)
        return tuple(self._served[number] for number in range(len(self._rows)))

    def _put_up(self, deployment: Deployment) -> _Server:
        spec = next(d for d in self._fleet.deployments if deployment.name in d.names())
        events = self._fleet.disturbances(spec.name, deployment.name)
        seed = f"{self._seed}/{deployment.name}"
        return _Server(deployment, ContinuousServer(spec, events, seed=seed, piece_tokens=_AT_ENDS))

    def _run_to(self, until: int | None) -> None:
        """Let time pass, from one piece of news to the next; `None` runs until all has ended."""
        while True:
            wakes = [(at, i) for i, s in enumerate(self._servers) if (at := s.server.wake_ns()) is not None]
            if not wakes or (until is not None and min(wakes)[0] > until):
                break
            at, index = min(wakes)
            self._hear(self._servers[index], at)
        if until is not None:
            for server in self._servers:
                self._hear(server, until)

    def _hear(self, server: _Server, now: int) -> None:
        for job in server.server.advance(now):
            call = server.calls.get(job)
            if call is None:
                continue
            if call.first_ns is None and job.generated:
                call.first_ns = now
            if job.ended:
                del server.calls[job]
                self._tenants[self._rows[call.number].tenant] -= 1
                self._end(call, job, now)

    def _end(self, call: _Flight, job: Job, now: int) -> None:
        if job.stage is Stage.LOST:
            self._send(call.number, now, frozenset({call.server.deployment.name}))
            return
        row, asked = self._rows[call.number], self._asked[call.number]
        deployment = call.server.deployment
        assert call.first_ns is not None
        ttft_s, e2e_s = call.first_ns * _NS - row.at_s, now * _NS - row.at_s
        tpot_s = (now - call.first_ns) * _NS / (job.generated - 1) if job.generated > 1 else 0.0
        met = judge(asked.request_class.objectives, ttft_s=ttft_s, tpot_s=tpot_s, e2e_s=e2e_s, answered=True)
        floor = asked.request_class.floor
        reference = None if floor is None else floor.reference
        self._served[call.number] = Served(
            request_id=str(call.number),
            request_class=asked.request_class.name,
            ended=Ended.COMPLETED,
            deployment=deployment.name,
            ttft_s=ttft_s,
            tpot_s=tpot_s,
            e2e_s=e2e_s,
            slo_met=all(good for _, good in met),
            adequate=self._truth.adequate(str(call.number), deployment.model, reference=reference),
            cost_usd=deployment.price.cost_usd(job.input_tokens, job.generated),
            attempts=1,
        )

    def _send(self, number: int, now: int, tried: frozenset[str]) -> None:
        """To the server that the rule names, to the next where that one refuses, or shed."""
        row = self._rows[number]
        for server in self._choices(number):
            if server.deployment.name in tried:
                continue
            self._hear(server, now)
            tokens = self._truth.answer(self._workload.request(number, now=0.0, at=0.0), server.deployment.model)
            job = Job(row.input_tokens, tokens.output_tokens)
            if server.server.arrive(job, now) is None:
                server.calls[job] = _Flight(number, server)
                self._tenants[row.tenant] += 1
                return
        ended = Ended.FAILED if tried else Ended.SHED
        self._served[number] = Served(str(number), self._asked[number].request_class.name, ended)

    def _choices(self, number: int) -> list[_Server]:
        """Servers with room, in the order in which they are asked."""
        setting, p_small = self._setting, self._asked[number].p_small
        limits = {Tier.SMALL: setting.small_limit, Tier.LARGE: setting.large_limit}
        if setting.tenant_ratio < 1.0:
            room = sum(limits[s.deployment.tier] for s in self._servers)
            if self._tenants[self._rows[number].tenant] >= setting.tenant_ratio * room:
                return []
        easy = p_small + setting.length_weight * self._rows[number].input_tokens / 1000.0
        first = Tier.SMALL if easy >= setting.small_from else Tier.LARGE
        allowed = [
            s
            for s in self._servers
            if len(s.calls) < limits[s.deployment.tier]
            and (s.deployment.tier is Tier.LARGE or p_small >= setting.never_below)
        ]
        return sorted(allowed, key=lambda s: (s.deployment.tier is not first, len(s.calls)))
