"""The history on disk and the command that shows it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from router.cli.policy.history import history
from router.domain.events import (
    BudgetChanged,
    CeilingUpdate,
    Event,
    LimitUpdate,
    PolicyApplied,
    PolicyRejected,
    PolicySource,
    PriceUpdate,
    RolloutChanged,
)
from router.storage.history import History
from router.storage.history_entries import Entry, Kind, history_file, read_history

AT = 1_800_000_000.0
SOURCE = PolicySource("policies", ("classes/chat.yaml",), "0123456789abcdef", "Ada <ada@example.org>", True)
DIFF = ("class chat: deadline_s 1s -> 2s",)
CHANGES: tuple[Event, ...] = (
    PolicyApplied("aaa", "bbb", DIFF, AT, SOURCE),
    PolicyRejected("ccc", ("chat.yaml:1:2: class.deadlin: unknown field",), AT + 1, SOURCE),
    RolloutChanged("chat", "canary", 0.05, "v1", "the class was edited", AT + 2),
    LimitUpdate("small-0", "in_flight", 8.0, 10.0, "headroom"),
    PriceUpdate("floor", "chat", 0.5, 1.25, "less is served well than was promised"),
    PriceUpdate("capacity", "small-0", 0.0, 2.0, "predictions press on the objectives"),
    CeilingUpdate("chat", "llama", 512, 640, 0.03, "answers were cut"),
    BudgetChanged("chat", False, 10.0, 9.5, "spent", AT + 4),
)


def tell(path: Path, told: Iterable[Event], *, entries: int = 10_000) -> None:
    """One life of the router in which these were told, each in a batch of its own."""
    keeper = History(path, entries=entries, wall=lambda: AT + 3)
    for event in told:
        keeper.handlers()[type(event)](event)
        keeper.flush()
    keeper.close()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    tell(history_file(tmp_path), CHANGES)
    return tmp_path


def entries(state: Path) -> list[Entry]:
    return list(read_history(history_file(state)))


@pytest.mark.parametrize(
    ("kind", "whose"),
    [("output_tokens", "deployment x"), ("input_tokens", "deployment x"), ("tenant", "tenant x"), ("usd", "class x")],
)
def test_a_price_says_whose_it_is(tmp_path: Path, kind: str, whose: str) -> None:
    """Tokens of reserved capacity are a deployment's, a share of the queue is a tenant's, the rest is a class's."""
    tell(history_file(tmp_path), [PriceUpdate(kind, "x", 0.0, 1.0, "demand for it")])
    assert [e.subject for e in entries(tmp_path)] == [whose]


def test_every_change_says_who_what_when_and_why(state: Path) -> None:
    """An edit carries its files and its commit; what the controller moved has its old and its new value."""
    applied, refused, rollout, limit, floor, capacity, ceiling, budget = entries(state)
    assert (applied.who, applied.subject, applied.old, applied.new) == ("operator", "policies", "aaa", "bbb")
    assert (applied.state, applied.details, applied.files) == ("applied", DIFF, ("classes/chat.yaml",))
    assert (applied.commit, applied.author, applied.edited) == (SOURCE.commit, SOURCE.author, True)
    assert (refused.state, refused.new, refused.details[0][:8]) == ("refused", "ccc", "chat.yam")
    assert (rollout.what, rollout.subject, rollout.state, rollout.new) == ("rollout", "class chat", "canary", 0.05)
    assert (limit.who, limit.subject, limit.field, limit.old, limit.new, limit.why) == (
        "controller",
        "deployment small-0",
        "in_flight",
        8.0,
        10.0,
        "headroom",
    )
    assert (floor.subject, floor.field, capacity.subject) == ("class chat", "floor", "deployment small-0")
    assert (ceiling.subject, ceiling.old, ceiling.new) == ("class chat, llama", 512, 640)
    assert (budget.state, budget.details) == ("spent", ("spent 10 of 9.5 USD",))
    assert [e.at - AT for e in (applied, refused, rollout, limit, budget)] == [0, 1, 2, 3, 4]


def test_a_text_that_is_back_and_a_file_that_changed_are_told_apart(tmp_path: Path) -> None:
    """Neither changes the digest."""
    path = history_file(tmp_path)
    tell(path, [PolicyApplied("a", "a", (), AT), PolicyApplied("a", "a", ("deployment far: ...",), AT)])
    assert [e.why for e in read_history(path)] == ["the text in force is back", "a file it refers to was changed"]


