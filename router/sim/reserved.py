"""What became of reserved capacity and of lanes in a run: a part of the report that only such runs have."""

from __future__ import annotations

from collections import Counter

from router.core.controller import Controller
from router.domain.control.capacity import LaneChanged, SpillChanged
from router.domain.events import Event

_DIGITS = 6


class CapacityBook:
    """Gathers what was told; the accounts are the controller's own."""

    def __init__(self) -> None:
        self._spills: Counter[str] = Counter()
        self._lanes: Counter[str] = Counter()

    def emit(self, event: Event) -> None:
        """Count spills by deployment, and the ends of waiting for a lane."""
        if isinstance(event, SpillChanged):
            self._spills[event.deployment] += 1
        elif isinstance(event, LaneChanged):
            self._lanes[f"{event.old} to {event.new}"] += 1

    def report(self, controller: Controller, *, now: float) -> dict[str, object]:
        """By deployment, the share of each resource that was used, hours and dollars wasted, and how often spilling
        began or ended; and how many requests that were kept went where. Empty where nothing is reserved or kept."""
        reserved: dict[str, object] = {}
        for name, member in controller.fleet.members.items():
            if member.reserve is None:
                continue
            member.reserve.close(now)
            account = member.reserve.account
            sized_s = account.sized_s or 1.0
            wasted_hours = account.wasted_s / 3600.0
            reserved[str(name)] = {
                "input_ratio": round(account.input_share_s / sized_s, _DIGITS),
                "output_ratio": round(account.output_share_s / sized_s, _DIGITS),
                "wasted_hours": round(wasted_hours, _DIGITS),
                "wasted_usd": round(wasted_hours * member.deployment.price.hourly_usd, _DIGITS),
                "spill_changes": self._spills[name],
            }
        found = {"reserved": reserved, "lanes": dict(sorted(self._lanes.items()))}
        return {name: part for name, part in found.items() if part}
