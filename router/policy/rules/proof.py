"""Tests of the rules, for `promtool test rules`: who is told, and who is not, when promises are missed.

Each objective is played through three histories: kept; missed slowly, so that only a ticket is due; missed fast for an
hour after a good day, so that only a page is due. What must fire is worked out from the averages over the windows and
not from the rules' expressions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from router.domain.slo import Objective, WhenSpent
from router.policy.policy import Policy
from router.policy.rules.burn import PAGE, TICKET, Step, steps
from router.policy.rules.promises import NAMES
from router.policy.rules.provisioned import PROVISIONED, PROVISIONED_DUE, PROVISIONED_TROUBLE
from router.policy.rules.running import JOURNAL_WRITES, running_groups
from router.policy.rules.servers import SERVERS, SERVERS_DUE, SERVERS_TROUBLE

_STEP_S = 60
_PER_STEP = 10_000
"""Requests counted each minute."""
_HOUR = 60
_QUIET = 0.1
_UP = {'up{job="router"}': "1x{0}"}


class History(Struct, frozen=True):
    """Burn rates of one objective: (minutes, rate), oldest first."""

    spans: tuple[tuple[int, float], ...]

    @property
    def minutes(self) -> int:
        """How long it is."""
        return sum(minutes for minutes, _ in self.spans)

    def mean(self, window_s: float) -> float:
        """Burn rate over the last `window_s`, or over all of it where that is shorter."""
        left = wanted = min(window_s / _STEP_S, self.minutes)
        burned = 0.0
        for minutes, rate in reversed(self.spans):
            part = min(minutes, left)
            burned += part * rate
            left -= part
        return burned / wanted


def proof(policy: Policy, rules_file: str) -> dict[str, object]:
    """A promtool test document; `rules_file` is the path of the rules from where it will stand."""
    cases = [_case(policy, name) for name in ("kept", "slow", "fast")] if _promised(policy) else []
    return {"rule_files": [rules_file], "evaluation_interval": "5m", "tests": [*cases, _trouble(policy)]}


def _promised(policy: Policy) -> list[tuple[str, Objective]]:
    return [(c.name, o) for c in policy.classes for o in c.objectives.each()]


def _history(objective: Objective, name: str) -> History:
    if name == "kept":
        return History(((7 * _HOUR, 0.5),))
    page = [step.rate for step in steps(objective, PAGE)]
    if name == "slow":
        below = [step.rate for step in steps(objective, TICKET) if step.rate < min(page)]
        return History(((7 * _HOUR, (max(below) + min(page)) / 2 if below else 0.5),))
    most = 1.0 / (1.0 - objective.target)
    return History(((26 * _HOUR, _QUIET), (_HOUR + 15, min(1.2 * page[0], (page[0] + most) / 2))))


def _due(objective: Objective, history: History) -> Iterator[str]:
    """The severities that must fire at the end."""
    for severity in (PAGE, TICKET):
        if any(_exceeded(step, history) for step in steps(objective, severity)):
            yield severity


def _exceeded(step: Step, history: History) -> bool:
    return min(history.mean(step.pair.long_s), history.mean(step.pair.short_s)) > step.rate


def _case(policy: Policy, name: str) -> dict[str, object]:
    """All objectives go through a history of the same name, and so of the same length, at once."""
    series: dict[str, str] = {}
    due: list[str] = []
    minutes = 0
    for class_name, objective in _promised(policy):
        history = _history(objective, name)
        minutes = history.minutes
        labels = f'request_class="{class_name}",objective="{objective.indicator}"'
        series[f"router_slo_requests_total{{{labels}}}"] = f"0+{_PER_STEP}x{minutes}"
        series[f"router_slo_good_total{{{labels}}}"] = _good(objective, history)
        series[f"router_slo_target_ratio{{{labels}}}"] = f"{objective.target:.15g}x{minutes}"
        series[f"router_slo_window_seconds{{{labels}}}"] = f"{objective.window_s:.15g}x{minutes}"
        due += [_firing(NAMES[s], severity=s, **_about(class_name, objective)) for s in _due(objective, history)]
    series |= {key: values.format(minutes) for key, values in _UP.items()}
    return _test(f"promises: {name}", series, minutes, due)


def _about(class_name: str, objective: Objective) -> dict[str, str]:
    return {"request_class": class_name, "objective": objective.indicator.value}


def _good(objective: Objective, history: History) -> str:
    """Good requests a minute, as a counter that goes on from span to span."""
    at, parts = 0.0, []
    for minutes, rate in history.spans:
        step = round(_PER_STEP * (1.0 - rate * (1.0 - objective.target)), 6)
        parts.append(f"{at:.15g}+{step:.15g}x{minutes - 1}")
        at += step * minutes
    return " ".join(parts)


def _trouble(policy: Policy) -> dict[str, object]:
    """Everything that is not an objective goes wrong at once, and all of it is told."""
    bounds, minutes = policy.bounds, 30
    some = max(bounds.queue_requests // 10, 1) + 1
    series = {
        'up{job="router"}': f"0x{minutes}",
        "router_policy_last_reload_success_ratio": f"0x{minutes}",
        'router_rollout_changes_total{request_class="a",state="rolled_back"}': f"0x10 1x{minutes - 11}",
        "router_queue_oldest_seconds": f"{0.9 * bounds.queue_wait_s:.15g}x{minutes}",
        "router_queue_requests": f"{some}+{bounds.queue_requests}x{minutes}",
        'router_ingress_connected{source="mqtt"}': f"0x{minutes}",
        'router_health{deployment="d",state="open"}': f"1x{minutes}",
        "router_journal_backlog_writes": f"{JOURNAL_WRITES + 1}x{minutes}",
        'router_decision_log_records_total{result="lost"}': f"0+1x{minutes}",
    }
    due = [
        _firing("RouterDown", severity=PAGE, job="router"),
        _firing("RouterPolicyRefused", severity=TICKET),
        _firing("RouterRolledBack", severity=TICKET, request_class="a"),
        _firing("RouterQueueOld", severity=TICKET),
        _firing("RouterQueueFills", severity=PAGE),
        _firing("RouterBrokerLost", severity=PAGE, source="mqtt"),
        _firing("RouterDeploymentOut", severity=TICKET, deployment="d", state="open"),
        _firing("RouterJournalBehind", severity=TICKET),
        _firing("RouterTelemetryLost", severity=TICKET),
    ]
    for c in policy.classes:
        if c.budget.usd_per_day is not None:
            selected = f'{{request_class="{c.name}"}}'
            series[f"router_budget_limit_usd{selected}"] = f"{c.budget.usd_per_day:.15g}x{minutes}"
            series[f"router_budget_spent_usd{selected}"] = f"{c.budget.usd_per_day:.15g}x{minutes}"
            series[f"router_budget_open{selected}"] = f"0x{minutes}"
            late = TICKET if c.budget.when_spent is WhenSpent.CHEAPEST else PAGE
            due.append(_firing("RouterBudgetNearlySpent", severity=TICKET, request_class=c.name))
            due.append(_firing("RouterBudgetSpent", severity=late, request_class=c.name))
    groups = {group.name for group in running_groups(policy)}
    for group, trouble, told in (
        (PROVISIONED, PROVISIONED_TROUBLE, PROVISIONED_DUE),
        (SERVERS, SERVERS_TROUBLE, SERVERS_DUE),
    ):
        if group in groups:
            series |= {name: f"{value}x{minutes}" for name, value in trouble.items()}
            due += [_firing(name, **labels) for name, labels in told]
    return _test("everything else goes wrong", series, minutes, due)


def _firing(name: str, **labels: str) -> str:
    pairs = {"alertname": name, "alertstate": "firing", **labels}
    return "ALERTS{" + ",".join(f'{key}="{value}"' for key, value in pairs.items()) + "}"


def _test(name: str, series: dict[str, str], minutes: int, due: Iterable[str]) -> dict[str, object]:
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'ALERTS{alertstate="firing"}',
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": labels, "value": 1} for labels in due],
            }
        ],
    }
