"""What an account may ask for on demand, as we know it."""

from __future__ import annotations

from router.domain.events import Event


class AllowanceObserved(Event, frozen=True):
    """At a tick: calls and tokens a minute that the account of a deployment may ask for, `None` where not known, and
    the share of a minute of each that is used up and has not come back."""

    deployment: str
    requests_per_min: float | None
    tokens_per_min: float | None
    requests_ratio: float
    tokens_ratio: float
