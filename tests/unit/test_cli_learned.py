"""`router learned` on the state directory of a router that does not run, and against one that does not answer."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from time import time

import pytest
from msgspec import json
from typer.testing import CliRunner, Result

from router.cli.main import app
from router.complexity.heuristic import HeuristicEstimator
from router.core import snapshot
from router.core.controller import Controller
from router.domain.deployment import Tier
from router.domain.errors import RouterError
from router.domain.slo import QualityFloor, RequestClass
from router.policy.policy import Bounds, Policy
from router.storage import checkpoint
from tests.regressions.house import deployment

POLICY = Policy(
    "p1",
    (RequestClass("chat", floor=QualityFloor(0.9)),),
    (deployment("small"), deployment("large", Tier.LARGE)),
    Bounds(),
)


def controller() -> Controller:
    return Controller(POLICY, HeuristicEstimator(), rng=Random(0))


def left_behind(state: Path, answers: int = 30) -> Path:
    """What a router that stopped an hour ago has learned."""
    learner = controller()
    for i in range(answers):
        for model in ("model-small", "model-large"):
            learner.qualities.observe(0.8, model, "code", 0.0)
            learner.lengths.observe("chat", model, 40, now=float(i))
    file = checkpoint.checkpoint_file(state)
    checkpoint.save(file, snapshot.take_for_keeps(learner, at=1e9))
    os.utime(file, (1e9, 1e9))
    return file


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["learned", *map(str, arguments)], env={"COLUMNS": "200"})


def said(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.exception
    return result.stdout


def refused(*arguments: str | Path) -> str:
    """The message of a `RouterError`."""
    result = run(*arguments)
    assert isinstance(result.exception, RouterError), result.output
    return str(result.exception)


def restarted(file: Path) -> Controller:
    again = controller()
    snapshot.restore(again, file.read_bytes())
    return again


def test_what_was_learned_is_shown(tmp_path: Path) -> None:
    """By model, class and deployment, with where it comes from; and as JSON."""
    left_behind(tmp_path)
    page = " ".join(said("show", "--state", tmp_path).split())
    for word in ("model-small", "code -", "chat", "floor of class", "60 feedbacks", "born"):
        assert word in page
    found = json.decode(said("show", "--state", tmp_path, "--json"))
    assert found["models"]["model-small"]["quality"]["seen"] == 30
    assert found["lineage"]["seen"] == {"feedback": 60, "calls": 60}


def test_a_reset_on_the_files_is_what_the_router_starts_with(tmp_path: Path) -> None:
    """One model's quality is gone, the rest is as it was, and the lineage says so; and again right after."""
    file = left_behind(tmp_path)
    before = restarted(file)
    assert "2 rows" in said("reset", "--what", "quality", "--model", "model-small", "--state", tmp_path)
    after = restarted(file)
    assert set(after.qualities.beliefs()) == {"model-large"}
    assert after.lengths.state() == before.lengths.state()
    lineage = json.decode(file.read_bytes())["lineage"]
    assert (lineage["done"], lineage["parent"]) == ("reset quality of model-small", before.learning.parent.id)  # type: ignore[union-attr]
    assert "forgotten" in said("reset", "--all", "--state", tmp_path)
    assert restarted(file).lengths.state() == {}


def test_frozen_on_the_files_is_frozen_in_the_router(tmp_path: Path) -> None:
    """Until it is thawed."""
    file = left_behind(tmp_path)
    assert "latency" not in said("freeze", "--state", tmp_path)
    assert "frozen, nothing is learned of: ceilings, checks, lengths, quality" in said("show", "--state", tmp_path)
    frozen = restarted(file)
    assert (frozen.qualities.frozen, frozen.lengths.frozen, frozen.ceilings.frozen, frozen.checks.frozen) == (True,) * 4
    assert "frozen: ceilings, checks, quality" in said("thaw", "--what", "lengths", "--state", tmp_path)
    assert "everything is learned" in said("thaw", "--state", tmp_path)
    assert not restarted(file).qualities.frozen


def test_what_one_router_learned_goes_into_another(tmp_path: Path) -> None:
    """By way of a file, also into a directory in which nothing was learned yet; what comes out descends from it."""
    home, away, document = tmp_path / "home", tmp_path / "away", tmp_path / "learned.json"
    file = left_behind(home)
    said("export", "--state", home, "--out", document)
    assert "model-large, model-small" in said("import", document, "--state", away)
    arrived = restarted(checkpoint.checkpoint_file(away))
    assert arrived.qualities.state() == restarted(file).qualities.state()
    lineage = json.decode(checkpoint.checkpoint_file(away).read_bytes())["lineage"]
    assert lineage["parent"] == json.decode(document.read_bytes())["lineage"]["id"]
    assert json.decode(said("export", "--state", home, "--what", "lengths"))["qualities"] == {}


def test_a_document_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    """Another version, another shape, no file: each says what it is."""
    file, document = left_behind(tmp_path), tmp_path / "learned.json"
    before, good = file.read_bytes(), json.decode(file.read_bytes())
    for fault, message in (
        (json.encode(good | {"version": 7}), "version 7, and this router reads 1 and 2"),
        (json.encode(good | {"lengths": {"a\tb": [1.0]}}), "cannot be read"),
        (b"{", "cannot be read"),
    ):
        document.write_bytes(fault)
        assert message in refused("import", document, "--state", tmp_path)
    assert "No such file" in refused("import", tmp_path / "none.json", "--state", tmp_path)
    assert file.read_bytes() == before


def test_the_files_of_a_router_that_runs_are_left_alone(tmp_path: Path) -> None:
    """It would write over the change; whoever knows better may insist."""
    file, soon = left_behind(tmp_path), time() + 3600.0
    os.utime(file, (soon, soon))
    before = file.read_bytes()
    assert "use --force" in refused("freeze", "--state", tmp_path)
    assert file.read_bytes() == before
    said("freeze", "--state", tmp_path, "--force")
    assert file.read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "--url", "http://a", "--state", "b"), "not both"),
        (("show", "--url", "a:80"), "write http://HOST:PORT"),
        (("show", "--url", "http://127.0.0.1:9"), "no router answers at http://127.0.0.1:9"),
        (("show", "--state", "nowhere"), "every half minute"),
        (("reset",), "say what to forget"),
        (("reset", "--all", "--what", "quality"), "say what to forget"),
        (("freeze", "--what", "prices", "--state", "."), "prices cannot be frozen"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is changed."""
    left_behind(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert message in refused(*arguments)


@pytest.mark.parametrize("command", ["show", "reset", "freeze", "thaw", "export", "import"])
def test_every_command_has_examples(command: str) -> None:
    """Help teaches."""
    assert f"router learned {command}" in said(command, "--help")
