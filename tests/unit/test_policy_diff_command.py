"""`router policy diff`: its exit status, its text, its JSON, and a directory against its own past."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from router.cli.policy.diff import diff
from tests.unit.policy_fleet import FLEET


def run(*arguments: str) -> tuple[int, str]:
    app = Typer()
    app.command()(diff)
    done = CliRunner().invoke(app, list(arguments))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def write(folder: Path, text: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fleet.yaml").write_text(FLEET)
    (folder / "rest.yaml").write_text(text)
    return str(folder)


def test_the_command_says_by_its_exit_status_whether_they_differ(tmp_path: Path) -> None:
    """0 the same, 1 different, 2 trouble, as diff does."""
    a = write(tmp_path / "a", "classes: [{name: x, match: {tenants: t}, objectives: {ttft: 500ms}}]")
    b = write(tmp_path / "b", "# moved\nclasses: [{objectives: {ttft: 0.5}, match: {tenants: t}, name: x}]")
    c = write(tmp_path / "c", "classes: [{name: x, match: {tenants: u}, objectives: {ttft: 400ms}}]")
    code, text = run(a, b)
    assert (code, "both mean the same" in text) == (0, True)
    code, text = run(a, c)
    assert code == 1
    assert "500ms -> 400ms" in text
    assert "tightened" in text
    assert "tenant t: x -> default" in text
    assert "nothing needs a restart" in text
    code, text = run(a, str(tmp_path / "none"))
    assert (code, "no *.yaml file here" in text) == (2, True)
    assert run(a)[0] == 2


def test_what_changes_alike_is_told_once(tmp_path: Path) -> None:
    """An edit of `defaults` is one paragraph, and an example list ends."""
    names = [f"c{i}" for i in range(9)]
    classes = ", ".join(f"{{name: {n}, match: {{topics: [{n}/#]}}}}" for n in names)
    a = write(tmp_path / "a", f"classes: [{classes}]\ndefaults: {{max_retries: 1}}")
    b = write(tmp_path / "b", f"classes: [{classes}]\ndefaults: {{max_retries: 3}}")
    _, text = run(a, b)
    assert text.count("max_retries") == 1
    assert f"class {', '.join(names)}, default\n" in text
    topics = ", ".join(f"{n}/#" for n in names)
    c = write(tmp_path / "c", f"classes: [{{name: all, match: {{topics: [{topics}]}}}}]")
    d = write(tmp_path / "d", "classes: [{name: all, match: {topics: [x]}}]")
    _, text = run(c, d)
    assert text.count(": all -> default") == 7
    assert "... and 3 more: all -> default" in text


def test_json_holds_every_change(tmp_path: Path) -> None:
    """For another program: the same, field by field."""
    a = write(tmp_path / "a", "classes: [{name: x, match: {tenants: t}, floor: 90%}]")
    b = write(tmp_path / "b", "classes: [{name: x, match: {tenants: t}, floor: 80%}]")
    code, text = run(a, b, "--format", "json")
    found = json.loads(text)
    assert code == 1
    (change,) = found["changes"]
    assert (change["subject"], change["field"], change["direction"]) == ("class x", "floor.ratio", "loosened")
    assert (change["old"], change["new"], change["how"]) == ("90%", "80%", "live")
    assert found["same"] is False


def git(folder: Path, *arguments: str) -> None:
    author = ("-c", "user.name=n", "-c", "user.email=e@example.com", "-c", "init.defaultBranch=main")
    subprocess.run(["git", "-C", str(folder), *author, *arguments], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_directory_is_compared_with_its_own_past(tmp_path: Path) -> None:
    """--git reads the commit, not the working tree, from a folder below the top."""
    folder = tmp_path / "conf" / "policies"
    directory = write(folder, "classes: [{name: x, match: {tenants: t}, priority: 1}]")
    (folder / "classes").mkdir()
    (folder / "classes" / "y.yaml").write_text("class: {name: y, match: {tenants: y}}")
    (folder / "bench").mkdir()
    (folder / "bench" / "other.yaml").write_text("not: a policy")
    code, text = run(directory, "--git", "HEAD")
    assert (code, "not a git repository" in text) == (2, True)
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    assert run(directory, "--git", "HEAD")[0] == 0
    (folder / "rest.yaml").write_text("classes: [{name: x, match: {tenants: t}, priority: 2}]")
    code, text = run(directory, "--git", "HEAD")
    assert code == 1
    assert "1 -> 2" in text
    code, text = run(directory, "--git", "absent")
    assert (code, "absent" in text) == (2, True)
    assert run(directory, "--git", "--output=x")[0] == 2
