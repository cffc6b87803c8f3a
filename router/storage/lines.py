"""Files of lines that a killed process may have left in the middle of one."""

from __future__ import annotations

import os
from pathlib import Path


def ends_whole(path: Path) -> bool:
    """Whether the last line of a file, which is not empty, was written to its end."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
