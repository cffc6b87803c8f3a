"""Every command of the README and of each `--help`, typed as it stands there, and what a mistake in one is told."""

from __future__ import annotations

import re
import socket
from io import StringIO
from pathlib import Path
from random import Random

import pytest
import yaml
from rich.console import Console, RenderableType
from typer.testing import CliRunner, Result

from router.backends.aws.control.provisioned import IN_SERVICE, Provisioned
from router.backends.simulated_fleet import deployments, read_fleet
from router.cli.capacity.bought import table_of
from router.cli.decision_view import explanation
from router.cli.main import app
from router.complexity.heuristic import HeuristicEstimator
from router.core import snapshot
from router.core.controller import Controller
from router.domain.decision import Decision, DecisionId, Prices
from router.domain.deployment import DeploymentName, Kind
from router.domain.errors import PolicyError, RouterError, SettingsError
from router.domain.slo import RequestClass
from router.doubles.aws.console.config import read_world
from router.ingress.http import HttpOptions
from router.ingress.http_server import HttpServer
from router.policy.policy import Bounds, Policy
from router.sim import baselines
from router.storage import checkpoint
from router.storage.decision_records import Logged
from router.storage.state_directory import make_state_directory
from tests.regressions.house import deployment

FLEET = """
deployments:
- {name: small, model: a, tier: small, step_ms: {base: 7}, price_usd_per_mtok: {input: 0.2, output: 0.2}}
- {name: large, model: b, tier: large, step_ms: {base: 16}, price_usd_per_mtok: {input: 1, output: 1}}
"""
ROOT = Path(__file__).parents[2]
LONG = ("meta-textgeneration-llama-3-8b-instruct", "meta-textgeneration-llama-3-70b-instruct")


def run(*arguments: str | Path) -> Result:
    """A command on a terminal of 80 columns."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "80"})


def help_of(*command: str) -> str:
    return "\n".join(line.rstrip() for line in run(*command, "--help").output.splitlines())


def block(text: str, first: str) -> str:
    """The YAML that begins with this line, up to the next empty one, as it would be copied from a terminal."""
    found = re.search(rf"^( +){re.escape(first)}\n.*?(?=\n\n)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, text
    return "\n".join(line.removeprefix(found[1]) for line in found[0].splitlines())


def drawn(shown: RenderableType) -> str:
    console = Console(width=80, record=True, file=StringIO())
    console.print(shown)
    return console.export_text()


def test_the_help_of_simulate_shows_a_fleet_that_it_takes() -> None:
    """What is copied from a terminal of 80 columns is a fleet, and the columns of a workload stand beside it."""
    text = help_of("simulate")
    fleet = read_fleet(block(text, "deployments:"))
    assert [d.kind for d in deployments(fleet)] == [Kind.CONTINUOUS, Kind.BATCH]
    assert fleet.events
    assert "arrival_s,input_tokens,output_tokens" in text


def test_a_policys_fleet_is_refused_with_where_to_look() -> None:
    """`--fleet policies/fleet.yaml` is the first thing that one tries."""
    with pytest.raises(PolicyError, match=r"unknown field `backend`; a simulated fleet is no policy: .*--help"):
        read_fleet((ROOT / "policies/fleet.yaml").read_text())


def test_the_help_of_the_double_shows_a_file_that_it_takes(tmp_path: Path) -> None:
    """No line of the example is broken at 80 columns, and with names in place of ARN and MODEL it is a world."""
    model = "anthropic.claude-3-5-haiku-20241022-v1:0"
    text = block(help_of("aws-double"), "models:").replace("MODEL", model)
    kinds = {"provisioned": "provisioned-model/p1", "profiles": "application-inference-profile/a1"}
    kinds["prompt_routers"] = "default-prompt-router/r1"
    for part, name in kinds.items():
        arn = f"arn:aws:bedrock:us-east-1:123456789012:{name}"
        text = re.sub(rf"(^{part}:.*?)\bARN\b", rf'\1"{arn}"', text, count=1, flags=re.MULTILINE | re.DOTALL)
    assert set(yaml.safe_load(text)) >= {"models", "provisioned", "guardrails", "endpoints", "jobs", "faults"}
    (tmp_path / "double.yaml").write_text(text)
    assert read_world(tmp_path / "double.yaml") is not None


def test_names_stand_whole_on_80_columns(tmp_path: Path) -> None:
    """Two baselines, models or deployments whose names begin alike are told apart."""
    (tmp_path / "day.csv").write_text("arrival_s,input_tokens,output_tokens\n0.1,100,5\n0.2,100,5\n")
    (tmp_path / "fleet.yaml").write_text(FLEET)
    asked = ("--fleet", tmp_path / "fleet.yaml", "--policies", ROOT / "policies/bench/degrade", "--baselines")
    shown = run("simulate", tmp_path / "day.csv", *asked).output
    assert [name for name in baselines.NAMES if f"\n{name} " not in shown] == []
    assert "…" not in shown

    policy = Policy("p1", (RequestClass("chat"),), tuple(map(deployment, LONG)), Bounds())
    learner = Controller(policy, HeuristicEstimator(), rng=Random(0))
    for name in LONG:
        learner.qualities.observe(0.8, f"model-{name}", "summarization", 0.0)
    checkpoint.save(checkpoint.checkpoint_file(tmp_path), snapshot.take_for_keeps(learner, at=1e9))
    said = run("learned", "show", "--state", tmp_path).output
    assert [name for name in LONG if f"\n{name} " not in said or f"\nmodel-{name} " not in said] == []
    assert "summarization" in said


def test_what_was_bought_is_listed_whole() -> None:
    """The ARN is the `target` of a deployment: nothing of it is left out, nor of the model."""
    arn = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/4e82d482b6c7"
    one = Provisioned(arn, "router-none-7cc199ff82", IN_SERVICE, 1, 1, "foundation-model/meta.llama3-1-70b-v1:0", 0.0)
    shown = drawn(table_of([one], at=0.0))
    assert "…" not in shown


async def test_a_taken_port_is_a_message(tmp_path: Path) -> None:
    """`router serve` beside the demo says which address it cannot have, and how to name another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = HttpServer(lambda: None, host="127.0.0.1", port=port, keepalive_s=5.0)
        with pytest.raises(SettingsError, match=rf"cannot listen on 127.0.0.1 port {port}: .*ROUTER_HTTP__PORT"):
            await server.start()


