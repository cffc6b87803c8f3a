"""A policy directory as it was at a commit."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path, PurePosixPath

from router.domain.errors import PolicyError
from router.policy.compile import Documents
from router.runtime.reload.reading import SUB_DIRECTORIES, SUFFIXES

_ANSWER_WITHIN_S = 30.0
_FILE = "100"


def read_revision(directory: Path, revision: str) -> Documents:
    """(file name, text) of the files that a daemon would read; raises `PolicyError` where there is no such commit, no
    git, or no policy at that commit. Symbolic links are not followed."""
    if not directory.is_dir():
        raise PolicyError(f"{directory} is no directory")
    if revision.startswith("-") or ":" in revision:
        raise PolicyError(f"`{revision}` is no commit: give a branch, a tag, or an id such as HEAD~1")
    listed = _git(directory, "ls-tree", "-r", "-z", f"{revision}^{{commit}}", "--", ".")
    names = [entry.partition("\t")[2] for entry in listed.split("\0") if entry.startswith(_FILE)]
    wanted = [name for name in names if _is_policy(PurePosixPath(name))]
    if not wanted:
        raise PolicyError(f"{directory} has no policy at {revision}")
    return [(f"{revision}:{directory / n}", _git(directory, "show", f"{revision}:./{n}")) for n in wanted]


def _is_policy(path: PurePosixPath) -> bool:
    folder = str(path.parent)
    return path.suffix in SUFFIXES and not path.name.startswith(".") and folder in (".", *SUB_DIRECTORIES)


def _git(directory: Path, *arguments: str) -> str:
    """What git prints. Variables that point it elsewhere, as hooks have them, are left out."""
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(directory), *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_WITHIN_S,
            check=False,
            env=environment | {"LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise PolicyError("git is not installed: give two directories instead of --git") from None
    except subprocess.TimeoutExpired:
        raise PolicyError(f"git did not answer within {_ANSWER_WITHIN_S:.0f} s") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = said[0].replace("^{commit}", "") if said else f"status {done.returncode}"
        raise PolicyError(f"git cannot read {directory}: {why}")
    try:
        return done.stdout.decode()
    except UnicodeDecodeError:
        raise PolicyError(f"git {arguments[0]}: a file there is not UTF-8") from None
