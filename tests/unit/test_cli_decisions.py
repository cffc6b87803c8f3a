"""`router decisions`: the table, one decision in full, filters, JSON, and what it says when there is nothing."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
import typer
from typer.testing import CliRunner

from bench.traffic import policy, request_events, trouble_events
from router.cli import decisions as command
from router.cli.decisions import decisions
from router.domain.events import AttemptEnded, FeedbackReceived
from router.storage.decision_log import DecisionLog
from router.storage.decision_records import decision_folder

POLICY = policy(classes=2, deployments=3)
RUNNER = CliRunner(env={"COLUMNS": "220", "NO_COLOR": "1"})


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(decisions)
    return made


@pytest.fixture
def state(tmp_path: Path) -> Path:
    log, rng = DecisionLog(decision_folder(tmp_path)), Random(1)
    told = [event for n in range(30) for event in request_events(n, rng, POLICY)]
    told += [e for e in trouble_events(7, POLICY) if isinstance(e, AttemptEnded)]
    told.append(FeedbackReceived("d7", 0.25, True))
    handlers = log.handlers()
    for event in told:
        if type(event) in handlers:
            handlers[type(event)](event)
    log.close()
    return tmp_path


def test_the_last_ones_are_listed_newest_at_the_bottom(app: typer.Typer, state: Path) -> None:
    """`--last` bounds the table; order is that of time."""
    result = RUNNER.invoke(app, ["--state", str(state), "--last", "3"])
    assert result.exit_code == 0
    assert [line.split()[1] for line in result.output.splitlines()[1:]] == ["d27", "d28", "d29"]


def test_in_a_pipe_nothing_is_cut(app: typer.Typer, state: Path) -> None:
    """Nobody has said how wide it is: ids and names are whole, so that they can be asked for again."""
    result = CliRunner(env={"COLUMNS": None, "NO_COLOR": "1"}).invoke(app, ["--state", str(state)])
    assert result.exit_code == 0
    assert "\u2026" not in result.output
    full = CliRunner(env={"COLUMNS": None, "NO_COLOR": "1"}).invoke(app, ["--state", str(state), "d7"])
    assert "\u2026" not in full.output


def test_class_and_deployment_narrow_the_list(app: typer.Typer, state: Path) -> None:
    """Both filters hold together."""
    arguments = ["--state", str(state), "--class", "class-1", "--deployment", "small-0", "--json"]
    read = [json.loads(line) for line in RUNNER.invoke(app, arguments).output.splitlines()]
    assert read
    assert {r["decision"]["request_class"] for r in read} == {"class-1"}
    assert {r["decision"]["chosen"] for r in read} == {"small-0"}


def test_one_decision_is_explained_in_full(app: typer.Typer, state: Path) -> None:
    """Every candidate with its terms, who fell out and why, the constraint, the outcome, the feedback."""
    output = RUNNER.invoke(app, ["--state", str(state), "d7"]).output
    for part in ("decision d7", "large-1", "P(adequate)", "unhealthy", "5 of 5 calls failed", "decided by: forced"):
        assert part in output
    for part in ("propensity 0.5", "call 1 to small-0 failed (throttled)", "promises: ttft", "feedback 0.25"):
        assert part in output


def test_an_id_is_found_by_how_it_begins(app: typer.Typer, state: Path) -> None:
    """A beginning that fits several lists them instead."""
    output = RUNNER.invoke(app, ["--state", str(state), "d1"]).output
    assert [line.split()[1] for line in output.splitlines()[1:]] == ["d1", *(f"d{n}" for n in range(10, 20))]


def test_json_has_the_joined_record(app: typer.Typer, state: Path) -> None:
    """One object a line: decision, failed calls, outcome, feedback, and what checks said of the answer."""
    result = RUNNER.invoke(app, ["--state", str(state), "--json", "d7"])
    (record,) = [json.loads(line) for line in result.output.splitlines()]
    assert set(record) == {"decision", "attempts", "outcome", "feedback", "check", "judged"}
    assert record["feedback"][0]["quality"] == 0.25


def test_nothing_found_is_said_and_fails(app: typer.Typer, tmp_path: Path, state: Path) -> None:
    """A wrong directory or an unknown id exits 1 and names where it looked."""
    empty = RUNNER.invoke(app, ["--state", str(tmp_path / "nowhere")])
    unknown = RUNNER.invoke(app, ["--state", str(state), "zzz"])
    assert (empty.exit_code, unknown.exit_code) == (1, 1)
    assert "nowhere" in empty.output


def test_a_line_that_cannot_be_read_is_said(app: typer.Typer, state: Path) -> None:
    """Damage is reported beside what could be read."""
    path = decision_folder(state) / "decisions.jsonl"
    path.write_text("{torn\n" + path.read_text())
    result = RUNNER.invoke(app, ["--state", str(state), "--last", "1"])
    assert result.exit_code == 0
    assert "1 lines could not be read" in result.output
    assert "decisions.jsonl:1" in result.output


def test_following_prints_decisions_as_they_end(app: typer.Typer, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--follow` joins each outcome to its decision, and Ctrl-C ends it in order."""
    waits = iter((True, False))

    def instead_of_sleeping(_seconds: float) -> None:
        if not next(waits):
            raise KeyboardInterrupt
        log = DecisionLog(decision_folder(state))
        for event in request_events(99, Random(1), POLICY):
            handler = log.handlers().get(type(event))
            if handler is not None:
                handler(event)
        log.close()

    monkeypatch.setattr(command, "sleep", instead_of_sleeping)
    result = RUNNER.invoke(app, ["--state", str(state), "--follow", "--class", "class-1"])
    assert result.exit_code == 0
    assert "d99" in result.output
    assert len(result.output.splitlines()) == 1


def test_help_teaches_by_example(app: typer.Typer) -> None:
    """`--help` shows commands that can be typed."""
    output = RUNNER.invoke(app, ["--help"]).output
    assert "router decisions --last 50" in output
    assert "--follow" in output
