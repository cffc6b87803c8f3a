"""Counts what is served of a class with a floor: when it is decided, when it has ended, when it is told."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from router.core.floor.doubt import FAMILIAR, as_counted
from router.core.ticket import Ticket
from router.domain.drift import FloorAtRisk, FloorObserved
from router.domain.events import Event
from router.domain.slo import FloorUnderOverload
from router.domain.view import DeploymentView
from router.slo.floor import FloorPrice

_DONE = {
    "price_at_bound": "the price is at its bound: there is not enough quality to buy, or too little room for it",
    "feedback": "the price rises until what is told is what was promised",
    "fallen": "the lower bound of the model that fell stands for its estimate",
    "novel": "lower bounds stand for the estimates of novel prompts: the floor buys the likelier model",
    "": "it is expected to hold again",
}


def on_decided(
    floor: FloorPrice, ticket: Ticket, chosen: DeploymentView, views: Sequence[DeploymentView], full: Collection[str]
) -> None:
    """A request is going to be served by `chosen` out of `views`; deployments of the models `full` had no room for it.
    A floor that is kept by shedding is not kept by what would be best of what is left: who is full counts too."""
    best, novelty, p = max([view.p_adequate for view in views]), ticket.scored.novelty, chosen.p_adequate
    if full and floor.under_overload is FloorUnderOverload.SHED:
        best = max(best, *(ticket.qualities[model][0] for model in full))
    counted = as_counted(p, chosen.p_adequate_low, best, novelty)
    may_refuse = ticket.request_class.sheddable and floor.under_overload is FloorUnderOverload.SHED
    ticket.floor_counted = (counted, best) if floor.on_served(counted, best, may_refuse=may_refuse) else None
    fallen = True in [view.fallen for view in views]
    floor.risk.on_served(p, counted, at_bound=floor.is_at_bound, fallen=fallen, novel=novelty > FAMILIAR)


def on_ended(floor: FloorPrice, ticket: Ticket, model: str | None) -> float | None:
    """A counted request was answered by this model, or not at all. Gives what it counts in the end."""
    if ticket.floor_counted is None:
        return None
    (before, best), known = ticket.floor_counted, None if model is None else ticket.qualities.get(model)
    counted = None if known is None else as_counted(*known, best, ticket.scored.novelty)
    if counted != before:
        floor.on_changed(before, counted)
    if counted is not None and model is not None:
        floor.on_answered(model)
    return counted


class Watch:
    """Tells how the floors stand, and when one comes to be at risk or no longer is."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def tick(self, floors: dict[str, FloorPrice]) -> list[Event]:
        """The floors of classes, not of the sides of their rollouts."""
        events: list[Event] = []
        for name, floor in floors.items():
            if "/" in name:
                continue
            risk, ratio = floor.risk, floor.floor.ratio
            reason = risk.reason(ratio)
            corrected, price = risk.corrected, floor.tuned
            events.append(FloorObserved(name, ratio, price, risk.expected, risk.counted, corrected, reason))
            if reason != self._told.get(name, ""):
                self._told[name] = reason
                low = risk.counted if corrected is None else min(risk.counted, corrected)
                events.append(FloorAtRisk(name, reason, ratio, risk.expected, low, price, _DONE[reason]))
        self._told = {name: reason for name, reason in self._told.items() if name in floors}
        return events
