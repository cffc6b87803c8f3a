"""Rules for what is no objective of a class: money, rollouts, and the health of the router itself."""

from __future__ import annotations

from collections.abc import Iterator

from router.domain.deployment import Kind
from router.domain.slo import RequestClass, WhenSpent
from router.policy.policy import Bounds, Policy
from router.policy.rules.burn import PAGE, TICKET
from router.policy.rules.provisioned import provisioned_group
from router.policy.rules.rule import Alert, Group
from router.policy.rules.servers import servers_group
from router.policy.schema.values import duration_text

_NEARLY = 0.9
"""Share of a day's budget."""
_AHEAD_S = 600
JOURNAL_WRITES = 4096
"""Eight full commits behind: the disk does not keep up."""
_THEN = {
    WhenSpent.REJECT: "its requests are refused until the next day of UTC",
    WhenSpent.CHEAPEST: "only its cheapest deployment serves it until the next day of UTC",
    WhenSpent.QUEUE: "its requests wait for the next day of UTC",
}


def running_groups(policy: Policy) -> Iterator[Group]:
    """Alerts for money where a class has a budget of the day, for rollouts, and for the router."""
    money = tuple(
        alert
        for c in policy.classes
        if c.budget.usd_per_day is not None
        for alert in _spending(c, c.budget.usd_per_day)
    )
    if money:
        yield Group("router-money", money)
    yield Group("router-changes", (_refused(), _rolled_back()))
    yield Group("router-learning", (_fallen(), _yardstick()))
    yield Group("router-queue", (_queue_old(policy.bounds), _queue_fills(policy.bounds)))
    yield Group("router-health", (_down(), _broker_lost(), _deployment_out(), _journal_behind(), _telemetry_lost()))
    if any(d.kind is Kind.PROVISIONED and d.address.backend == "bedrock" for d in policy.deployments):
        yield provisioned_group()
    if any(d.telemetry is not None for d in policy.deployments):
        yield servers_group()


def _spending(request_class: RequestClass, usd: float) -> Iterator[Alert]:
    name, when_spent = request_class.name, request_class.budget.when_spent
    by = "by (request_class)"
    selected = f'{{request_class="{name}"}}'
    share = f"max {by} (router_budget_spent_usd{selected})\n/ max {by} (router_budget_limit_usd{selected})"
    runbook = f"`router decisions --class {name} --last 50` shows what it pays for; `usd_per_day` is in its policy."
    labels = (("request_class", name),)
    yield Alert(
        "RouterBudgetNearlySpent",
        f"{share} > {_NEARLY}",
        TICKET,
        summary=f"{name} has spent {{{{ $value | humanizePercentage }}}} of its {usd:g} USD of today",
        description=f"When all of it is spent, {_THEN[when_spent]}.",
        runbook=runbook,
        labels=labels,
    )
    yield Alert(
        "RouterBudgetSpent",
        f"min {by} (router_budget_open{selected}) == 0",
        TICKET if when_spent is WhenSpent.CHEAPEST else PAGE,
        summary=f"{name} has spent its {usd:g} USD of today",
        description=f"Now {_THEN[when_spent]}.",
        runbook=runbook,
        labels=labels,
    )


def _refused() -> Alert:
    return Alert(
        "RouterPolicyRefused",
        "router_policy_last_reload_success_ratio == 0",
        TICKET,
        summary="The last edit of the policy was refused and the old one is in force",
        description="Until it is put right, nothing of the edit counts; the next start would fail on it.",
        runbook="`router policy check DIRECTORY` names file, line and field.",
    )


def _rolled_back() -> Alert:
    return Alert(
        "RouterRolledBack",
        'sum by (request_class) (increase(router_rollout_changes_total{state="rolled_back"}[1h])) > 0',
        TICKET,
        summary="An edit of {{ $labels.request_class }} was taken back",
        description="Its canary burned an error budget or fell under the quality floor; the class is as before."
        " The same text is not tried again.",
        runbook="`router policy history` gives the reason and the figures.",
    )


