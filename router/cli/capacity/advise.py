"""`router capacity advise`: units and hours to buy, out of a decision log or a trace."""

from __future__ import annotations

import math
from datetime import datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from msgspec import Struct, to_builtins
from rich.console import Console

from router.cli.capacity import options as o
from router.cli.capacity.page import advice_page
from router.cli.capacity.terms import Options, Priced, priced
from router.cli.capacity.told import Told, demand_of
from router.cli.capacity.view import advice_view
from router.cli.capacity.written import plan_of
from router.cli.policy.attempt import write_json
from router.cli.report.write import save, spelled, today
from router.domain.errors import RouterError
from router.sim.capacity.advice import Advice, Terms
from router.sim.capacity.advice import advise as run
from router.sim.capacity.calls import Read, read_log, read_trace
from router.sim.capacity.minutes import Minutes
from router.sim.capacity.notes import notes
from router.sim.capacity.offers import Commitment
from router.sim.capacity.plan import write_plan

_A_MONDAY = datetime(2024, 1, 1)


def advise(
    context: typer.Context,
    *,
    log: o.Log = None,
    trace: o.Trace = None,
    model: o.Model = None,
    scale: o.Scale = 1.0,
    starts: o.Starts = None,
    timezone: o.Zone = "UTC",
    policies: o.Policies = None,
    deployment: o.DeploymentName = None,
    deployment_units: o.DeploymentUnits = 1,
    unit_input: o.UnitInput = None,
    unit_output: o.UnitOutput = None,
    hourly_usd: o.Hourly = None,
    hourly_usd_1m: o.HourlyMonth = None,
    hourly_usd_6m: o.HourlySixMonths = None,
    on_demand_input: o.InputPrice = None,
    on_demand_output: o.OutputPrice = None,
    lot: o.Lot = 1,
    schedule: o.Schedule = None,
    blocks: o.Blocks = 4,
    plan: o.PlanPath = None,
    report: o.ReportPath = None,
    json_: o.JsonPath = None,
    date: o.MadeOn = None,
) -> None:
    """Say how many provisioned units to buy for which hours, with the cost curve and the break-even. Changes nothing.

    Every way to buy that has a price is weighed, and judged on days that had no say in it. What the units do not take
    is bought on demand. The `hourly_usd` of a policy counts as a price without commitment.

    Examples:

        router capacity advise --log state --plan plan.yaml --report advice.html

        router capacity advise --log state --hourly-usd 1.50 --hourly-usd-1m 1.20 --hourly-usd-6m 0.95

        router capacity advise --trace day.csv.gz --model m --unit-input 10000 --unit-output 2000 --hourly-usd 0.40
        --on-demand-input 0.99 --on-demand-output 0.99 --schedule flat
    """
    _check(plan, report, json_, scale=scale)
    given = {Commitment.NONE: hourly_usd, Commitment.ONE_MONTH: hourly_usd_1m, Commitment.SIX_MONTHS: hourly_usd_6m}
    hourly = {term: usd for term, usd in given.items() if usd is not None}
    said = (policies, model, deployment, deployment_units, unit_input, unit_output)
    found = priced(Options(*said, hourly, on_demand_input, on_demand_output))
    terms = Terms(found.unit, found.on_demand, found.hourly_usd, lot, schedule, blocks)
    asked = _Asked(log, trace, scale, starts, timezone, _dated(date), _spelled(context))
    told = _told(asked, found, terms)
    _write(told, plan, report, json_)
    Console().print(advice_view(told))
    typer.echo(_closing(plan, report))


class _Asked(Struct, frozen=True):
    """Where demand is read, and what plan and page are headed with."""

    log: Path | None
    trace: Path | None
    scale: float
    starts: datetime | None
    timezone: str
    date: str
    command: str


def _told(asked: _Asked, found: Priced, terms: Terms) -> Told:
    zone = _zone(asked.timezone)
    read, model = _demand(asked, found.model, zone)
    minutes = Minutes(read.calls, found.unit, found.on_demand, scale=asked.scale)
    advice = run(minutes, terms, zone)
    return Told(
        model=model,
        priced=found,
        terms=terms,
        scale=asked.scale,
        timezone=asked.timezone,
        demand=demand_of(read, minutes),
        advice=advice,
        notes=(*notes(minutes, terms, advice), *read.notes, *_assumed(asked, advice)),
        date=asked.date,
        command=asked.command,
    )


def _demand(asked: _Asked, model: str | None, zone: tzinfo) -> tuple[Read, str]:
    if asked.log is not None and asked.trace is None:
        return read_log(asked.log, model=model)
    if asked.trace is None or asked.log is not None:
        raise RouterError("what was asked for? Name either --log STATE or --trace FILE")
    if model is None:
        raise RouterError("a trace does not say which model would serve it: name it with --model")
    starts = (asked.starts or _A_MONDAY).replace(tzinfo=zone)
    return read_trace(asked.trace, model=model, starts_s=starts.timestamp()), model


def _assumed(asked: _Asked, advice: Advice) -> tuple[str, ...]:
    if asked.trace is None or asked.starts is not None or advice.pattern == "flat":
        return ()
    return ("The trace is taken to begin on a Monday at midnight; say when it did with --starts",)


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise RouterError(f"--timezone {name}: no such timezone; write one such as UTC or Europe/Berlin") from None


def _check(*outputs: Path | None, scale: float) -> None:
    """Before minutes of work, not after."""
    if not math.isfinite(scale):
        raise RouterError(f"--scale: expected a number, got {scale}")
    for path in outputs:
        if path is not None and not path.parent.is_dir():
            raise RouterError(f"{path}: there is no directory {path.parent}")


def _dated(date: str | None) -> str:
    try:
        return today() if date is None else datetime.strptime(date, "%Y-%m-%d").date().isoformat()
    except ValueError:
        raise RouterError(f"--date {date}: write a date such as 2026-03-31") from None


def _spelled(context: typer.Context) -> str:
    return spelled(context).replace("router ", "router capacity ", 1)


def _write(told: Told, plan: Path | None, report: Path | None, json_: Path | None) -> None:
    if plan is not None:
        save(plan, write_plan(plan_of(told)))
    if report is not None:
        save(report, advice_page(told))
    if json_ is not None:
        write_json(json_, to_builtins(told))


def _closing(plan: Path | None, report: Path | None) -> str:
    written = [f"{name} in {path}" for name, path in (("plan", plan), ("report", report)) if path is not None]
    return "Nothing was bought or changed" + (f"; {', '.join(written)}" if written else "") + "."
