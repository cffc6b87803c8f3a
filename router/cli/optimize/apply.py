"""`router optimize apply`: a planned job submitted, once it was shown and confirmed, and followed to its end."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from router.backends.aws.control.optimization import Job, begin, request_of, until_over
from router.backends.aws.control.optimization_plan import OptimizationPlan, read_plan
from router.cli.aws import account as a
from router.cli.optimize.fragment import base_of, fragment_of, optimized_name
from router.cli.report.write import save
from router.domain.errors import RouterError
from router.policy.policy import Policy
from router.runtime.reload import load_directory
from router.settings import load_settings


def apply(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="File that `router optimize plan` wrote.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody can be asked.")] = False,
    policies: Annotated[Path | None, typer.Option(help="Policy directory; else ROUTER_POLICIES or ./policies.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the variant's policy; absent: beside the plan, named after it.")
    ] = None,
    poll_seconds: Annotated[float, typer.Option(min=0.05, help="How often to look while the job runs.")] = 30.0,
    region: a.Region = None,
    role: a.Role = None,
    endpoint_url: a.Endpoint = None,
) -> None:
    """Show what SageMaker would be asked, ask, submit it, and follow the job. Without an answer nothing is submitted.

    When the job is done, the deployment of the variant is written as policy, with what it derives from and what was
    done to it, and with the edits that try it in the shadow. A plan that was submitted before is followed and not
    submitted again, so the command may be stopped and started.

    Examples:

        router optimize apply plan.yaml

        router optimize apply plan.yaml --yes --out policies/fleet/llama-awq.yaml
    """
    found = _read(plan)
    policy = load_directory(policies or load_settings().policies)
    base_of(policy, found.deployment)
    target = out or plan.parent / f"{optimized_name(found)}.yaml"
    _show(found)
    if not yes and not (sys.stdin.isatty() and typer.confirm("Submit it?")):
        typer.echo("Nothing was submitted: add --yes to do it.")
        return
    job = a.asked(
        "sagemaker",
        lambda client: _follow(client, found, poll_seconds),
        region=region or found.region,
        role=role,
        endpoint=endpoint_url,
    )
    _register(target, found, job, policy)


def _read(path: Path) -> OptimizationPlan:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RouterError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    return read_plan(str(path), text)


def _show(plan: OptimizationPlan) -> None:
    typer.echo(f"{plan.model} of {plan.deployment}, planned on {plan.made_on}. CreateOptimizationJob would be asked:")
    typer.echo(msgspec.json.format(msgspec.json.encode(request_of(plan)), indent=2).decode())
    free = plan.technique == "speculative-decoding"
    cost = (
        "AWS asks nothing for such a job." if free else "The job is paid by the hour of the instance that AWS chooses."
    )
    typer.echo(cost)


async def _follow(client: Any, plan: OptimizationPlan, poll_s: float) -> Job:
    is_new = await begin(client, plan)
    typer.echo(f"{plan.job}: {'submitted' if is_new else 'submitted before, followed now'}")
    began = time.monotonic()
    with Console(stderr=True).status(plan.job) as status:

        def seen(job: Job) -> None:
            status.update(f"{job.name}: {job.status}, {time.monotonic() - began:.0f} s")

        return await until_over(client, plan.job, poll_s=poll_s, seen=seen)


def _register(target: Path, plan: OptimizationPlan, job: Job, policy: Policy) -> None:
    save(target, fragment_of(plan, job, policy))
    typer.echo(f"{job.status}: {job.output}")
    typer.echo(f"The variant's deployment is in {target}; nothing of the policy was changed.")