def test_a_port_that_is_none_is_refused() -> None:
    """By the command, and not by the socket."""
    for command in ("serve", "demo"):
        result = run(command, "--port", "99999")
        assert (result.exit_code, "65535" in result.output) == (2, True)


def test_a_state_directory_that_cannot_be_made_is_a_message(tmp_path: Path) -> None:
    """/var/lib/router belongs to root on most machines: that is told with the setting, without a traceback."""
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "state"):
        with pytest.raises(SettingsError, match=r"the state directory, cannot be made: .*ROUTER_STATE_DIR"):
            make_state_directory(place)
    make_state_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_named_file_of_settings_must_be_there(tmp_path: Path) -> None:
    """A misspelt --env-file would start a router with other settings than were meant."""
    result = run("serve", "--env-file", tmp_path / "none.env")
    assert isinstance(result.exception, RouterError)
    assert "none.env: there is no such file" in str(result.exception)


def test_a_policy_directory_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    """Apart from one without policies."""
    assert "there is no such directory" in run("policy", "check", tmp_path / "none").output
    assert "there is no such directory" not in run("policy", "check", tmp_path).output


def test_a_decision_that_is_not_found_is_named(tmp_path: Path) -> None:
    """An id that is not in the log is not an empty log."""
    (tmp_path / "decisions").mkdir()
    assert "whose id begins with 6b1f" in run("decisions", "6b1f", "--state", tmp_path).output
    assert "whose id" not in run("decisions", "--state", tmp_path).output


def test_a_running_router_tells_a_decision_and_not_what_became_of_it() -> None:
    """Asked with --url, `policy explain` does not call an answered request unanswered: it names the log."""
    name, prices = DeploymentName("small"), Prices(0.0, 0.0, {})
    given = ("r", "chat", "t", 1.0, 1.0, "p", "best", 0.2, (), (), (), name, 1.0, "only", prices, 9)
    decision = Decision(DecisionId("d1-1"), *given)
    assert "no outcome yet" in drawn(explanation(Logged(decision)))
    assert "no outcome yet" not in drawn(explanation(Logged(decision), ended=False))
    assert "router decisions d1-1" in drawn(explanation(Logged(decision), ended=False))


@pytest.mark.parametrize(
    ("host", "keys", "anyone"),
    [("127.0.0.1", None, False), ("::1", None, False), ("0.0.0.0", None, True), ("0.0.0.0", frozenset({"k"}), False)],
)
def test_a_door_that_stands_open_is_known(host: str, keys: frozenset[str] | None, anyone: bool) -> None:
    """Other machines without a key: the daemon warns of it when it starts."""
    assert HttpOptions(host, api_keys=keys).lets_anyone_in is anyone
