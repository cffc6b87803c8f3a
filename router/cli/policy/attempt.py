"""`router policy try`: what would a new policy do, before anything is at stake?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from router.backends.simulated_fleet import FleetSpec, deployments, load_fleet
from router.cli.comparison_view import comparison_table, replay_view
from router.cli.policy.demo_traffic import SECONDS, demo_workload, own_fleet
from router.cli.rollout_view import rollout_view
from router.complexity.trained import TrainedEstimator
from router.domain.errors import RequestError, RouterError
from router.policy.diff import difference
from router.policy.policy import Policy
from router.runtime.reload import load_directory
from router.settings import load_settings
from router.sim.beside.compare import compare
from router.sim.beside.many import play_many
from router.sim.recorded import RecordedEstimator
from router.sim.replay import replay
from router.sim.run import Played, Setting
from router.sim.workload import Workload, read_workload
from router.storage.decision_records import find_log, read_decisions
from router.wiring import estimator_for, trained_estimator


def attempt(
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Policy directory to try.")],
    *,
    workload: Annotated[Path | None, typer.Option(help="Requests over time: CSV or JSON lines, plain or .gz.")] = None,
    fleet: Annotated[Path | None, typer.Option(help="Simulated deployments (YAML), in place of the policies'.")] = None,
    log: Annotated[Path | None, typer.Option(help="Replay a decision log instead: state directory or files.")] = None,
    old: Annotated[
        Path | None, typer.Option(help="Policy directory to compare with; else what serve would use.")
    ] = None,
    load: Annotated[float, typer.Option(min=1e-6, help="Divide every arrival time by this.")] = 1.0,
    for_: Annotated[float | None, typer.Option("--for", help="Only what arrives in so many simulated seconds.")] = None,
    rollout_at: Annotated[
        float | None,
        typer.Option(min=0, help="Start on the old policy and take NEW up at this simulated second, by its rollouts."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Runs of each policy, with seeds 0, 1, ...")] = 3,
    feedback: Annotated[float, typer.Option(min=0, max=1, help="Share of answers whose quality is fed back.")] = 0.0,
    artefact: Annotated[Path | None, typer.Option(help="Trained estimator; else the shipped prior.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at once; the result is the same.")] = os.cpu_count() or 1,
    json_: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
) -> None:
    """Compare a new policy with the old one: simulated on a workload, or decision by decision on a live log.

    Without a workload it is a quarter of an hour of the demo's stream; without a fleet each policy runs on servers that
    behave as the measured figures of its own deployments.

    Examples:

        router policy try edited/

        router policy try edited/ --workload day.csv.gz --fleet fleet.yaml --for 600 --load 2 --seeds 5 --json out.json

        router policy try edited/ --rollout-at 60 : as a canary would go

        router policy try edited/ --log state : which logged decisions would go elsewhere

    A difference is called better or worse where neither of its two 95 % intervals holds 0: over time (blocks of
    arrivals drawn again) and over seeds.
    """
    before = old or load_settings().policies
    if log is not None and workload is not None:
        raise RequestError("--log and --workload are two things to try it on: say one")
    if json_ is not None and not json_.parent.is_dir():
        raise RouterError(f"{json_}: there is no directory {json_.parent}")
    if log is not None:
        _replay(log, before, new, json_)
        return
    contest = _contest(before, new, workload, fleet, artefact)
    contest = contest.over(load=load, for_s=for_)
    if rollout_at is not None:
        _roll_out(contest, rollout_at, json_)
    else:
        _compare(contest, seeds, feedback, jobs, json_)


class _Contest(msgspec.Struct, frozen=True):
    """Two policies over one workload, each on its fleet; `named` says where each came from."""

    named: dict[str, str]
    policies: tuple[Policy, Policy]
    fleets: tuple[FleetSpec, FleetSpec]
    arrivals: Workload
    trained: TrainedEstimator

    def over(self, *, load: float, for_s: float | None) -> _Contest:
        """Of the workload only this, at this load."""
        arrivals = self.arrivals.over(load=load, for_s=for_s)
        if not arrivals.arrivals:
            raise RequestError(f"{self.named['workload']}: nothing arrives within --for {for_s}")
        return msgspec.structs.replace(self, arrivals=arrivals)

    def setting(self, side: int, **terms: Any) -> Setting:
        """One run of the old (0) or the new (1)."""
        fleet = self.fleets[side]
        estimator = RecordedEstimator(self.arrivals, estimator_for(self.trained, deployments(fleet)))
        return Setting(self.arrivals, fleet, self.policies[side], estimator, **terms)


def _contest(old: Path, new: Path, workload: Path | None, fleet: Path | None, artefact: Path | None) -> _Contest:
    """Without a fleet each policy is tried on deployments that behave as its own; without a workload on the demo's."""
    if fleet is not None:
        given = load_fleet(fleet)
        fleets = given, given
    else:
        fleets = own_fleet(load_directory(old).deployments), own_fleet(load_directory(new).deployments)
    policies = (
        load_directory(old, deployments=deployments(fleets[0])),
        load_directory(new, deployments=deployments(fleets[1])),
    )
    models = sorted({d.model for p in policies for d in p.deployments})
    arrivals = demo_workload(models) if workload is None else read_workload(workload)
    named = {
        "old": str(old),
        "new": str(new),
        "workload": f"{SECONDS / 60:g} minutes of the demo's stream" if workload is None else str(workload),
        "fleet": "servers like each policy's own deployments" if fleet is None else str(fleet),
    }
    return _Contest(named, policies, fleets, arrivals, trained_estimator(artefact))


