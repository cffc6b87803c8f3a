"""One frozen `DeploymentView` per candidate: the only place where the five families meet."""

from __future__ import annotations

import math
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from router.core.fleet import Member, Standing
from router.core.prefix.prompts import expected_tokens
from router.core.ticket import Ticket
from router.domain.deployment import Mode
from router.domain.view import DeploymentView, Load
from router.learning.ceiling import Ceilings
from router.learning.latency import BATCH_SIGMA, E2E_SIGMA
from router.learning.length import LengthModel
from router.learning.quality import QualityModel
from router.learning.verify.evidence import CheckModel
from router.stats.normal import below

_TOO_LATE = 2.0
_WORTH_ASKING = 0.5
"""P(SLO met) that an idle batch endpoint is given at least where nothing was heard of it for a while: one request at a
time is worth what it tells, or an endpoint once thought too slow would be thought so for ever."""
_LEAST_ROOM = 0.05
"""Share of an objective that a long prompt of one's own leaves at least for waiting, when pressure is told."""


class Aim(Struct, frozen=True, gc=False):
    """What one request asks of any deployment that is called `now`: seconds that are left of each promise, `None` where
    there is none."""

    now: float
    input_tokens: int
    ttft_left_s: float | None
    ttft_least_s: float
    """What pressure leaves of the objective at least."""
    tpot_s: float | None
    whole_left_s: float | None
    """Until the whole answer must be there, by objective or deadline."""


class Viewer:
    """Fills views from the models; one per controller."""

    def __init__(self, lengths: LengthModel, qualities: QualityModel, ceilings: Ceilings) -> None:
        self._lengths = lengths
        self._qualities = qualities
        self._ceilings = ceilings
        self.is_still = False
        """While it is true nothing happens but our own decisions: what is known of a member's load is kept."""
        self.checks = CheckModel()

    def _quality(self, ticket: Ticket, member: Member) -> tuple[float, float]:
        """P(adequate) of this member's model for the request, and its lower bound; the same for all its copies."""
        deployment = member.deployment
        found = ticket.qualities.get(deployment.model)
        if found is None:
            scored = ticket.scored
            estimate = scored.of(deployment.model, deployment.tier)
            low = scored.low(deployment.model, deployment.tier)
            ease, novelty = ticket.ease, scored.novelty
            found = self._qualities.correct(
                estimate, deployment.model, scored.use_case, low=low, common=ease, novelty=novelty
            )
            ticket.qualities[deployment.model] = found
        return found

    def max_tokens(self, ticket: Ticket, model: str) -> int | None:
        """Most output tokens of a model for the request: fixed, or learned; `None` where nothing bounds the answer."""
        terms = ticket.parameters.ceiling
        if ticket.max_tokens is not None or terms is None:
            return ticket.max_tokens
        if ticket.request_class.mode is Mode.ADVISE:
            return terms.start_tokens
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

    def view(self, member: Member, ticket: Ticket, aim: Aim) -> DeploymentView:
        """The view of one deployment."""
        return self.views((member,), ticket, aim)[0]

    def views(self, members: Iterable[Member], ticket: Ticket, aim: Aim) -> list[DeploymentView]:
        """Everything a filter or scorer may read about each deployment for a request; `aim` is what it asks of all."""
        now, tokens, qualities, lengths = aim.now, aim.input_tokens, ticket.qualities, ticket.lengths
        views, fallen = list[DeploymentView](), self._qualities.fallen
        for member in members:
            deployment, wait, asked = member.deployment, member.wait, aim
            model = deployment.model
            p_adequate, p_low = qualities.get(model) or self._quality(ticket, member)
            output = lengths.get(model) or self.length(ticket, model)
            load, prospect, blocked, limit, token_limit, filled = member.standing or self._standing(member, now)
            cached = 0.0 if member.cache is None else expected_tokens(ticket, member.cache, now=now)
            if prospect is not None:
                ttft, tpot, work = prospect.predict(tokens, output)
                if cached:  # the rest of the prompt is computed, and all of it is context
                    asked = replace(aim, input_tokens=max(tokens - int(cached), 1))
                    ttft, _, work = prospect.predict(asked.input_tokens, output)
                if wait is not None:
                    ttft += wait.typical_s
            else:
                ttft, tpot, work = _of_batch(member, load, now)
            e2e = ttft + tpot * (output - 1.0)
            p_slo, pressure = _promises(member, asked, ttft, tpot, e2e, filled)
            if prospect is None or wait is not None:
                p_slo, pressure = _eased(member, ticket, aim, p_slo, pressure)
            has_room, fits, bid_usd = True, True, 0.0
            if member.quota is not None or member.allowance is not None:
                has_room, fits, bid_usd = self._tokens_left(member, ticket, output, now)
            typical = member.typical_work.mean
            seen = DeploymentView(
                deployment,
                blocked,
                load,
                limit,
                p_adequate,
                p_low,
                output,
                ttft,
                tpot,
                e2e,
                p_slo,
                deployment.price.cost_usd(tokens, output, cached),
                work,
                pressure,
                member.price.value(pressure) * (work / typical if typical > 0.0 else 1.0),
                has_room,
                fits,
                member.spread,
                model in fallen,
                bid_usd,
                token_limit,
                cached,
            )
            views.append(seen)
        return views

    def _tokens_left(
        self, member: Member, ticket: Ticket, output_tokens: float, now: float
    ) -> tuple[bool, bool, float]:
        """Of a deployment whose tokens a minute are bounded: whether the call may be made now, and whether ever; and
        what the reserved tokens that it would use are worth, in dollars."""
        tokens, quota = ticket.request.input_tokens, member.quota
        if quota is not None:
            has_room, fits = quota.has_room(tokens, output_tokens, now=now), quota.fits(tokens, output_tokens)
            return has_room, fits, quota.bid_usd(tokens, output_tokens, now=now)
        allowance = member.allowance
        assert allowance is not None
        asked = allowance.asked(tokens, self.max_tokens(ticket, member.deployment.model))
        return allowance.has_room(asked, now=now), allowance.fits(asked), 0.0

    def _standing(self, member: Member, now: float) -> Standing:
        """What every request of this instant sees alike."""
        account, latency = member.account, member.latency
        pace = latency.prefill_pace_s(account.decoding, account.context_tokens) if account.waiting else 0.0
        load = account.load(now, pace)
        prospect = None if member.is_whole else latency.prospect(load, account.prefill_rate.at(now))
        blocked = member.circuit.blocked(now) or ""
        calls, tokens, filled = member.bounds()
        standing = load, prospect, blocked, calls, tokens, filled
        if self.is_still:
            member.standing = standing
        return standing

    @staticmethod
    def later(view: DeploymentView, member: Member, ticket: Ticket, *, after_s: float, now: float) -> DeploymentView:
        """The same view for a call that goes out `after_s` from now: with less time left for its promises."""
        aim = aim_of(ticket, now, after_s)
        p_slo, pressure = _promises(member, aim, view.ttft_s, view.tpot_s, view.e2e_s)
        return replace(view, p_slo=p_slo, pressure=pressure)


