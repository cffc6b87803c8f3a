"""`router capacity list` and `apply` against the double: what is shown, asked, bought and given back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from router.cli.capacity import capacity
from router.domain.errors import RouterError
from router.doubles.aws.world import World
from tests.integration.aws_in_thread import Running
from tests.unit.test_capacity_changes import BASE, MODEL, PLAN

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"})
HOURLY = {"commitment": "none", "units": 2, "hourly_usd": 2.0}


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "double")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "double")
    with Running(World(provisioning_s=0.2)) as running:
        yield running
        assert running.world.drift == []


def plan(folder: Path, *purchases: dict[str, object], made_on: str | None = None) -> Path:
    """A plan of today."""
    path = folder / "plan.yaml"
    day = made_on or datetime.now(UTC).date().isoformat()
    path.write_text(yaml.safe_dump({**PLAN, "made_on": day, "purchases": list(purchases)}))
    return path


def run(double: Running, *arguments: object) -> Result:
    """A command against the double; an error is what `router` would say before it exits with 2."""
    flags = ["--region", "us-east-1", "--endpoint-url", double.url]
    return RUNNER.invoke(capacity, [*map(str, arguments), *flags])


def apply(double: Running, path: Path, *flags: str) -> Result:
    return run(double, "apply", path, "--model-id", MODEL, "--poll-seconds", "0.05", *flags)


def test_a_plan_is_shown_and_nothing_is_bought_where_nobody_can_be_asked(double: Running, tmp_path: Path) -> None:
    """Without a terminal and without --yes it is a dry run: units, dollars an hour and what to add."""
    said = apply(double, plan(tmp_path, HOURLY))
    assert said.exit_code == 0
    assert "4.00" in said.output
    assert "2,920 a month" in said.output
    assert "add --yes" in said.output
    assert not double.world.provisioned


def test_confirmed_it_is_bought_and_the_arn_is_told_and_listed(double: Running, tmp_path: Path) -> None:
    """It waits until the units serve; the second time there is nothing to do."""
    path = plan(tmp_path, HOURLY)
    said = apply(double, path, "--yes")
    assert said.exit_code == 0, said.output
    ((arn, held),) = double.world.provisioned.items()
    assert (held.status, held.units, held.model_id) == ("InService", 2, MODEL)
    assert f"target: {arn}" in said.output
    assert "Nothing to do" in apply(double, path, "--yes").output
    listed = run(double, "list").output
    assert "InService" in listed
    assert held.name in listed


def test_what_a_plan_holds_no_longer_is_given_back(double: Running, tmp_path: Path) -> None:
    """A plan without purchases after one with two units by the hour."""
    apply(double, plan(tmp_path, HOURLY), "--yes")
    said = apply(double, plan(tmp_path), "--yes")
    assert "given back" in said.output
    assert not double.world.provisioned


def test_a_commitment_is_refused_unless_it_is_named(double: Running, tmp_path: Path) -> None:
    """It cannot be given back, so that --yes is not enough."""
    path = plan(tmp_path, BASE)
    said = apply(double, path, "--yes")
    assert isinstance(said.exception, RouterError)
    assert "--commitment one-month" in str(said.exception)
    assert not double.world.provisioned
    assert apply(double, path, "--yes", "--commitment", "one-month").exit_code == 0
    (held,) = double.world.provisioned.values()
    assert held.commitment == "OneMonth"


def test_an_old_plan_is_refused(double: Running, tmp_path: Path) -> None:
    """Demand of long ago buys nothing."""
    said = apply(double, plan(tmp_path, HOURLY, made_on="2026-01-01"), "--yes")
    assert isinstance(said.exception, RouterError)
    assert "--max-age-days" in str(said.exception)


def test_what_aws_refuses_is_a_message(double: Running, tmp_path: Path) -> None:
    """Not a traceback."""
    said = run(double, "apply", plan(tmp_path, HOURLY), "--model-id", "no spaces allowed", "--yes")
    assert isinstance(said.exception, RouterError)
    assert "ValidationException" in str(said.exception)
