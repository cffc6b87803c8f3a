"""Which servers does a simulated fleet have, and what befalls them? The YAML of a fleet, parsed and checked.

```yaml
deployments:
  - name: small                 # replicas: n > 1 makes small-0, small-1 ...; an event on the group hits each
    model: llama-3.1-8b
    tier: small
    kind: continuous            # continuous | batch | provisioned
    replicas: 1
    price_usd_per_mtok: {input: 0.22, output: 0.22}
    step_ms: {base: 6.6746, per_sequence: 0.058176, per_context_token: 0.000032, per_prefill_token: 0.0209}
    step_token_budget: 2048
    max_sequences: 256
    kv_tokens: 427000
    background: {requests_per_s: 0, input_tokens: 1000, output_tokens: 150}   # with on_s, off_s: by turns
    # kind batch:       batch_ms: {base: 30, per_item: 2}, max_items: 128
    # kind provisioned: as continuous, plus tokens_per_min: {input: 100000, output: 20000}, hourly_usd: 20.0
    # kind job:         job: {takes_s: 7200, min_records: 100, collect_s: 900}, all of it in `simulated_jobs.terms`
    # lane: flex      # what the router is told of its service tier; its servers are as slow as step_ms says
events:
  - {at_s: 600, until_s: 900, deployment: small, slowdown: 2.0}   # or down: true, or throttle_ratio: 0.3
telemetry_lag_s: 0.0
```
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import msgspec
import yaml
from msgspec import Meta, Struct

from router.backends.simulated_events import NS_PER_S, Disturbance, Disturbances
from router.backends.simulated_jobs.terms import JobSpec, advice, job_terms, unfit
from router.domain.deployment import (
    LANE_OF,
    Address,
    Deployment,
    DeploymentName,
    Kind,
    Lane,
    Price,
    Tier,
    TokenQuota,
)
from router.domain.errors import PolicyError, RouterError
from router.policy.aws.job import BACKEND

NonNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(min_length=1)]


class StepMs(Struct, frozen=True, forbid_unknown_fields=True):
    """Milliseconds of one step: `base + per_sequence*B + per_context_token*ctx + per_prefill_token*P`."""

    base: Positive
    per_sequence: NonNegative = 0.0
    per_context_token: NonNegative = 0.0
    per_prefill_token: NonNegative = 0.0


class BatchMs(Struct, frozen=True, forbid_unknown_fields=True):
    """Milliseconds of one batch of n items: `base + per_item*n`."""

    base: Positive
    per_item: NonNegative = 0.0


class TokenPrices(Struct, frozen=True, forbid_unknown_fields=True):
    """USD per million tokens."""

    input: NonNegative
    output: NonNegative


class TokensPerMin(Struct, frozen=True, forbid_unknown_fields=True):
    """What the two token buckets of provisioned capacity hold, and gain a minute."""

    input: Count
    output: Count


class Background(Struct, frozen=True, forbid_unknown_fields=True):
    """Load from others that the ledger cannot see: Poisson arrivals of one size; with `off_s` for `on_s` seconds, then
    not for `off_s`, by turns."""

    requests_per_s: NonNegative = 0.0
    input_tokens: Count = 1000
    output_tokens: Count = 150
    on_s: Positive = 60.0
    off_s: NonNegative = 0.0


class DeploymentSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """One group of equal servers, as written."""

    name: Name
    model: Name
    tier: Tier
    kind: Kind = Kind.CONTINUOUS
    replicas: Count = 1
    price_usd_per_mtok: TokenPrices = TokenPrices(0.0, 0.0)
    step_ms: StepMs | None = None
    step_token_budget: Count = 2048
    max_sequences: Count = 256
    kv_tokens: Count = 400_000
    background: Background = Background()
    batch_ms: BatchMs | None = None
    max_items: Count = 1
    tokens_per_min: TokensPerMin | None = None
    hourly_usd: NonNegative = 0.0
    lane: Lane | None = None
    job: JobSpec | None = None

    def names(self) -> tuple[str, ...]:
        """The routable copies."""
        if self.replicas == 1:
            return (self.name,)
        return tuple(f"{self.name}-{n}" for n in range(self.replicas))


class EventSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """What befalls a deployment or each copy of a group over `[at_s, until_s)`, unannounced."""

    at_s: NonNegative
    until_s: Positive
    deployment: str
    slowdown: Positive = 1.0
    down: bool = False
    throttle_ratio: Share = 0.0


class FleetSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole fleet. Telemetry is polled each 100 ms and delivered `telemetry_lag_s` later."""

    deployments: Annotated[tuple[DeploymentSpec, ...], Meta(min_length=1)]
    events: tuple[EventSpec, ...] = ()
    telemetry_lag_s: NonNegative = 0.0

    def disturbances(self, group: str, name: str) -> Disturbances:
        """The events of one server."""
        return Disturbances(
            Disturbance(
                start_ns=round(event.at_s * NS_PER_S),
                end_ns=round(event.until_s * NS_PER_S),
                slowdown=Fraction(str(event.slowdown)),
                down=event.down,
                throttle_ratio=event.throttle_ratio,
            )
            for event in self.events
            if event.deployment in (group, name)
        )


