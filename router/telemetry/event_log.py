"""The subscriber that writes one log line for each decision and step of life.

At debug level also what comes with every request or tick besides: load, prices, shadows, budgets, cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from router.domain import events as ev
from router.domain.control.batches import BatchEnded
from router.domain.control.capacity import GroupObserved, LaneChanged, ReserveObserved, SpillChanged, WantedReplicas
from router.domain.control.jobs import AnswersUnused, JobChanged, JobsObserved, RecordsReturned
from router.domain.control.provisioned import ControlPlaneHeard, ProvisionedChanged, ProvisionedObserved, Reconciled
from router.domain.control.servers import ServerAsked, ServerHeard
from router.domain.control.stability import CoverageChanged, KnowledgeChanged, PredictionsScored, TuningChanged
from router.domain.control.windows import WindowClosed
from router.domain.drift import DriftDetected, FloorAtRisk, FloorObserved
from router.domain.errors import Said
from router.domain.learned import BeliefsWidened, LearnedImported, LearnedReset, LearningFrozen
from router.domain.outcome import Ending
from router.telemetry.sink import Handler, Handlers
from router.wire.trace import read_trace

TEXT_MAX = 200
_JOB_LOST = frozenset({"Failed", "Expired", "PartiallyCompleted"})
_SAID: dict[type[ev.Event], str] = {
    DriftDetected: "drift_detected",
    LearnedReset: "learned_reset",
    LearnedImported: "learned_imported",
    LearningFrozen: "learning_frozen",
    BeliefsWidened: "beliefs_widened",
    SpillChanged: "spill_changed",
    CoverageChanged: "coverage_changed",
    TuningChanged: "tuning_changed",
    KnowledgeChanged: "knowledge_changed",
    WantedReplicas: "wanted_replicas",
    RecordsReturned: "batch_records_returned",
    AnswersUnused: "batch_answers_unused",
    ProvisionedChanged: "provisioned_changed",
    ControlPlaneHeard: "aws_control_heard",
    ServerHeard: "server_heard",
}
"""Told with all their fields."""


class EventLog:
    """One line for each decision and step of life; load, prices and single calls only at debug level."""

    name = "logs"

    def __init__(
        self, logger: structlog.typing.FilteringBoundLogger, write: Callable[[], None], *, debug: bool
    ) -> None:
        self._log, self._write, self._debug = logger, write, debug

    def handlers(self) -> Handlers:
        """Handlers for the event types that the level lets through."""
        info: dict[type[ev.Event], Handler] = {
            JobChanged: self._on_job,
            ev.RequestRejected: self._on_rejected,
            ev.DecisionMade: self._on_decision,
            ev.AttemptEnded: self._on_attempt,
            ev.RequestEnded: self._on_ended,
            ev.HealthChanged: self._on_health,
            ev.PolicyApplied: self._on_applied,
            ev.PolicyRejected: self._on_refused,
            ev.RolloutChanged: self._on_rollout,
            ev.BudgetChanged: self._on_budget,
            ev.CeilingUpdate: self._on_ceiling,
            FloorAtRisk: self._on_floor,
            ev.IngressEvent: self._on_ingress,
            **{event: self._said(name) for event, name in _SAID.items()},
        }
        return info | self._besides() if self._debug else info

    def _besides(self) -> dict[type[ev.Event], Handler]:
        """What comes with every request or tick."""
        return {
            ev.RequestReceived: self._on_received,
            ev.FeedbackReceived: self._on_feedback,
            ev.LimitUpdate: self._plain("limit_updated"),
            ev.PriceUpdate: self._plain("price_updated"),
            ev.CheckpointSaved: self._plain("checkpoint_saved"),
            ev.LoadObserved: self._plain("load_observed"),
            ev.QueueObserved: self._plain("queue_observed"),
            FloorObserved: self._plain("floor_observed"),
            ReserveObserved: self._plain("reserve_observed"),
            GroupObserved: self._plain("group_observed"),
            LaneChanged: self._plain("lane_changed"),
            ev.ShadowCompared: self._plain("shadow_compared"),
            ev.ExperimentObserved: self._plain("experiment_observed"),
            ev.BudgetObserved: self._plain("budget_observed"),
            ev.CacheUsed: self._plain("cache_used"),
            ev.CascadeChecked: self._plain("cascade_checked"),
            ev.AnswerJudged: self._plain("answer_judged"),
            ev.JudgeCompared: self._plain("judge_compared"),
            ev.RequestShaped: self._plain("request_shaped"),
            BatchEnded: self._plain("batch_ended"),
            JobsObserved: self._plain("batch_jobs_observed"),
            WindowClosed: self._plain("window_closed"),
            PredictionsScored: self._plain("predictions_scored"),
            ProvisionedObserved: self._plain("provisioned_observed"),
            Reconciled: self._plain("reconciled"),
            ServerAsked: self._plain("server_asked"),
        }

    def flush(self) -> None:
        """Write the batch."""
        self._write()

    def _said(self, name: str) -> Handler:
        def say(event: ev.Event) -> None:
            self._log.info(name, **{field: getattr(event, field) for field in event.__struct_fields__})

        return say

    def _plain(self, name: str) -> Handler:
        def say(event: ev.Event) -> None:
            self._log.debug(name, **{field: getattr(event, field) for field in event.__struct_fields__})

        return say

    def _on_job(self, event: JobChanged) -> None:
        say = self._log.warning if event.new in _JOB_LOST else self._log.info
        say("batch_job_changed", **{field: getattr(event, field) for field in event.__struct_fields__})

    def _on_received(self, event: ev.RequestReceived) -> None:
        request = event.request
        self._log.debug(
            "request_received",
            request_id=request.id,
            request_class=event.request_class,
            source=request.source,
            tenant=request.tenant,
            input_tokens=request.input_tokens,
            trace_id=_trace_id(request.traceparent),
        )

    def _on_rejected(self, event: ev.RequestRejected) -> None:
        self._log.info(
            "request_rejected",
            request_id=event.request.id,
            request_class=event.request_class,
            code=event.code,
            stage=event.stage,
            trace_id=_trace_id(event.request.traceparent),
        )

    def _on_decision(self, event: ev.DecisionMade) -> None:
        decision = event.decision
        self._log.info(
            "decision",
            at=decision.at,
            decision_id=decision.id,
            request_id=decision.request_id,
            request_class=decision.request_class,
            deployment=decision.chosen,
            arm=decision.arm,
            binding=decision.binding,
            propensity=decision.propensity,
            complexity=decision.complexity,
            scores={c.deployment: round(c.score, 4) for c in decision.candidates},
            excluded={e.deployment: e.code for e in decision.excluded},
            policy=decision.policy,
            decide_s=decision.decide_s,
        )

    def _on_attempt(self, event: ev.AttemptEnded) -> None:
        outcome = event.outcome
        failed = outcome.ending is Ending.FAILED
        say = self._log.warning if failed else self._log.debug
        say(
            "attempt_failed" if failed else "attempt_ended",
            attempt_id=outcome.attempt.id,
            decision_id=outcome.attempt.decision_id,
            deployment=outcome.attempt.deployment.name,
            number=outcome.attempt.number,
            ending=outcome.ending,
            code=outcome.error_code,
            retry_after_s=outcome.retry_after_s,
            **({} if outcome.said is None else _said(outcome.said)),
            served_as=outcome.served_as,
            served_otherwise=outcome.served_otherwise,
        )

    def _on_ended(self, event: ev.RequestEnded) -> None:
        self._log.info(
            "request_ended",
            at=event.at,
            request_id=event.request.id,
            decision_id=event.decision_id,
            request_class=event.request_class,
            deployment=event.deployment,
            arm=event.arm,
            status=event.status,
            code=event.code,
            attempts=event.attempts,
            ttft_s=event.ttft_s,
            e2e_s=event.e2e_s,
            queue_s=event.queue_s,
            input_tokens=event.input_tokens,
            output_tokens=event.output_tokens,
            cost_usd=event.cost_usd,
            cost_source=event.cost_source,
            slo_met=event.slo_met,
            trace_id=_trace_id(event.request.traceparent),
        )

    def _on_feedback(self, event: ev.FeedbackReceived) -> None:
        name = "feedback_received" if event.known else "feedback_unknown"
        self._log.debug(name, decision_id=event.decision_id, quality=event.quality, source=event.source)

    def _on_health(self, event: ev.HealthChanged) -> None:
        self._log.warning(
            "health_changed", deployment=event.deployment, old=event.old, new=event.new, reason=event.reason
        )

    def _on_applied(self, event: ev.PolicyApplied) -> None:
        self._log.info(
            "policy_applied", at=event.at, old=event.old, new=event.new, diff=event.diff, **_origin(event.source)
        )

    def _on_refused(self, event: ev.PolicyRejected) -> None:
        self._log.error(
            "policy_rejected", at=event.at, digest=event.digest, problems=event.problems, **_origin(event.source)
        )

    def _on_rollout(self, event: ev.RolloutChanged) -> None:
        say = self._log.warning if event.state in ("refused", "rolled_back") else self._log.info
        say(
            "rollout_changed",
            at=event.at,
            request_class=event.request_class,
            state=event.state,
            ratio=event.ratio,
            version=event.version,
            reason=event.reason,
        )

    def _on_budget(self, event: ev.BudgetChanged) -> None:
        say = self._log.info if event.open else self._log.warning
        say(
            "budget_changed",
            at=event.at,
            request_class=event.request_class,
            open=event.open,
            spent_usd=event.spent_usd,
            limit_usd=event.limit_usd,
            reason=event.reason,
        )

    def _on_ceiling(self, event: ev.CeilingUpdate) -> None:
        self._log.info(
            "ceiling_updated",
            request_class=event.request_class,
            model=event.model,
            old_tokens=event.old_tokens,
            new_tokens=event.new_tokens,
            truncated_ratio=event.truncated_ratio,
            reason=event.reason,
            advised=event.advised,
        )

    def _on_floor(self, event: FloorAtRisk) -> None:
        say = self._log.warning if event.reason else self._log.info
        say(
            "floor_at_risk" if event.reason else "floor_trusted",
            request_class=event.request_class,
            reason=event.reason,
            ratio=event.ratio,
            expected=round(event.expected, 4),
            low=round(event.low, 4),
            price=round(event.price, 3),
            done=event.done,
        )

    def _on_ingress(self, event: ev.IngressEvent) -> None:
        say = self._log.debug if event.what == "replied" else self._log.info
        say("ingress_" + event.what, source=event.source, detail=event.detail[:TEXT_MAX], count=event.count)


def _origin(source: ev.PolicySource | None) -> dict[str, str | bool | Sequence[str] | None]:
    """Where an edit came from: empty where nobody knows."""
    if source is None:
        return {}
    return {
        "directory": source.directory,
        "changed": source.changed,
        "commit": source.commit,
        "author": source.author,
        "edited": source.edited,
    }


def _said(said: Said) -> dict[str, str | int]:
    """What is known of how the service named a failure."""
    return {f"service_{name}": value for name, value in said._asdict().items() if value is not None}


def _trace_id(traceparent: str | None) -> str | None:
    trace = read_trace(traceparent)
    return None if trace is None else trace.trace_id