def _of_batch(member: Member, load: Load, now: float) -> tuple[float, float, float]:
    """Of a batch endpoint or a lane of jobs: seconds to the answer, which comes whole; no TPOT; one request's share of
    a full batch (a job takes nothing that we have)."""
    tuner = member.batch
    if tuner is None:
        assert member.wait is not None
        return member.wait.typical_s, 0.0, 0.0
    return tuner.wait_s(load.waiting_sequences, now=now), 0.0, tuner.expected_s(1) / tuner.max_items


def _eased(
    member: Member, ticket: Ticket, aim: Aim, p_slo: float, pressure: float | None
) -> tuple[float, float | None]:
    """The promises of an endpoint that is no continuous server of our own."""
    if member.batch is not None and not member.account.permits and member.batch.curve.is_unheard(aim.now):
        p_slo, pressure = max(p_slo, _WORTH_ASKING), 0.0
    if member.deployment.job is not None:
        p_slo = _of_job(ticket, aim, p_slo)
    return p_slo, pressure if member.wait is None else 0.0


def _of_job(ticket: Ticket, aim: Aim, p_slo: float) -> float:
    """Nobody is put off for hours who does not say how long it may take; whose job is under way stays with it."""
    if ticket.home is not None:
        return 1.0
    return 0.0 if aim.whole_left_s is None and aim.ttft_left_s is None else p_slo


def aim_of(ticket: Ticket, now: float, after_s: float = 0.0) -> Aim:
    """What the request asks of whoever is called `after_s` from now."""
    objectives, waited = ticket.request_class.objectives, now - ticket.began + after_s
    ttft, tpot, e2e = objectives.ttft, objectives.tpot, objectives.e2e
    whole = None if e2e is None else e2e.threshold_s - waited
    if ticket.aim is not None:
        left = ticket.aim - (now + after_s)
        if whole is None or left < whole:
            whole = left
    return Aim(
        now + after_s,
        ticket.request.input_tokens,
        None if ttft is None else ttft.threshold_s - waited,
        0.0 if ttft is None else _LEAST_ROOM * ttft.threshold_s,
        None if tpot is None else tpot.threshold_s,
        whole,
    )


def _promises(
    member: Member, aim: Aim, ttft: float, tpot: float, e2e: float, filled: float = 0.0
) -> tuple[float, float | None]:
    """P(every objective and the deadline are met), and what presses most: the prediction on a latency objective, or the
    load on the room that there is (`filled`). `None` where the request alone would miss its objectives of first or of
    later tokens at the usual speed: that says nothing of the load."""
    latency = member.latency
    p, pressure, hopeless = 1.0, filled, False
    left, threshold, whole = aim.ttft_left_s, aim.tpot_s, aim.whole_left_s
    if left is not None:
        p = latency.ttft.p_within(ttft, left)
        own = latency.multiplier * latency.per_prefill_token_s * aim.input_tokens
        room, least = left - own, aim.ttft_least_s
        hopeless = room <= least and not member.is_whole
        pressure = max(pressure, (ttft - own) / (room if room > least else least))
    if threshold is not None and member.batch is None:
        p *= latency.tpot.p_within(tpot, threshold)
        if tpot > pressure * threshold:
            pressure = tpot / threshold
            hopeless = hopeless or (pressure > 1.0 and latency.alone_s >= threshold)
    if whole is not None:
        sigma = E2E_SIGMA if tpot else BATCH_SIGMA
        if member.wait is not None:
            sigma = max(sigma, latency.ttft.sigma)
        p *= below(0.0, math.log(e2e / whole), sigma) if whole > 0.0 else 0.0
        if left is None:
            pressure = max(pressure, e2e / whole if whole > 0.0 else _TOO_LATE)
    return p, None if hopeless else pressure
