"""`router simulate`: the daemon's own dispatcher over a simulated fleet, in virtual time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec.structs import replace
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from router.backends.simulated_fleet import deployments, load_fleet
from router.cli.scenarios.command import ASK, Asked, play_scenarios, refuse_beside
from router.cli.scenarios.options import PicturePath, ScenarioName, TracePath
from router.domain.errors import RequestError, SettingsError
from router.domain.slo import Check
from router.routing.profile import baseline
from router.runtime.reload import load_directory
from router.sim import baselines
from router.sim.checked.strength import read_strength
from router.sim.oracle import ExactOracle
from router.sim.recorded import RecordedEstimator
from router.sim.run import ProfileMaker, Setting
from router.sim.run import simulate as run
from router.sim.workload import read_workload
from router.wiring import estimator_for, trained_estimator

_COLUMNS = ("useful", "slo_met", "adequate_of_served", "shed", "cost_per_1k_usd")


def simulate(
    workload: Annotated[
        Path | None, typer.Argument(metavar="WORKLOAD", help="Requests over time: CSV or JSON lines, plain or .gz.")
    ] = None,
    fleet: Annotated[
        Path | None, typer.Option(help="Simulated servers (YAML, see above); they take the place of the policy's.")
    ] = None,
    policies: Annotated[Path | None, typer.Option(help="Policy directory; `policies`, or a scenario's own.")] = None,
    load: Annotated[float, typer.Option(min=1e-6, help="Divide every arrival time by this.")] = 1.0,
    for_: Annotated[float | None, typer.Option("--for", help="Only what arrives in so many simulated seconds.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same report.")] = 0,
    feedback: Annotated[float, typer.Option(min=0, max=1, help="Share of answers whose quality is fed back.")] = 0.0,
    artefact: Annotated[Path | None, typer.Option(help="Trained estimator; else the shipped prior.")] = None,
    check: Annotated[
        str, typer.Option(help="What checks the answers of classes with a cascade, such as catch=0.7,alarm=0.05.")
    ] = "",
    with_baselines: Annotated[bool, typer.Option("--baselines", help="Run all baselines beside it.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the whole report here.")] = None,
    scenario: ScenarioName = None,
    trace: TracePath = None,
    picture: PicturePath = None,
) -> None:
    """Show what a policy would do to a workload on a fleet, or how it follows a change, before anything is at stake.

    Examples:

        router simulate day.csv.gz --fleet fleet.yaml --policies policies/bench/degrade --json report.json

        router simulate day.csv.gz --fleet fleet.yaml --load 3 --baselines --json report.json

        router simulate day.csv.gz --fleet fleet.yaml --policies checked --feedback 0.3 --check catch=0.7,alarm=0.05

        router simulate --scenario slowdown --policies policies/bench/floor --json out.json --picture slowdown.svg

    The report holds useful, SLO and adequate shares, cost and latency quantiles, by class and by deployment. A workload
    has no answers to look at: checks of a cascade count only as far as --check says how many of the inadequate (catch)
    and of the adequate answers (alarm) fail, and how many seconds a verdict takes (wait).
    """
    unfit = {"WORKLOAD (say --workload)": workload, "--for": for_, "--feedback": feedback, "--check": check}
    if scenario is not None:
        refuse_beside({**unfit, "--baselines": with_baselines})
        play_scenarios(Asked(scenario, policies, fleet, trace, load, seed, artefact, json_, picture))
        return
    if workload is None or fleet is None or trace is not None or picture is not None:
        raise RequestError(ASK)
    setting = _setting(workload, fleet, policies or Path("policies"), load, for_, seed, feedback, artefact)
    setting = replace(setting, check=read_strength(check) if check else None)
    _warn_of_checks(setting)
    _report(setting, with_baselines, json_)


def _report(setting: Setting, with_baselines: bool, out: Path | None) -> None:
    """Run the router, and the baselines if asked for; write all of it, and show the figures."""
    names: dict[str, ProfileMaker | None] = {"router": None}
    if with_baselines:
        names |= {name: _baseline(name, setting) for name in baselines.NAMES}
    reports = _run_all(setting, names)
    document = reports["router"]
    if with_baselines:
        document["baselines"] = {name: reports[name] for name in baselines.NAMES}
    if out is not None:
        out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    Console().print(_table(reports))
    if "jobs" in document:
        Console().print(_lanes(document["jobs"]))
    for note in document.get("notes", ()):
        Console(stderr=True).print(f"note: {note}", highlight=False)


def _setting(
    workload: Path,
    fleet: Path,
    policies: Path,
    load: float,
    for_s: float | None,
    seed: int,
    feedback: float,
    artefact: Path | None,
) -> Setting:
    spec = load_fleet(fleet)
    arrivals = read_workload(workload).over(load=load, for_s=for_s)
    return Setting(
        workload=arrivals,
        fleet=spec,
        policy=load_directory(policies, deployments=deployments(spec)),
        estimator=RecordedEstimator(arrivals, estimator_for(trained_estimator(artefact), deployments(spec))),
        seed=seed,
        feedback_ratio=feedback,
    )


def _warn_of_checks(setting: Setting) -> None:
    """Say what the simulation leaves out, or what is asked of it and cannot be."""
    cascades = {c.name: c.cascade for c in setting.policy.classes if c.cascade is not None}
    names = ", ".join(cascades)
    if cascades and setting.check is None:
        typer.echo(f"{names}: answers are not checked here, so nothing is made again; see --check", err=True)
    elif setting.check is not None and not any(Check.CALLBACK in c.checks for c in cascades.values()):
        raise SettingsError("--check needs a class with `cascade` whose `checks` have `callback`: it is what is played")


def _baseline(name: str, setting: Setting) -> ProfileMaker:
    def make(oracle: ExactOracle) -> Any:
        return baseline(baselines.make(name, setting, oracle))

    return make


def _run_all(setting: Setting, names: dict[str, ProfileMaker | None]) -> dict[str, dict[str, Any]]:
    """Each in turn, with a bar on standard error where somebody looks."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    reports: dict[str, dict[str, Any]] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        for name, profile in names.items():
            task = bar.add_task(name, total=len(setting.workload.arrivals))
            shown = lambda done, total, task=task: bar.update(task, completed=done, total=total)  # noqa: E731
            one = setting if profile is None else replace(setting, check=None)
            reports[name] = dict(run(one, profile, shown if console.is_terminal else None))
    return reports