def _compare(contest: _Contest, seeds: int, feedback: float, jobs: int, out: Path | None) -> None:
    """Every seed under both policies, side by side."""
    settings = [contest.setting(side, seed=n, feedback_ratio=feedback) for side in (0, 1) for n in range(seeds)]
    played = _play(settings, jobs)
    compared = compare([row.at_s for row in contest.arrivals.arrivals], played[:seeds], played[seeds:])
    named, changes = contest.named, difference(*contest.policies)
    if out is not None:
        sides = {"old": [p.report for p in played[:seeds]], "new": [p.report for p in played[seeds:]]}
        write_json(out, {**named, "changes": changes, **msgspec.to_builtins(compared), "reports": sides})
    Console().print(comparison_table(compared, changes, old=named["old"], new=named["new"]))


def _roll_out(contest: _Contest, at_s: float, out: Path | None) -> None:
    """The old policy from the start, the new one taken up at `at_s` as an edit of the directory would be. The fleet is
    the new one's from the start: a fleet does not change by steps."""
    old, new = contest.policies
    begun = msgspec.structs.replace(old, deployments=new.deployments)
    setting = msgspec.structs.replace(contest.setting(1, edits=((at_s, new),)), policy=begun)
    report = _play([setting], 1)[0].report
    if out is not None:
        write_json(out, report)
    Console().print(rollout_view(cast(dict[str, Any], report["rollouts"])))


def tallied(console: Console, *, counted: bool = True) -> Progress:
    """A bar where somebody looks; not `counted` where the total is not known."""
    columns = (BarColumn(), MofNCompleteColumn()) if counted else (TextColumn("{task.completed}"),)
    return Progress(
        TextColumn("{task.description}"),
        *columns,
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _play(settings: Sequence[Setting], jobs: int) -> list[Played]:
    """All runs, with a bar on standard error where somebody looks."""
    console = Console(stderr=True)
    with tallied(console) as bar:
        task = bar.add_task(f"{len(settings)} runs, requests", total=None)
        tell = (lambda done, total: bar.update(task, completed=done, total=total)) if console.is_terminal else None
        return play_many(settings, jobs=jobs, progress=tell)


def write_json(path: Path, document: dict[str, object]) -> None:
    """All figures, for another program."""
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    except OSError as error:
        raise RouterError(f"{path}: {error.strerror}") from None


def _replay(log: Path, old: Path, new: Path, out: Path | None) -> None:
    """The log under the new policy, decision by decision."""
    files = find_log(log)
    before, after = load_directory(old), load_directory(new)
    changes = difference(before, after)
    unread: list[str] = []
    with tallied(Console(stderr=True), counted=False) as bar:
        logged = read_decisions(files, skipped=lambda path, line: unread.append(f"{path}:{line}"))
        told = replay((one.decision for one in bar.track(logged, description="decisions")), before, after)
    if unread:
        typer.echo(f"{len(unread)} lines could not be read, the first is {unread[0]}", err=True)
    if out is not None:
        write_json(out, {"log": str(log), "new": str(new), "changes": changes, **msgspec.to_builtins(told)})
    Console().print(replay_view(told, changes, log=str(log), new=str(new)))