def test_a_start_is_told_with_the_policy_it_began_with(tmp_path: Path) -> None:
    """What changed while the router was down shows by the digest."""
    keeper = History(history_file(tmp_path), wall=lambda: AT)
    keeper.begin("ddd", SOURCE)
    keeper.close()
    (entry,) = entries(tmp_path)
    assert (entry.why, entry.new, entry.commit, entry.at) == ("the router started", "ddd", SOURCE.commit, AT)


def test_it_goes_on_after_a_restart_and_past_a_line_that_was_cut(state: Path) -> None:
    """A crash in the middle of a line loses that line only: the next life begins on a line of its own."""
    path, cut = history_file(state), []
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    tell(path, [PolicyApplied("bbb", "eee", (), AT + 9)])
    found = list(read_history(path, skipped=cut.append))
    assert [e.what for e in found] == [c.what for c in (*entries(state)[:7], entries(state)[-1])]
    assert (len(found), found[-1].new, cut) == (len(CHANGES), "eee", [len(CHANGES)])


def test_what_moves_often_never_pushes_out_what_people_did(tmp_path: Path) -> None:
    """Two shares, each bounded to its own last entries; a quarter more at the most is on the disk."""
    path = history_file(tmp_path)
    tell(path, [PolicyApplied("a", "b", (), AT)], entries=8)
    tell(path, [LimitUpdate("small", "in_flight", n, n + 1, "headroom") for n in range(200)], entries=8)
    found = list(read_history(path))
    assert found[0].what is Kind.POLICY
    limits = [e.new for e in found[1:]]
    assert limits == [float(n) for n in range(201 - len(limits), 201)]
    assert 8 <= len(limits) <= 10
    tell(path, [RolloutChanged("chat", "canary", 0.1, f"v{n}", "", AT) for n in range(60)], entries=8)
    kinds = [e.what for e in read_history(path)]
    assert kinds.count(Kind.LIMIT) == 8
    assert 8 <= kinds.count(Kind.ROLLOUT) <= 10
    assert not list(tmp_path.glob("*.new"))


def test_a_disk_that_refuses_costs_entries_and_nothing_else(tmp_path: Path) -> None:
    """The writer goes on, and writes again when it can."""
    path = tmp_path / "there" / "history.jsonl"
    keeper = History(path, wall=lambda: AT)
    keeper.close()
    path.mkdir()
    tell(path, CHANGES)
    path.rmdir()
    tell(path, CHANGES[:1])
    assert len(list(read_history(path))) == 1


RUNNER = CliRunner(env={"COLUMNS": "260", "NO_COLOR": "1"})


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(history)
    return made


def test_the_command_shows_a_table_with_the_newest_at_the_bottom(app: typer.Typer, state: Path) -> None:
    """Author, commit, files, values, problems and reasons can be read off."""
    result = RUNNER.invoke(app, ["--state", str(state), "--all"])
    assert result.exit_code == 0
    for shown in (
        "2027-01-15 08:00:00",
        "uncommitted,",
        "on top of 0123456789",
        "applied aaa -> bbb",
        "in classes/chat.yaml",
        *DIFF,
        "refused ccc",
        "class.deadlin: unknown field",
        "in_flight 8 -> 10",
        "max_tokens 512 -> 640",
    ):
        assert shown in result.output
    last = RUNNER.invoke(app, ["--state", str(state), "--last", "1"])
    assert "budget" in last.output
    assert "limit" not in last.output


def test_kinds_and_age_narrow_it(app: typer.Typer, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--what` may be given again; `--since` counts back from now; both hold together."""

    def kinds(*options: str) -> list[str]:
        result = RUNNER.invoke(app, ["--state", str(state), "--json", *options])
        return [json.loads(line)["what"] for line in result.output.splitlines()]

    assert kinds("--what", "policy", "--what", "rollout") == ["policy", "policy", "rollout"]
    monkeypatch.setattr(sys.modules[history.__module__], "time", lambda: AT + 62)
    assert kinds("--since", "1m", "--all") == ["rollout", "limit", "price", "price", "ceiling", "budget"]
    assert kinds("--since", "1m") == ["rollout", "budget"]
    assert kinds("--since", "1m", "--what", "limit") == ["limit"]


def test_nothing_found_and_bad_options_say_so(app: typer.Typer, tmp_path: Path) -> None:
    """An empty answer is an error with the place looked at; an age that cannot be read says how to write it."""
    nothing = RUNNER.invoke(app, ["--state", str(tmp_path)])
    assert nothing.exit_code == 1
    assert str(history_file(tmp_path)) in nothing.output
    bad = RUNNER.invoke(app, ["--state", str(tmp_path), "--since", "yesterday"])
    assert bad.exit_code == 2
    assert "such as 500ms, 30s, 2m, 1h or 30d" in bad.output
