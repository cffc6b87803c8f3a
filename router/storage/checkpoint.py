"""The learned state on disk: written beside and renamed, so that there is always one whole file."""

from __future__ import annotations

import os
from pathlib import Path
from secrets import token_hex


def checkpoint_file(state: Path) -> Path:
    """Where the checkpoint lies in the state directory."""
    return state / "checkpoint.json"


def rollouts_file(state: Path) -> Path:
    """Where the state of the rollouts lies in the state directory."""
    return state / "rollouts.json"


def save(path: Path, data: bytes) -> None:
    """Replace the file in one step; on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f"{path.suffix}.{token_hex(4)}.new")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def load(path: Path) -> bytes | None:
    """What was saved last; `None` if nothing ever was."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
