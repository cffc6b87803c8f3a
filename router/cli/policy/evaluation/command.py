"""`router policy evaluate`: off-policy estimates from the decision log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from router.cli.policy.attempt import tallied, write_json
from router.cli.policy.evaluation.view import evaluation_view
from router.core.rollouts.gate import Verdict
from router.domain.errors import RouterError
from router.policy.diff import difference
from router.policy.policy import Policy
from router.runtime.reload import load_directory
from router.settings import load_settings
from router.sim.off_policy.evaluate import Evaluation
from router.sim.off_policy.evaluate import evaluate as estimate
from router.sim.off_policy.gate import judge
from router.storage.decision_records import find_log, read_decisions, read_last

THIN, UNMET = 3, 4
_WORDS = {True: "passed", False: "refused", None: "too little is known"}
_NO_PROMPTS = (
    "--artefact: a log cannot tell what another artefact would have estimated: it reads prompts, and prompts are not "
    "kept in the log. Score it on outcomes by `router evaluate OUTCOMES --model FILE`, or let it decide a workload by "
    "`router policy try POLICIES --artefact FILE --workload FILE`"
)


def evaluate(
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Policy directory to estimate.")],
    *,
    log: Annotated[Path, typer.Option(help="Decision log: the daemon's state directory, or files of it.")],
    old: Annotated[
        Path | None, typer.Option(help="Policy directory in force when it was logged; else what serve would use.")
    ] = None,
    request_class: Annotated[
        str | None, typer.Option("--class", help="Only what falls in this class of the new policy.")
    ] = None,
    gate: Annotated[
        bool, typer.Option("--gate", help="Only judge what `rollout.require` of its classes asks for, as serve does.")
    ] = False,
    artefact: Annotated[
        Path | None, typer.Option(help="Not possible from a log: says what to do instead.", hidden=True)
    ] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
) -> None:
    """Estimate what a new policy would have earned on the traffic that was logged, without running it.

    Quality, promises kept, useful answers and cost with intervals of 95 %, beside what the logged policy earned. IPS
    weighs outcomes by how much likelier the new policy picks them, SNIPS normalises the weights, DR (the one that
    counts) predicts every candidate and corrects the prediction by what came.

    It needs a log of a policy that explores (`exploration` of a class); quality needs feedback. Where the log says too
    little, it says what would be needed, and concludes nothing. A new artefact cannot be estimated: it reads prompts,
    and prompts are not in the log. Try it with `router policy try --artefact FILE`.

    With --gate every class of NEW with a canary that has a `require` is judged, as serve does before it begins. Exit
    status: 0 concluded or passed, 2 unreadable, 3 too little support for a figure, 4 what is required is not met.

    Examples:

        router policy evaluate edited/ --log state

        router policy evaluate edited/ --log state --old policies --class chat --json out.json

        router policy evaluate edited/ --log state --gate
    """
    if artefact is not None:
        raise RouterError(_NO_PROMPTS)
    if json_ is not None and not json_.parent.is_dir():
        raise RouterError(f"{json_}: there is no directory {json_.parent}")
    files = find_log(log)
    before, after = load_directory(old or load_settings().policies), load_directory(new)
    if gate:
        raise typer.Exit(_judge_all(files, before, after, only=request_class, to=json_))
    told = _estimated(files, before, after, only=request_class)
    changes = difference(before, after)
    if json_ is not None:
        document = {"log": str(log), "new": str(new), "changes": changes, "concluded": not told.is_refused}
        write_json(json_, {**document, **msgspec.to_builtins(told)})
    Console().print(evaluation_view(told, changes, log=str(log), new=str(new)))
    if told.is_refused:
        raise typer.Exit(THIN)


def _estimated(files: Sequence[Path], old: Policy, new: Policy, *, only: str | None) -> Evaluation:
    """By all that can be read; says how much cannot."""
    unread: list[str] = []
    with tallied(Console(stderr=True), counted=False) as bar:
        logged = read_decisions(files, skipped=lambda path, line: unread.append(f"{path}:{line}"))
        told = estimate(bar.track(logged, description="decisions"), old, new, only=only)
    if unread:
        typer.echo(f"{len(unread)} lines could not be read, the first is {unread[0]}", err=True)
    return told


def _judge_all(files: Sequence[Path], old: Policy, new: Policy, *, only: str | None, to: Path | None) -> int:
    """One line for each class that requires something; the exit status."""
    found: dict[str, Verdict] = {}
    for one in new.classes:
        require = one.rollout.require
        if require is not None and only in (None, one.name):
            found[one.name] = judge(read_last(files, require.decisions), old, new, one.name, require)
    if not found:
        raise RouterError("no class of the policy requires anything: give one `rollout: {mode: canary, require: ...}`")
    for name, verdict in found.items():
        typer.echo(f"class {name}: {_WORDS[verdict.passed]}: {verdict.reason}")
    if to is not None:
        write_json(to, {name: {"verdict": _WORDS[v.passed], "reason": v.reason} for name, v in found.items()})
    results = {verdict.passed for verdict in found.values()}
    return UNMET if False in results else THIN if None in results else 0
