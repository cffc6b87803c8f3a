"""The way of a measurement: first token, tokens, outcome and late quality change what is decided next."""

from __future__ import annotations

from msgspec.structs import replace

from router.core.capacity.shared import settle
from router.core.controller import Controller
from router.core.evidence import Remembered
from router.core.ledger import Permit
from router.core.prefix import prompts
from router.core.rollouts.evidence import Met
from router.core.ticket import Ticket
from router.domain.deployment import Mode
from router.domain.errors import RouterError
from router.domain.events import CACHE, JUDGE, SENDER, AttemptEnded, Event, FeedbackReceived, RequestEnded
from router.domain.outcome import Ending, Outcome, Receipt, Usage
from router.domain.request import Capability
from router.slo.judge import judge

_CLIENT_GONE, _BUDGET_SPENT = "client_gone", "insufficient_quota"
_MUTE_TIMES, _MUTE_S = 3.0, 1.0
"""Silence past this many times what was predicted, and a second, is an illness of the deployment, not a long queue;
no second is given to a call that another overtook."""
_SPEAKING = frozenset(
    {
        "throttled",
        "backend_overloaded",
        "backend_refused",
        "backend_forbidden",
        "context_length_exceeded",
        "unsupported",
        "slo_unreachable",
    }
)

_TOO_MUCH = frozenset({"throttled", "backend_overloaded"})


