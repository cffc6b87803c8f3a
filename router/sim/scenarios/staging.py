"""A scenario on the stage: its requests, its fleet with what befalls it, and its policy with what is edited."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from router.backends.simulated_fleet import DeploymentSpec, EventSpec, FleetSpec, deployments
from router.domain.deployment import Deployment, Tier
from router.domain.errors import PolicyError, WorkloadError
from router.domain.slo import Objectives
from router.policy.compile import compile_policy, digest
from router.policy.policy import Policy
from router.sim.scenarios.catalogue import FLEET
from router.sim.scenarios.scenario import FLOODING, Phase, Scenario
from router.sim.scenarios.traffic import Piece, Source, bursty, laid_along
from router.sim.workload import Arrival, Workload

_TENANTS = ("amber", "birch", "cedar", "dune")


class Given(Struct, frozen=True):
    """What takes the place of a scenario's own: the policy, the servers, the requests; and how much of them."""

    policy: Policy | None = None
    fleet: FleetSpec | None = None
    trace: Workload | None = None
    load: float = 1.0
    seed: int = 0


class Stage(Struct, frozen=True):
    """All that a run needs. `policies` holds the policy in force in each phase, `lags` (from second, age of telemetry
    in seconds)."""

    scenario: Scenario
    workload: Workload
    fleet: FleetSpec
    policies: tuple[Policy, ...]
    lags: tuple[tuple[float, float], ...]
    seed: int

    @property
    def edits(self) -> tuple[tuple[float, Policy], ...]:
        """Where the policy in force changes."""
        pairs = zip(self.scenario.begins_s[1:], self.policies, self.policies[1:], strict=False)
        return tuple((at_s, new) for at_s, old, new in pairs if new.digest != old.digest)


def fleet_of(scenario: Scenario, given: FleetSpec | None) -> FleetSpec:
    """The servers: those of a fleet file, or the scenario's own under its load by others."""
    if given is not None:
        _check(given)
        return replace(given, events=(), telemetry_lag_s=0.0)
    return replace(FLEET, deployments=tuple(replace(d, background=scenario.background) for d in FLEET.deployments))


def _check(fleet: FleetSpec) -> None:
    for tier in (Tier.SMALL, Tier.LARGE):
        if not any(d.tier is tier for d in fleet.deployments):
            raise PolicyError(f"a scenario needs a {tier.value} deployment; the fleet has none")
    for one in fleet.deployments:
        if one.step_ms is None or one.tokens_per_min is not None:
            raise PolicyError(f"{one.name}: a scenario runs on deployments of kind continuous")


def own_policy(scenario: Scenario, fleet: FleetSpec) -> Policy:
    """What the scenario promises by itself."""
    return compile_policy([(f"{scenario.name}.yaml", scenario.policy)], deployments=deployments(fleet))


def staged(scenario: Scenario, given: Given) -> Stage:
    """The scenario with what is given in place of its own."""
    if given.trace is not None and scenario.has_own_mix:
        raise WorkloadError(
            f"{scenario.name} changes the prompts themselves: it makes its own requests, so leave --workload out"
        )
    fleet = fleet_of(scenario, given.fleet)
    policy = given.policy or own_policy(scenario, fleet)
    begins = scenario.begins_s
    return Stage(
        scenario=scenario,
        workload=_workload(scenario, fleet, given),
        fleet=replace(fleet, events=tuple(_events(scenario, fleet.deployments))),
        policies=tuple(_scaled(policy, phase.objectives) for phase in scenario.phases),
        lags=tuple((at_s, phase.telemetry_lag_s) for at_s, phase in zip(begins, scenario.phases, strict=False)),
        seed=given.seed,
    )


def _events(scenario: Scenario, servers: Sequence[DeploymentSpec]) -> Iterator[EventSpec]:
    for at_s, phase in zip(scenario.begins_s, scenario.phases, strict=False):
        until_s = at_s + phase.lasts_s
        for one in servers:
            for tier, factor in phase.slowdown:
                if tier is one.tier:
                    yield EventSpec(at_s, until_s, one.name, slowdown=factor)
            if phase.down is one.tier:
                yield EventSpec(at_s, until_s, one.name, down=True)


def _scaled(policy: Policy, factor: float) -> Policy:
    """The policy with every latency objective multiplied."""
    if factor == 1.0:
        return policy
    classes = tuple(replace(c, objectives=_tightened(c.objectives, factor)) for c in policy.classes)
    edited = replace(policy, classes=classes, digest="")
    return replace(edited, digest=digest(edited))


def _tightened(objectives: Objectives, factor: float) -> Objectives:
    promised = {o.indicator.value: replace(o, threshold_s=o.threshold_s * factor) for o in objectives.each()}
    return Objectives(**promised)


def tier_models(fleet: Sequence[Deployment] | Sequence[DeploymentSpec]) -> tuple[str, str]:
    """The models of the first small and the first large deployment."""
    return next(d.model for d in fleet if d.tier is Tier.SMALL), next(d.model for d in fleet if d.tier is Tier.LARGE)


def _workload(scenario: Scenario, fleet: FleetSpec, given: Given) -> Workload:
    """All streams together, in order of arrival."""
    seed = f"{given.seed}/{scenario.name}"
    source = Source(given.trace, tier_models(fleet.deployments), seed=seed)
    usual = [piece for at_s, phase in _phases(scenario) for piece in _pieces(scenario, phase, at_s, given.load)]
    flood = [Piece(at_s, at_s + p.lasts_s, p.flood_per_s * given.load) for at_s, p in _phases(scenario)]
    rows = [*_requests(scenario, source, usual, "usual", seed), *_requests(scenario, source, flood, FLOODING, seed)]
    return Workload(tuple(sorted(rows, key=lambda row: row.at_s)))


def _phases(scenario: Scenario) -> Iterator[tuple[float, Phase]]:
    return zip(scenario.begins_s, scenario.phases, strict=False)


def _pieces(scenario: Scenario, phase: Phase, at_s: float, load: float) -> Iterator[Piece]:
    piece = Piece(at_s, at_s + phase.lasts_s, scenario.per_s * phase.load * load)
    return iter((piece,)) if phase.bursts is None else bursty(piece, phase.bursts)


def _requests(scenario: Scenario, source: Source, pieces: Sequence[Piece], stream: str, seed: str) -> Iterator[Arrival]:
    rng = Random(f"{seed}/{stream}/requests")
    believed = scenario.phases[0].hard_ratio[0]
    for number, at_s in enumerate(laid_along(source.units(stream), pieces)):
        index = scenario.phase_at(at_s)
        phase = scenario.phases[index]
        part = (at_s - scenario.begins_s[index]) / phase.lasts_s
        tenant = FLOODING if stream == FLOODING else rng.choice(_TENANTS)
        row = source.row(number)
        if row is None:
            hard, longer = (low + (high - low) * part for low, high in (phase.hard_ratio, phase.longer))
            row = source.drawn(rng, scenario.lengths, hard_ratio=hard, believed=believed, longer=longer)
        yield replace(row, at_s=at_s, tenant=tenant if scenario.has_flood else row.tenant)
