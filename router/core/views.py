"""One frozen `DeploymentView` per candidate: the only place where the five families meet."""

from __future__ import annotations

import math

from router.core.fleet import Member
from router.core.ticket import Ticket
from router.domain.slo import Objectives
from router.domain.view import DeploymentView, Load
from router.learning.ceiling import Ceilings
from router.learning.latency import BATCH_SIGMA, E2E_SIGMA
from router.learning.length import LengthModel
from router.learning.quality import QualityModel
from router.stats.normal import below

_TOO_LATE = 2.0
_LEAST_ROOM = 0.05
"""Share of an objective that a long prompt of one's own leaves at least for waiting, when pressure is told."""


class Viewer:
    """Fills views from the models; one per controller."""

    def __init__(self, lengths: LengthModel, qualities: QualityModel, ceilings: Ceilings) -> None:
        self._lengths = lengths
        self._qualities = qualities
        self._ceilings = ceilings

    def _quality(self, ticket: Ticket, member: Member) -> tuple[float, float]:
        """P(adequate) of this member's model for the request, and its lower bound; the same for all its copies."""
        deployment = member.deployment
        found = ticket.qualities.get(deployment.model)
        if found is None:
            scored = ticket.scored
            estimate = scored.of(deployment.model, deployment.tier)
            low = scored.low(deployment.model, deployment.tier)
            found = self._qualities.correct(estimate, deployment.model, scored.use_case, low=low)
            ticket.qualities[deployment.model] = found
        return found

    def max_tokens(self, ticket: Ticket, model: str) -> int | None:
        """Most output tokens of a model for the request: fixed, or learned; `None` where nothing bounds the answer."""
        terms = ticket.parameters.ceiling
        if ticket.max_tokens is not None or terms is None:
            return ticket.max_tokens
        return self._ceilings.tokens(ticket.learned_as, model, terms)

    def length(self, ticket: Ticket, model: str) -> float:
        """Expected output tokens of a model for the request."""
        found = ticket.lengths.get(model)
        if found is None:
            found = self._lengths.expect(ticket.learned_as, model, self.max_tokens(ticket, model))
            ticket.lengths[model] = found
        return found

    def longest(self, ticket: Ticket, model: str) -> float:
        """Output tokens that 97 of 100 answers of a model to such a request stay under."""
        return self._lengths.p97(ticket.learned_as, model, self.max_tokens(ticket, model))

    def view(self, member: Member, ticket: Ticket, *, now: float) -> DeploymentView:
        """Everything a filter or scorer may read about one deployment for one request."""
        deployment, request, account = member.deployment, ticket.request, member.account
        p_adequate, p_low = self._quality(ticket, member)
        output = self.length(ticket, deployment.model)
        load = account.load(now, member.prefill_s_per_token if account.waiting else 0.0)
        if member.batch is None:
            rate = account.prefill_rate.at(now)
            ttft, tpot = member.latency.predict(load, request.input_tokens, output, rate)
            work = member.latency.work_s(request.input_tokens, output)
        else:
            ttft, tpot = _batch_wait_s(member, load), 0.0
            work = member.batch.expected_s(1) / member.batch.max_items
        waited = now - ticket.began
        e2e = ttft + tpot * (output - 1.0)
        p_slo, pressure = _promises(member, ticket, waited, ttft, tpot, e2e, now)
        typical, quota = member.typical_work.mean, member.quota
        return DeploymentView(
            deployment,
            member.circuit.blocked(now=now) or "",
            load,
            member.limit.value,
            p_adequate,
            p_low,
            output,
            ttft,
            tpot,
            e2e,
            p_slo,
            deployment.price.cost_usd(request.input_tokens, output),
            work,
            pressure,
            member.price.value(pressure) * (work / typical if typical > 0.0 else 1.0),
            quota is None or quota.has_room(request.input_tokens, output, now=now),
            quota is None or quota.fits(request.input_tokens, output),
            member.spread,
        )


def _batch_wait_s(member: Member, load: Load) -> float:
    """Half a running batch and then our own, with all who wait."""
    tuner = member.batch
    assert tuner is not None
    waiting = load.waiting_sequences
    batches, rest = divmod(waiting, tuner.max_items)
    running = 0.5 * tuner.expected_s(min(waiting, tuner.max_items)) if waiting else 0.0
    return running + batches * tuner.expected_s(tuner.max_items) + tuner.expected_s(rest + 1)


def _promises(
    member: Member, ticket: Ticket, waited: float, ttft: float, tpot: float, e2e: float, now: float
) -> tuple[float, float]:
    """P(every objective and the deadline are met), and how hard the prediction presses on the latency objectives."""
    objectives: Objectives = ticket.request_class.objectives
    latency = member.latency
    p, pressure = 1.0, 0.0
    if objectives.ttft is not None:
        threshold = objectives.ttft.threshold_s
        left = threshold - waited
        p = latency.ttft.p_within(ttft, left)
        own = latency.prefill_s_per_token * ticket.request.input_tokens
        room, least = left - own, _LEAST_ROOM * threshold
        pressure = (ttft - own) / (room if room > least else least)
    if objectives.tpot is not None and member.batch is None:
        threshold = objectives.tpot.threshold_s
        p *= latency.tpot.p_within(tpot, threshold)
        if tpot > pressure * threshold:
            pressure = tpot / threshold
    whole = _left(ticket, objectives, waited, now)
    if whole is not None:
        sigma = E2E_SIGMA if tpot else BATCH_SIGMA
        p *= below(0.0, math.log(e2e / whole), sigma) if whole > 0.0 else 0.0
        if objectives.ttft is None:
            pressure = max(pressure, e2e / whole if whole > 0.0 else _TOO_LATE)
    return p, pressure


def _left(ticket: Ticket, objectives: Objectives, waited: float, now: float) -> float | None:
    """Seconds until the whole answer must be there, by objective or deadline."""
    left = None if objectives.e2e is None else objectives.e2e.threshold_s - waited
    if ticket.aim is not None and (left is None or ticket.aim - now < left):
        left = ticket.aim - now
    return left
