"""`router capacity apply`: a plan carried out, after it was shown and confirmed."""

from __future__ import annotations

import hashlib
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from msgspec import Struct
from rich.console import Console

from router.backends.aws.control.provisioned import Provisioned, create, delete, list_provisioned, until_in_service
from router.cli.aws import account as a
from router.cli.capacity.changed import changes_view
from router.cli.capacity.show import read_file
from router.domain.aws.geography import without_geography
from router.domain.deployment import Deployment, Kind
from router.domain.errors import RouterError
from router.runtime.reload import load_directory
from router.settings import load_settings
from router.sim.capacity.changes import Changes, changes
from router.sim.capacity.offers import Commitment
from router.sim.capacity.plan import Plan


class _Place(Struct, frozen=True):
    region: str | None
    role: str | None
    endpoint: str | None

    def ask(self, what: Any) -> Any:
        return a.asked("bedrock", what, region=self.region, role=self.role, endpoint=self.endpoint)


def apply(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="File that `advise --plan` wrote.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody can be asked.")] = False,
    commitment: Annotated[
        list[Commitment] | None,
        typer.Option(help="Allow purchases under this commitment, which cannot be given back; may be repeated."),
    ] = None,
    model_id: Annotated[
        str | None, typer.Option(help="Model that Bedrock sells; absent: that of the policy's deployment on demand.")
    ] = None,
    policies: Annotated[
        Path | None, typer.Option(help="Where the model id is looked up; else ROUTER_POLICIES or ./policies.")
    ] = None,
    max_age_days: Annotated[int, typer.Option(min=0, help="Refuse a plan that is older.")] = 14,
    poll_seconds: Annotated[float, typer.Option(min=0.05, help="How often to look while units are created.")] = 10.0,
    region: a.Region = None,
    role: a.Role = None,
    endpoint_url: a.Endpoint = None,
) -> None:
    """Show what a plan would buy and give back, ask, and do it. Without an answer nothing is bought.

    What there is counts: applied twice, a plan changes nothing the second time. Units that the plan holds for some
    hours are bought while those last and given back after them, so run it at the start of every hour. Units under a
    commitment are paid until it ends and are bought only where `--commitment` names it.

    Examples:

        router capacity apply plan.yaml

        router capacity apply plan.yaml --commitment one-month --yes
    """
    found, text = read_file(plan)
    _check(plan, found, max_age_days, commitment or [], today=datetime.now(UTC).date())
    place = _Place(region or found.region, role, endpoint_url)
    model = model_id or _model_of(found, policies or load_settings().policies)
    there: list[Provisioned] = place.ask(list_provisioned)
    at = datetime.now(ZoneInfo(found.timezone))
    todo = changes(found, hashlib.sha256(text.encode()).hexdigest(), model, there, at=at)
    console = Console()
    console.print(changes_view(todo, model, at))
    if todo.is_empty:
        return
    if not yes and not _confirmed():
        typer.echo("Nothing was bought or changed: add --yes to do it.")
        return
    _carry_out(place, todo, poll_seconds)


def _check(path: Path, plan: Plan, max_age_days: int, allowed: list[Commitment], *, today: date) -> None:
    age = (today - date.fromisoformat(plan.made_on)).days
    if age > max_age_days:
        raise RouterError(
            f"{path}: made {age} days ago, on {plan.made_on}: demand may be another by now. Make a new one with "
            f"`router capacity advise`, or allow it with --max-age-days {age}"
        )
    for one in plan.purchases:
        if one.commitment is not Commitment.NONE and one.commitment not in allowed:
            raise RouterError(
                f"{path}: buys {one.units} units under a commitment of {one.commitment.value.replace('-', ' ')}, which "
                f"cannot be given back: allow it with --commitment {one.commitment.value}"
            )


def _confirmed() -> bool:
    return sys.stdin.isatty() and typer.confirm("Do it?")


def _model_of(plan: Plan, policies: Path) -> str:
    """The id of the model on demand; units are bought of the model itself, not of a profile over regions."""
    deployments = load_directory(policies).deployments
    ours = [d for d in deployments if d.model == plan.model and d.address.backend == "bedrock"]
    targets = {without_geography(d.address.target) for d in ours if _is_on_demand(d)}
    if len(targets) != 1:
        told = ", ".join(sorted(targets)) or "none"
        raise RouterError(
            f"{policies}: which model of Bedrock is {plan.model}? Its deployments on demand name: {told}. "
            "Give --model-id"
        )
    return targets.pop()


def _is_on_demand(deployment: Deployment) -> bool:
    return deployment.kind is not Kind.PROVISIONED and not deployment.address.target.startswith("arn:")


def _carry_out(place: _Place, todo: Changes, poll_s: float) -> None:
    """Buying comes first, so that there is never less than before; a failure leaves what is done, and says so."""
    console = Console(stderr=True)
    for one in todo.creations:
        with console.status(f"{one.order.name}: ordered") as status:

            def seen(found: Provisioned, status: Any = status) -> None:
                status.update(f"{found.name}: {found.status}, {found.units} of {found.desired_units} units")

            async def buy(client: Any, creation: Any = one, told: Any = seen) -> Provisioned:
                arn = await create(client, creation.order)
                typer.echo(f"bought {creation.order.units} units of {creation.order.model}: {arn}")
                return await until_in_service(client, arn, poll_s=poll_s, seen=told)

            bought: Provisioned = place.ask(buy)
        typer.echo(f"in service: put `target: {bought.arn}` into the deployment of the policy")
    for gone in todo.deletions:

        async def give_back(client: Any, arn: str = gone.arn) -> None:
            await delete(client, arn)

        place.ask(give_back)
        typer.echo(f"given back: {gone.name} ({gone.units} units)")
