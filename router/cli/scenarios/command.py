"""`router simulate --scenario NAME`: what is asked, played and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from router.backends.simulated_fleet import deployments, load_fleet
from router.cli.scenarios.picture import picture
from router.cli.scenarios.tables import listing, overview, table
from router.domain.errors import RequestError, RouterError
from router.runtime.reload import load_directory
from router.sim.recorded import RecordedEstimator
from router.sim.scenarios.catalogue import SCENARIOS
from router.sim.scenarios.play import Told, tell
from router.sim.scenarios.scenario import Scenario
from router.sim.scenarios.staging import Given, fleet_of, staged
from router.sim.workload import read_workload
from router.wiring import estimator_for, trained_estimator

LIST, ALL = "list", "all"
ASK = (
    "say either WORKLOAD and --fleet, or --scenario NAME (`--scenario list` shows them); --workload and --picture go"
    " with a scenario"
)


class Asked(Struct, frozen=True):
    """The options that a scenario knows. `None` leaves what is its own."""

    name: str
    policies: Path | None
    fleet: Path | None
    workload: Path | None
    load: float
    seed: int
    artefact: Path | None
    json_: Path | None
    picture: Path | None


def refuse_beside(options: Mapping[str, object]) -> None:
    """A scenario brings its own; raises `RequestError` for what was said and would not count."""
    said = [name for name, value in options.items() if value]
    if said:
        raise RequestError(f"{', '.join(said)} cannot be said with --scenario")


def play_scenarios(asked: Asked) -> None:
    """Play what was asked for, and tell of it; `RouterError` where that cannot be done."""
    if asked.name == LIST:
        Console().print(listing(SCENARIOS.values()))
        return
    chosen = _chosen(asked.name)
    _check_places(asked, many=asked.name == ALL)
    told = _played(asked, chosen)
    _write(asked, told)
    console = Console()
    for one in told:
        console.print(table(one))
    if len(told) > 1:
        console.print(overview(told))


def _chosen(name: str) -> Sequence[Scenario]:
    if name == ALL:
        return tuple(SCENARIOS.values())
    if name not in SCENARIOS:
        raise RequestError(f"there is no scenario `{name}`: say list, all, or one of {', '.join(SCENARIOS)}")
    return (SCENARIOS[name],)


def _check_places(asked: Asked, *, many: bool) -> None:
    """Before anything is played."""
    if asked.json_ is not None and not asked.json_.parent.is_dir():
        raise RouterError(f"{asked.json_}: there is no directory {asked.json_.parent}")
    place = asked.picture
    if place is None:
        return
    if many and place.is_file():
        raise RouterError(f"{place}: --scenario all draws a picture of each, so --picture takes a directory")
    if not many and place.is_dir():
        raise RouterError(
            f"{place} is a directory: --picture takes the file to write, such as {place / asked.name}.svg"
        )
    if not many and not place.parent.is_dir():
        raise RouterError(f"{place}: there is no directory {place.parent}")


def _played(asked: Asked, chosen: Sequence[Scenario]) -> list[Told]:
    """One after the other, with a bar on standard error where somebody looks."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:16}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    fleet = None if asked.fleet is None else load_fleet(asked.fleet)
    trace = None if asked.workload is None else read_workload(asked.workload)
    trained = trained_estimator(asked.artefact)
    told = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        for scenario in chosen:
            own = None if scenario.has_own_mix and len(chosen) > 1 else trace
            servers = deployments(fleet_of(scenario, fleet))
            policy = None if asked.policies is None else load_directory(asked.policies, deployments=servers)
            stage = staged(scenario, Given(policy, fleet, own, asked.load, asked.seed))
            estimator = RecordedEstimator(stage.workload, estimator_for(trained, servers))
            task = bar.add_task(scenario.name, total=1.0)
            told.append(tell(stage, estimator, lambda part, task=task: bar.update(task, completed=part)))  # type: ignore[misc]
    return told


def _write(asked: Asked, told: Sequence[Told]) -> None:
    """The report of one scenario by itself, of all of them by name; a picture of each."""
    try:
        if asked.json_ is not None:
            document: object = {one.scenario: one for one in told} if asked.name == ALL else told[0]
            asked.json_.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
        if asked.picture is not None:
            if asked.name == ALL:
                asked.picture.mkdir(parents=True, exist_ok=True)
            for one in told:
                place = asked.picture / f"{one.scenario}.svg" if asked.name == ALL else asked.picture
                place.write_text(picture(one), encoding="utf-8")
    except OSError as error:
        raise RouterError(f"{error.filename}: {error.strerror}") from None
