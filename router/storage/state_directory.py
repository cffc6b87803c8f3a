"""Is there a place for what the daemon keeps? Its state directory is made where it is missing."""

from __future__ import annotations

import os
from pathlib import Path

from router.domain.errors import SettingsError


def make_state_directory(place: Path) -> None:
    """Raises `SettingsError` where there is no such directory and none can be made, or nothing can be written there."""
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{place}, the state directory, cannot be made: {error.strerror}{_ELSEWHERE}") from None
    if not os.access(place, os.W_OK | os.X_OK):
        raise SettingsError(f"{place}, the state directory, cannot be written to{_ELSEWHERE}")


_ELSEWHERE = ". Name another with ROUTER_STATE_DIR, or for the demo with --state-dir"
