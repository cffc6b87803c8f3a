"""`router catalog advise`: which variant would keep what a deployment misses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct
from rich.console import Console

from router.cli.catalog.measured import Start, start
from router.cli.catalog.said import advice_view
from router.domain.deployment import Deployment
from router.domain.errors import RouterError
from router.domain.slo import Indicator, Objective
from router.learning.variants.catalogue import Entry, catalogue
from router.learning.variants.effects import EFFECTS, Effect, is_done, offered
from router.learning.variants.predict import Prediction, Verdict, predict
from router.policy.policy import Policy
from router.routing.filters import serves
from router.runtime.reload import load_directory
from router.settings import load_settings


class Promise(Struct, frozen=True):
    """An objective and the class that has it."""

    request_class: str
    objective: Objective


class Option(Struct, frozen=True):
    """A variant: how it is to be had, which deployments of the policy have it already, and what it would do to each
    promise."""

    effect: Effect
    how: str
    there: tuple[str, ...]
    predictions: tuple[Prediction | None, ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Of the promises that there are figures for."""
        return tuple(p.verdict for p in self.predictions if p is not None)


class Advice(Struct, frozen=True):
    """All that is said of a deployment."""

    deployment: Deployment
    entry: Entry
    start: Start
    promises: tuple[Promise, ...]
    options: tuple[Option, ...]


def advise(
    *,
    deployment: Annotated[str, typer.Option(help="Deployment of the policy that may be too slow.")],
    policies: Annotated[Path | None, typer.Option(help="Policy directory; else ROUTER_POLICIES or ./policies.")] = None,
    log: Annotated[
        Path | None, typer.Option(help="Decision log to measure by: the daemon's state directory, or a file of it.")
    ] = None,
    jumpstart_model: Annotated[
        str | None, typer.Option(help="Id in the catalogue; absent: what the deployment's model is called.")
    ] = None,
) -> None:
    """Name the variant that is predicted to keep an objective that a deployment misses, what it does to the cost, and
    what nobody knows before it is measured. Changes nothing.

    Latencies are those of the log; without one, what the latency profile gives. They are multiplied by what is
    documented of each technique: best, expected, worst. `router profile` measures a variant, once there is one.

    Examples:

        router catalog advise --policies policies --deployment llama --log state

        router catalog advise --deployment llama --jumpstart-model meta-textgeneration-llama-3-8b-instruct
    """
    where = policies or load_settings().policies
    policy = load_directory(where)
    found = _deployment(policy, deployment)
    entry = _entry(found, jumpstart_model)
    promises = tuple(_promises(policy, found))
    if not promises:
        raise RouterError(f"{where}: no class that `{deployment}` may serve has a latency objective to keep")
    begun = start(found, log)
    options = tuple(_options(policy, found, entry, promises, begun))
    Console().print(advice_view(Advice(found, entry, begun, promises, options)))


def _deployment(policy: Policy, name: str) -> Deployment:
    found = next((d for d in policy.deployments if name in (d.name, d.group)), None)
    if found is None:
        names = ", ".join(d.name for d in policy.deployments)
        raise RouterError(f"no deployment is called `{name}`; there are: {names}")
    return found


def _entry(deployment: Deployment, named: str | None) -> Entry:
    shipped = catalogue()
    if named is not None:
        found = next((e for e in shipped.models if e.id == named), None)
    else:
        found = shipped.match(deployment.model) or shipped.match(deployment.derived_from or "")
    if found is not None:
        return found
    asked = named or deployment.model
    near = ", ".join(e.id for e in shipped.find(asked)[:5])
    hint = f"; like it: {near}" if near else "; `router catalog` lists all"
    raise RouterError(f"the catalogue has no one model called `{asked}`: name it with --jumpstart-model{hint}")


def _promises(policy: Policy, deployment: Deployment) -> Iterator[Promise]:
    for request_class in policy.classes:
        if serves(request_class, deployment):
            for objective in request_class.objectives.each():
                if objective.indicator is not Indicator.AVAILABILITY:
                    yield Promise(request_class.name, objective)


def _options(
    policy: Policy, deployment: Deployment, entry: Entry, promises: tuple[Promise, ...], begun: Start
) -> Iterator[Option]:
    for one in EFFECTS:
        how = offered(entry, one)
        if how is not None and not is_done(one.kind, deployment.optimizations):
            there = tuple(
                d.name
                for d in policy.deployments
                if d.derived_from == deployment.model and is_done(one.kind, d.optimizations)
            )
            yield Option(one, how, there, tuple(predict(p.objective, begun.calls, one) for p in promises))