def _table(reports: dict[str, dict[str, Any]]) -> Table:
    titles = (*(name.replace("_", " ") for name in _COLUMNS), "TTFT p95 s", "TPOT p95 ms", "wall s")
    columns = (Column(title, min_width=max(6, *map(len, title.split()))) for title in titles)
    table = Table(Column(no_wrap=True), *columns, box=None, padding=(0, 1, 0, 0))
    for name, one in reports.items():
        overall = one["overall"]
        cells = [_cell(overall[column]) for column in _COLUMNS]
        tpot = overall["tpot_s"]["p95"]
        ttft = _cell(overall["ttft_s"]["p95"])
        table.add_row(name, *cells, ttft, "-" if tpot is None else f"{tpot * 1e3:.1f}", f"{one['wall_s']:.1f}")
    return table


def _lanes(lanes: dict[str, dict[str, Any]]) -> Table:
    """What came of each lane of batch jobs under the router."""
    table = Table("batch jobs", *lanes)
    for title, cell in _FACTS.items():
        table.add_row(title, *(cell(one) for one in lanes.values()))
    return table


def _moved(lane: dict[str, Any]) -> str:
    return ", ".join(f"{count} {code}" for code, count in lane["moved"].items()) or "0"


_FACTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "jobs": lambda one: _cell(one["jobs"].get("Submitted", 0)),
    "requests": lambda one: _cell(one["requests"]),
    "answered by jobs": lambda one: _cell(one["answered"]),
    "moved on, and why": _moved,
    "deadline kept": lambda one: _cell(one["deadline_kept"]),
    "wait p50 s": lambda one: _cell(one["wait_s"]["p50"]),
    "wait p95 s": lambda one: _cell(one["wait_s"]["p95"]),
    "paid USD": lambda one: _cell(one["cost_usd"]),
    "paid in vain USD": lambda one: _cell(one["unused_usd"]),
    "saved USD": lambda one: _cell(one["saved_usd"]),
}


def _cell(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"
