"""Where did the text of a policy come from? The files that changed, and what git knows of their directory.

Runs `git`, so it belongs on a thread. What cannot be found out is left open: an audit line with less in it is better
than an edit that is not taken up.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from router.domain.events import PolicySource

GIT_S = 2.0
"""Longest wait for one answer of git."""
_OPTIONS = ("-c", "core.fsmonitor=false", "-c", "log.showSignature=false")
"""Neither question may start another program."""


def describe(directory: Path, changed: Iterable[str]) -> PolicySource:
    """The source of the text that now stands in `directory`; `changed` are the files that differ from before."""
    source = PolicySource(str(directory), tuple(changed))
    git = shutil.which("git") if _is_under_git(directory) else None
    if git is None:
        return source
    told = _ask(git, directory, "log", "-1", "--format=%H%n%an <%ae>", "--", ".")
    commit, _, author = (told or "").strip().partition("\n")
    if not commit:
        return source
    edited = _ask(git, directory, "status", "--porcelain", "--", ".")
    return PolicySource(source.directory, source.changed, commit, author or None, bool(edited))


def _is_under_git(directory: Path) -> bool:
    try:
        real = directory.resolve()
        return any((folder / ".git").exists() for folder in (real, *real.parents))
    except OSError:
        return False


def _ask(git: str, directory: Path, *question: str) -> str | None:
    """What git prints; `None` where it fails or takes too long. Variables that point it elsewhere are left out."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [git, *_OPTIONS, "-C", str(directory), *question],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_S,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