def _fallen() -> Alert:
    return Alert(
        "RouterModelFallen",
        "max by (model) (router_drift_fallen) == 1",
        TICKET,
        summary="{{ $labels.model }} answers worse than it did",
        description="It is judged by its lower bound until its answers are as they were; only classes with"
        " `exploration` find out soon.",
        runbook="`router decisions --last 50` shows its P(adequate) and the quality told.",
        pending_s=600.0,
    )


def _yardstick() -> Alert:
    return Alert(
        "RouterFeedbackMoved",
        "max by (source) (router_drift_feedback_frozen) == 1",
        TICKET,
        summary="What {{ $labels.source }} tells of all models has moved at once",
        description="Nothing is learned from it for at most half an hour; after that its new level counts.",
        runbook="Did the judge's model or prompt change, or a sender's check? `router decisions --last 50` has what was"
        " told.",
    )


def _queue_old(bounds: Bounds) -> Alert:
    half = bounds.queue_wait_s / 2
    return Alert(
        "RouterQueueOld",
        f"max(router_queue_oldest_seconds) > {half:g}",
        TICKET,
        summary="A request has waited {{ $value | humanizeDuration }} in the router",
        description=f"At {duration_text(bounds.queue_wait_s)} (`bounds.queue_wait`) it is given up.",
        runbook="`router decisions --last 50` shows which deployments are full, and why others are not used.",
        pending_s=60.0,
    )


def _queue_fills(bounds: Bounds) -> Alert:
    most, some = bounds.queue_requests, max(bounds.queue_requests // 10, 1)
    return Alert(
        "RouterQueueFills",
        f"predict_linear(router_queue_requests[10m], {_AHEAD_S}) > {most}\nand router_queue_requests > {some}",
        PAGE,
        summary="The queue is full in ten minutes if it goes on growing like this",
        description=f"At {most} waiting (`bounds.queue_requests`) requests are refused and the broker is no longer"
        " read.",
        runbook="`router decisions --last 50` shows which deployments are full; `sheddable` classes go first.",
        pending_s=120.0,
    )


def _down() -> Alert:
    return Alert(
        "RouterDown",
        'up{job="router"} == 0 or absent(up{job="router"})',
        PAGE,
        summary="The router does not answer its metrics",
        description="Requests may be waiting at the broker. A router that cannot read its policy does not start.",
        runbook="`router policy check DIRECTORY`, then the log of the service.",
        pending_s=60.0,
    )


def _broker_lost() -> Alert:
    return Alert(
        "RouterBrokerLost",
        "router_ingress_connected == 0",
        PAGE,
        summary="The router is not connected to its {{ $labels.source }} broker",
        description="What is published waits at the broker; it is read when the connection is back.",
        runbook="The log line `disconnected` of the router has the broker's reason.",
        pending_s=120.0,
    )


def _deployment_out() -> Alert:
    return Alert(
        "RouterDeploymentOut",
        'router_health{state="open"} == 1',
        TICKET,
        summary="{{ $labels.deployment }} has been out of use for five minutes",
        description="Its calls failed; it is probed from time to time, and others serve meanwhile.",
        runbook="`router decisions --deployment {{ $labels.deployment }} --last 50` shows how its calls ended.",
        pending_s=300.0,
    )


def _journal_behind() -> Alert:
    return Alert(
        "RouterJournalBehind",
        f"router_journal_backlog_writes > {JOURNAL_WRITES}",
        TICKET,
        summary="{{ $value }} writes wait for the journal's disk",
        description="A message is acknowledged only once it is written, so deliveries slow down.",
        runbook="Look at the disk of the state directory: other writers, or no room.",
        pending_s=120.0,
    )


def _telemetry_lost() -> Alert:
    lost = "\n+ ".join(
        f"(sum(increase({name}[10m])) or vector(0))"
        for name in (
            "router_telemetry_dropped_total",
            "router_telemetry_failures_total",
            'router_decision_log_records_total{result="lost"}',
        )
    )
    return Alert(
        "RouterTelemetryLost",
        f"{lost} > 0",
        TICKET,
        summary="Events or decision records were lost",
        description="Requests are not affected; figures and the decision log have gaps.",
        runbook="`router decisions --last 1` shows whether the log is written; look at the room on its disk.",
    )