def load_fleet(path: Path) -> FleetSpec:
    """The fleet in a file; raises `RouterError` where it cannot be read or is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RouterError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    return read_fleet(text, str(path))


def read_fleet(text: str, file: str = "") -> FleetSpec:
    """Parse and check a fleet; raises `PolicyError` with file, line, column and path."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise PolicyError(f"not YAML: {error.problem}", file=file, line=line, column=column) from None
    try:
        spec = msgspec.convert(document, FleetSpec)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `")
        raise _located(problem, path.rstrip("`") or "$", root, file) from None
    for problem, path in _inconsistencies(spec):
        raise _located(problem, path, root, file)
    return spec


def deployments(spec: FleetSpec) -> tuple[Deployment, ...]:
    """The fleet as the router may know it: names, prices and quotas, not the timing of the servers."""
    return tuple(_deployment(group, name) for group in spec.deployments for name in group.names())


def _deployment(group: DeploymentSpec, name: str) -> Deployment:
    prices, quota = group.price_usd_per_mtok, group.tokens_per_min
    if group.kind is Kind.PROVISIONED:
        prices = TokenPrices(0.0, 0.0)
    backend = BACKEND if group.kind is Kind.JOB else "simulated"
    return Deployment(
        name=DeploymentName(name),
        group=group.name,
        model=group.model,
        tier=group.tier,
        kind=group.kind,
        address=Address(backend=backend, target=group.model),
        price=Price(prices.input, prices.output, hourly_usd=group.hourly_usd),
        quota=TokenQuota(quota.input, quota.output) if quota else None,
        max_items=group.max_items,
        lane=group.lane or LANE_OF[group.kind],
        job=None if group.job is None else job_terms(group.job),
    )


def _inconsistencies(spec: FleetSpec) -> list[tuple[str, str]]:
    """What the types cannot say, as (problem, path)."""
    found: list[tuple[str, str]] = []
    names: set[str] = set()
    for at, group in enumerate(spec.deployments):
        where = f"$.deployments[{at}]"
        taken = {group.name, *group.names()}
        if taken & names:
            found.append((f"the name {group.name} is taken", f"{where}.name"))
        names |= taken
        found += [(problem, where) for problem in _missing(group)]
        found += [(problem, where + inside) for problem, inside in _unfit_job(group)]
    for at, event in enumerate(spec.events):
        where = f"$.events[{at}]"
        if event.deployment not in names:
            found.append((f"no deployment is called {event.deployment}", f"{where}.deployment"))
        if event.until_s <= event.at_s:
            found.append(("until_s must come after at_s", f"{where}.until_s"))
        if event.slowdown == 1.0 and not event.down and event.throttle_ratio == 0.0:
            found.append(("an event needs one of slowdown, down, throttle_ratio", where))
    return found


def _missing(group: DeploymentSpec) -> list[str]:
    if group.kind is Kind.JOB:
        return []
    if group.kind is Kind.BATCH:
        unfit = ["a batch deployment cannot have background load"] if group.background.requests_per_s else []
        return unfit if group.batch_ms else ["a batch deployment needs batch_ms", *unfit]
    problems = [] if group.step_ms else [f"a {group.kind} deployment needs step_ms"]
    if group.kind is Kind.PROVISIONED and group.tokens_per_min is None:
        problems.append("a provisioned deployment needs tokens_per_min")
    if group.background.input_tokens > group.kv_tokens:
        problems.append("background input_tokens do not fit into kv_tokens")
    return problems


def _unfit_job(group: DeploymentSpec) -> list[tuple[str, str]]:
    if group.kind is not Kind.JOB:
        unmeant = f"a {group.kind} deployment has no job: write `kind: job`, or drop `job`"
        return [] if group.job is None else [(unmeant, ".job")]
    others = {
        "step_ms": group.step_ms,
        "batch_ms": group.batch_ms,
        "tokens_per_min": group.tokens_per_min,
        "background": group.background.requests_per_s,
    }
    return unfit(group.job, replicas=group.replicas, others=others)


def _located(problem: str, path: str, root: yaml.Node | None, file: str) -> PolicyError:
    """The error at the node that the path `$.a[0].b` leads to, or the nearest that exists."""
    node, unknown = root, re.search(r"unknown field `([^`]+)`", problem)
    steps: list[str] = re.findall(r"[^.$\[\]]+", path)
    for step in [*steps, *([unknown.group(1)] if unknown else [])]:
        found = _child(node, step)
        if found is None:
            break
        node = found
    if unknown and path.endswith(".job"):
        problem += advice(unknown.group(1))
    elif unknown:
        problem += "; a simulated fleet is no policy: `router simulate --help` shows one"
    line, column = (node.start_mark.line + 1, node.start_mark.column + 1) if node else (1, 1)
    return PolicyError(problem, file=file, line=line, column=column, path=path.removeprefix("$").lstrip("."))


def _child(node: yaml.Node | None, step: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    if isinstance(node, yaml.SequenceNode) and step.isdigit() and int(step) < len(node.value):
        return node.value[int(step)]  # type: ignore[no-any-return]  # the stubs leave it open
    return None