class Feedback:
    """Takes what happened to calls and requests, and teaches the controller's models."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def on_first_token(self, ticket: Ticket, permit: Permit, *, now: float) -> list[Event]:
        """The first non-empty token of a call came: it is alive, and TTFT is known."""
        ticket.first_token = now
        member = permit.member
        member.account.on_first_token(permit, now=now)
        member.circuit.on_alive(permit.attempt.id)
        member.taken.observe(*permit.beside, now=now)
        if not permit.silent:
            observed = now - permit.attempt.started
            member.observe_first_token(permit, observed, now=now)
            if (ttft := ticket.request_class.objectives.ttft) is not None:
                inside = observed <= ttft.threshold_s
                member.limit.observe_first_token(permit.attempt.started, inside=inside, now=now)
        if member.cache is not None:
            prompts.on_first_token(ticket, permit, now=now)
        return self._controller.health(member)

    def on_tokens(self, permit: Permit, count: int, *, now: float) -> None:
        """More tokens of a call came."""
        member = permit.member
        member.account.on_tokens(permit, count, member, now=now)

    def on_outcome(
        self,
        ticket: Ticket,
        permit: Permit,
        outcome: Outcome,
        batch_wait_s: float | None = None,
        network_s: float | None = None,
    ) -> list[Event]:
        """A call ended: the ledger closes, and latency, length, circuit and quota learn."""
        attempt, member, now = outcome.attempt, permit.member, outcome.ended
        ticket.pay(outcome.cost_usd, outcome.cost_source)
        resized = settle(permit, outcome, refused=_was_refused(permit, outcome))
        member.account.close(permit)
        if permit.first_token is None and not permit.silent:
            member.scores.on_silent_end(permit, now - attempt.started)
        if ticket.request_class.budget.usd_per_day is not None:
            self._controller.spending.settle(ticket.request_class.name, outcome)
        if permit.quota is not None:
            refused = attempt.request.input_tokens if _was_refused(permit, outcome) else 0
            permit.quota.settle(permit.expected_tokens, outcome.output_tokens, refused_input=refused)
        if outcome.ending is Ending.COMPLETED:
            self._learn(ticket, permit, outcome)
        elif _was_mute(permit, outcome):
            member.circuit.on_failed(attempt.id, "timeout_first_token", None, now=now)
        elif outcome.ending is Ending.FAILED:
            code = outcome.error_code or "backend_error"
            member.circuit.on_failed(attempt.id, code, outcome.retry_after_s, now=now)
            if code == "throttled" and member.quota is not None:
                moved = member.quota.on_throttled(now=now)
                resized = [] if member.reserve is None else member.reserve.resized(moved)
            is_quota = code == "throttled" and permit.allowance is not None
            if not is_quota and (code in _TOO_MUCH or outcome.retry_after_s is not None):
                resized += member.on_refused(now=now)
        else:
            member.circuit.on_withdrawn(attempt.id)
        prompts.on_outcome(ticket, permit, outcome)
        if attempt.number == 1:
            self._controller.retries.on_first()
        ended = _ended(ticket, outcome, batch_wait_s, network_s)
        return [ended, *self._learn_ceiling(ticket, outcome), *resized, *self._controller.health(member)]

    def _learn_ceiling(self, ticket: Ticket, outcome: Outcome) -> list[Event]:
        """How long an answer got, where a ceiling is learned. What the sender's own bound or the context window cut
        tells nothing of it, and several choices are counted together."""
        terms, attempt = ticket.parameters.ceiling, outcome.attempt
        if terms is None or outcome.ending is not Ending.COMPLETED or ticket.parameters.max_tokens is not None:
            return []
        cut = outcome.finish_reason == "length"
        if (cut and attempt.max_tokens is None) or Capability.CHOICES in attempt.request.needs:
            return []
        model = attempt.deployment.model
        moved = self._controller.ceilings.observe(ticket.learned_as, model, terms, outcome.output_tokens, cut=cut)
        if moved is None or ticket.learned_as != ticket.request_class.name:
            return []
        return [replace(moved, advised=ticket.request_class.mode is Mode.ADVISE)]

    def _learn(self, ticket: Ticket, permit: Permit, outcome: Outcome) -> None:
        member, attempt, now = permit.member, outcome.attempt, outcome.ended
        member.circuit.on_alive(attempt.id)
        model, tokens = attempt.deployment.model, outcome.output_tokens
        self._controller.lengths.observe(ticket.learned_as, model, tokens, now=now)
        if member.batch is not None:
            return
        if permit.silent:
            took = now - attempt.started
            if member.wait is not None and ticket.home is not None:
                return
            if member.wait is not None:
                member.wait.observe(took - permit.predicted_whole_s(tokens) + permit.lane_wait_s, now=now)
                return
            member.latency.observe_whole(permit.predicted_whole_s(tokens), took, permit.multiplier, now=now)
        elif permit.first_token is not None and tokens > 1:
            observed = (now - permit.first_token - permit.stalled_s) / (tokens - 1)
            member.scores.on_tpot(permit, observed)
            member.latency.observe_tpot(permit.predicted_tpot_s, observed, now=now)
            member.limit.observe_call(observed, permit.first_token, now=now)

    def on_end(self, ticket: Ticket, done: Outcome | None, error: RouterError | None, *, now: float) -> RequestEnded:
        """The request is answered by `done`, or has failed for good."""
        request, answered = ticket.request, error is None and done is not None
        ttft = None if ticket.first_token is None else ticket.first_token - request.arrived
        tpot, e2e = None if done is None else done.tpot_s, now - request.arrived
        met = judge(ticket.request_class.objectives, ttft_s=ttft, tpot_s=tpot, e2e_s=e2e, answered=answered)
        served = done.attempt.deployment if done is not None else None
        if served is None and ticket.view is not None:
            served = ticket.view.deployment
        p_adequate = self._served_well(ticket, done) if answered else None
        self._count(ticket, done if answered else None)
        slo_met = answered and all(ok for _, ok in met)
        if error is None or _is_telling(ticket, error, now):
            self._controller.tuning.on_ended(ticket, met, now=now)
        self._weigh_in(ticket, met, p_adequate, error, now=now)
        output = done.output_tokens if done is not None else 0
        tokens = done.input_tokens if done is not None else request.input_tokens
        reference = self._controller.reference_price
        return RequestEnded(
            request=request,
            request_class=ticket.request_class.name,
            decision_id=_decision_id(ticket, done),
            deployment="" if served is None else served.name,
            model="" if served is None else served.model,
            tier="" if served is None else served.tier.value,
            status="completed" if answered else "failed",
            code=None if error is None else error.code,
            attempts=ticket.attempts + request.attempts_before,
            ttft_s=ttft,
            tpot_s=tpot,
            e2e_s=e2e,
            queue_s=ticket.queue_s,
            overhead_s=ticket.overhead_s,
            input_tokens=tokens,
            output_tokens=output,
            cost_usd=ticket.cost_usd,
            cost_source=ticket.cost_source,
            baseline_cost_usd=reference.cost_usd(tokens, output) if reference is not None and answered else 0.0,
            met=met,
            slo_met=slo_met,
            at=request.at + e2e,
            arm=ticket.arm,
            p_adequate=p_adequate,
            answer_cost_usd=0.0 if done is None else done.cost_usd,
        )

    def on_given(
        self, ticket: Ticket, receipt: Receipt, usage: Usage, *, model: str, p_adequate: float | None, now: float
    ) -> RequestEnded:
        """The request was given an answer that was made for an earlier one. Its promises are judged like any other's,
        but it is no evidence for a side of a rollout: it tells nothing new of the deployments, and would hide what
        those that are called do. It counts for no deployment either, but for `CACHE`."""
        request = ticket.request
        waited_s = now - request.arrived
        met = judge(ticket.request_class.objectives, ttft_s=receipt.ttft_s, tpot_s=0.0, e2e_s=waited_s, answered=True)
        reference = self._controller.reference_price
        baseline_usd = 0.0 if reference is None else reference.cost_usd(usage.input_tokens, usage.output_tokens)
        return RequestEnded(
            request=request,
            request_class=ticket.request_class.name,
            decision_id=receipt.decision_id,
            deployment=CACHE,
            model=model,
            tier="",
            status="completed",
            code=None,
            attempts=receipt.attempts,
            ttft_s=receipt.ttft_s,
            tpot_s=0.0,
            e2e_s=waited_s,
            queue_s=receipt.queue_s,
            overhead_s=receipt.overhead_s,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_usd=0.0,
            baseline_cost_usd=baseline_usd,
            met=met,
            slo_met=all(ok for _, ok in met),
            at=request.at + waited_s,
            arm=ticket.arm,
            p_adequate=p_adequate,
        )

    @staticmethod
    def _weigh_in(
        ticket: Ticket,
        met: Met,
        p_adequate: float | None,
        error: RouterError | None,
        *,
        now: float,
    ) -> None:
        """What the end of a request says of its side of a rollout."""
        evidence, objectives = ticket.evidence, ticket.request_class.objectives
        if evidence is None:
            return
        if error is None:
            evidence.on_answered(objectives, met, p_adequate or 0.0, ticket.cost_usd, now=now)
        elif _is_telling(ticket, error, now):
            evidence.on_failed(objectives, now=now)

    def on_refused(self, ticket: Ticket, error: RouterError, *, now: float) -> None:
        """The request was refused before any call. A side of a rollout does not pass by refusing: no promise counts
        as kept."""
        if not _is_telling(ticket, error, now):
            return
        objectives = ticket.request_class.objectives
        met = judge(objectives, ttft_s=None, tpot_s=None, e2e_s=None, answered=False)
        self._controller.tuning.on_ended(ticket, met, now=now)
        if ticket.evidence is not None:
            ticket.evidence.on_failed(objectives, now=now)

    def _count(self, ticket: Ticket, done: Outcome | None) -> None:
        """What was served counts for the floor of its class."""
        counted = self._controller.duals.on_ended(ticket, None if done is None else done.attempt.deployment.model)
        if done is not None and counted is not None:
            self._controller.memory.on_counted(done.attempt.decision_id, *counted)

    @staticmethod
    def _served_well(ticket: Ticket, done: Outcome | None) -> float | None:
        """P(adequate) of the model that answered, as it was estimated for the decision."""
        if done is None:
            return None
        known = ticket.qualities.get(done.attempt.deployment.model)
        return None if known is None else known[0]

    def on_quality(
        self, decision_id: str, quality: float, *, adequate: float, source: str = SENDER
    ) -> FeedbackReceived:
        """Late quality for a decision; unknown and repeated ids teach nothing. A sender who comes after a judge teaches
        only where it says otherwise."""
        known, is_news = self._controller.memory.recall(decision_id), True
        docket = self._controller.judging.docket
        if source == SENDER:
            judged, differs = docket.on_told(decision_id, quality)
            if known is None:
                known, is_news = judged, differs
        if known is None:
            return FeedbackReceived(decision_id, quality, False, source=source)
        if is_news:
            self._teach(known, adequate, source)
        if source == JUDGE:
            docket.on_taught(decision_id, known if known.counted is None else replace(known, counted=adequate))
        return FeedbackReceived(decision_id, quality, True, known.request_class, known.model, source)

    def _teach(self, known: Remembered, adequate: float, source: str) -> None:
        if known.evidence is not None:
            known.evidence.on_quality(adequate)
        if known.grades and not self._controller.drift.is_frozen(source):
            self._controller.checks.observe(known.p_before, known.model, known.grades, adequate)
        if known.counted is not None and not self._controller.drift.flatters(source):
            self._controller.duals.on_verdict(known.floor, known.model, known.counted, adequate)
        self._controller.drift.teach(known, adequate, source=source)


def _decision_id(ticket: Ticket, done: Outcome | None) -> str:
    if done is not None:
        return done.attempt.decision_id
    return "" if ticket.decision is None else ticket.decision.id


def _is_telling(ticket: Ticket, error: RouterError, now: float) -> bool:
    """Whether a failure says something of the side it happened on: a spent budget does not, and a sender who leaves
    does only if a promise was broken by then."""
    if error.code != _CLIENT_GONE:
        return error.code != _BUDGET_SPENT
    objectives, waited = ticket.request_class.objectives, now - ticket.request.arrived
    is_silent = objectives.ttft is not None and ticket.first_token is None and waited > objectives.ttft.threshold_s
    return is_silent or (objectives.e2e is not None and waited > objectives.e2e.threshold_s)


def _was_refused(permit: Permit, outcome: Outcome) -> bool:
    """Whether a call was never made, or failed before any of it was taken in."""
    return permit.is_unsent or (outcome.ending is Ending.FAILED and outcome.first_token is None)


def _was_mute(permit: Permit, outcome: Outcome) -> bool:
    """Whether a call that was given up had said nothing for so long that the deployment must be ill."""
    if permit.first_token is not None or outcome.error_code in _SPEAKING or permit.member.wait is not None:
        return False
    waited = outcome.ended - outcome.attempt.started
    return waited > permit.excused_s(_MUTE_TIMES) + (0.0 if permit.overtaken else _MUTE_S)


def _ended(ticket: Ticket, outcome: Outcome, batch_wait_s: float | None, network_s: float | None) -> AttemptEnded:
    first, started = outcome.first_token, outcome.attempt.started
    return AttemptEnded(
        outcome,
        ticket.request_class.name,
        batch_wait_s,
        None if first is None else first - started,
        None if first is None else outcome.ended - first,
        network_s,
    )
