"""The way of a measurement: first token, tokens, outcome and late quality change what is decided next."""

from __future__ import annotations

from router.core.controller import Controller
from router.core.fleet import Member
from router.core.ledger import Permit
from router.core.ticket import Ticket
from router.domain.errors import RouterError
from router.domain.events import AttemptEnded, Event, FeedbackReceived, RequestEnded
from router.domain.outcome import Ending, Outcome
from router.slo.judge import judge


class Feedback:
    """Takes what happened to calls and requests, and teaches the controller's models."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def _member(self, permit: Permit) -> Member | None:
        deployment = permit.attempt.deployment
        return self._controller.fleet.find(deployment.name, permit.attempt.id)

    def on_first_token(self, ticket: Ticket, permit: Permit, *, now: float) -> list[Event]:
        """The first non-empty token of a call came: it is alive, and TTFT is known."""
        ticket.first_token = now
        member = self._member(permit)
        if member is None:
            return []
        member.account.on_first_token(permit, now=now)
        health = member.circuit.health.value
        member.circuit.on_alive()
        if member.batch is None:
            observed = now - permit.attempt.started
            member.latency.observe_first_token(permit.predicted_ttft_s, observed, now=now)
        return self._controller.health(member, health)

    def on_tokens(self, permit: Permit, count: int, *, now: float) -> None:
        """More tokens of a call came."""
        member = self._member(permit)
        if member is not None:
            member.account.on_tokens(permit, count, member.latency, now=now)

    def on_outcome(
        self,
        ticket: Ticket,
        permit: Permit,
        outcome: Outcome,
        batch_wait_s: float | None = None,
        network_s: float | None = None,
    ) -> list[Event]:
        """A call ended: the ledger closes, and latency, length, circuit and quota learn."""
        attempt, now = outcome.attempt, outcome.ended
        ticket.cost_usd += outcome.cost_usd
        events: list[Event] = [_ended(ticket, outcome, batch_wait_s, network_s)]
        member = self._member(permit)
        if member is None:
            return events
        member.account.close(permit)
        if member.quota is not None:
            member.quota.settle(permit.expected_tokens, outcome.output_tokens)
        health = member.circuit.health.value
        if outcome.ending is Ending.COMPLETED:
            self._learn(ticket, permit, outcome, member)
        elif outcome.ending is Ending.FAILED:
            code = outcome.error_code or "backend_error"
            member.circuit.on_failed(code, outcome.retry_after_s, now=now)
            if code == "throttled" and member.quota is not None:
                member.quota.on_throttled()
        else:
            member.circuit.on_withdrawn()
        events += self._controller.health(member, health)
        if attempt.number == 1:
            self._controller.retries.on_first()
        return events

    def _learn(self, ticket: Ticket, permit: Permit, outcome: Outcome, member: Member) -> None:
        member.circuit.on_alive()
        attempt, now = outcome.attempt, outcome.ended
        if outcome.finish_reason != "length":
            name = ticket.request_class.name
            self._controller.lengths.observe(name, attempt.deployment.model, outcome.output_tokens, now=now)
        tpot = outcome.tpot_s
        if attempt.stream and member.batch is None and tpot is not None and outcome.output_tokens > 1:
            member.latency.observe_tpot(permit.predicted_tpot_s, tpot, now=now)

    def on_end(
        self,
        ticket: Ticket,
        outcome: Outcome | None,
        error: RouterError | None,
        *,
        overhead_s: float,
        now: float,
    ) -> RequestEnded:
        """The request is answered, or has failed for good."""
        request = ticket.request
        answered = error is None and outcome is not None
        ttft = None if ticket.first_token is None else ticket.first_token - request.arrived
        tpot = outcome.tpot_s if outcome is not None else None
        e2e = now - request.arrived
        met = judge(ticket.request_class.objectives, ttft_s=ttft, tpot_s=tpot, e2e_s=e2e, answered=answered)
        deployment = None if ticket.view is None else ticket.view.deployment
        output = outcome.output_tokens if outcome is not None else 0
        tokens = outcome.input_tokens if outcome is not None else request.input_tokens
        reference = self._controller.reference_price
        return RequestEnded(
            request=request,
            request_class=ticket.request_class.name,
            decision_id="" if ticket.decision is None else ticket.decision.id,
            deployment="" if deployment is None else deployment.name,
            model="" if deployment is None else deployment.model,
            tier="" if deployment is None else deployment.tier.value,
            status="completed" if answered else "failed",
            code=None if error is None else error.code,
            attempts=ticket.attempts + request.attempts_before,
            ttft_s=ttft,
            tpot_s=tpot,
            e2e_s=e2e,
            queue_s=ticket.queue_s,
            overhead_s=overhead_s,
            input_tokens=tokens,
            output_tokens=output,
            cost_usd=ticket.cost_usd,
            baseline_cost_usd=reference.cost_usd(tokens, output) if reference is not None and answered else 0.0,
            met=met,
            slo_met=answered and all(ok for _, ok in met),
            at=request.at + e2e,
        )

    def on_quality(self, decision_id: str, quality: float, *, adequate: float) -> FeedbackReceived:
        """Late quality for a decision; unknown and repeated ids teach nothing."""
        known = self._controller.memory.recall(decision_id)
        if known is None:
            return FeedbackReceived(decision_id, quality, False)
        self._controller.qualities.observe(known.estimate, known.model, known.use_case, adequate)
        return FeedbackReceived(decision_id, quality, True, known.request_class, known.model)


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
