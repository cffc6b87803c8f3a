"""What git knows of a policy directory, and that an edit never waits for it or fails by it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from router.domain.events import PolicySource
from router.runtime.reload import source
from router.runtime.reload.source import describe

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
AUTHOR = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Someone",
    "GIT_COMMITTER_EMAIL": "someone@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, env={**os.environ, **AUTHOR}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policy directory inside a repository with one commit; git may take its time over it."""
    monkeypatch.setattr(source, "GIT_S", 60.0)
    policies = tmp_path / "repository" / "policies"
    policies.mkdir(parents=True)
    (policies / "fleet.yaml").write_text("deployments: []\n")
    git(tmp_path / "repository", "init", "-q")
    git(tmp_path / "repository", "add", ".")
    git(tmp_path / "repository", "commit", "-q", "-m", "first")
    return policies


@needs_git
def test_the_commit_that_last_touched_the_directory_and_its_author_are_told(directory: Path) -> None:
    """A commit elsewhere in the repository is not the policy's; an uncommitted edit is told as such."""
    repository = directory.parent
    first = git(repository, "rev-parse", "HEAD")
    (repository / "notes.txt").write_text("x")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "second")
    found = describe(directory, ["fleet.yaml"])
    assert found == PolicySource(str(directory), ("fleet.yaml",), first, "Ada <ada@example.org>", False)
    (directory / "fleet.yaml").write_text("deployments: [ ]\n")
    assert describe(directory, []).edited
    assert describe(directory, []).commit == first


@needs_git
def test_a_directory_that_was_never_committed_has_no_commit(directory: Path) -> None:
    """Lying inside of a repository is not enough."""
    fresh = directory.parent / "fresh"
    fresh.mkdir()
    assert describe(fresh, ["a.yaml"]) == PolicySource(str(fresh), ("a.yaml",))


@needs_git
def test_variables_that_point_git_elsewhere_do_not_count(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon started from a git hook still tells of its own directory."""
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert describe(directory, []).commit is not None


@pytest.mark.parametrize("script", ["exit 1", "sleep 30"])
def test_a_git_that_fails_or_hangs_costs_only_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """The files that changed are told all the same."""
    (tmp_path / ".git").mkdir()
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec {script}\n" if script.startswith("sleep") else f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(source, "GIT_S", 0.05)
    assert describe(tmp_path, ["fleet.yaml"]) == PolicySource(str(tmp_path), ("fleet.yaml",))


def test_without_git_or_a_repository_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a repository git is not even looked for; inside of one it may be missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe(tmp_path, []) == PolicySource(str(tmp_path))
    (tmp_path / ".git").mkdir()
    assert describe(tmp_path, []) == PolicySource(str(tmp_path))
