"""What servers tell of their own load, and whether they answer."""

from __future__ import annotations

from router.domain.events import Event


class ServerAsked(Event, frozen=True):
    """The server of a deployment was asked for its load at wall time `at`. `result`: ok, or why there are no figures
    (timeout, unreachable, refused, unreadable); without figures the rest is `None`."""

    deployment: str
    result: str
    at: float
    running: int | None = None
    waiting: int | None = None
    kv_ratio: float | None = None


class ServerHeard(Event, frozen=True):
    """The server of a deployment tells its load, for the first time or again, or does not; told when that changes.
    Requests do not depend on it: only what others send there is not seen meanwhile."""

    deployment: str
    tells: bool
    reason: str
