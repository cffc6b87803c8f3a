from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from typer import Typer
from typer.testing import CliRunner

from router.cli.policy.rules import rules
from router.domain.slo import Indicator, Objective
from router.policy.compile import compile_policy
from router.policy.policy import Policy
from router.policy.rules.burn import PAGE, TICKET, steps, window_text
from router.policy.rules.document import proof_document, rules_document
from router.telemetry.metrics import Metrics
from router.telemetry.sink import Sink

FLEET = """\
deployments:
  - {name: d, model: m, tier: small, backend: simulated, price_usd_per_mtok: {input: 1, output: 1}}
"""
CLASSES = """\
classes:
  - name: chat
    match: {tenants: t}
    objectives: {ttft: 500ms, availability: 99.9%}
    budget: {usd_per_day: 20}
  - name: week
    match: {tenants: u}
    objectives: [{indicator: e2e, threshold: 9s, target: 90%, timeWindow: 7d}]
    budget: {usd_per_day: 5, when_spent: cheapest}
"""
DAY = 86400.0


def policy(classes: str = CLASSES) -> Policy:
    return compile_policy([("fleet.yaml", FLEET), ("classes.yaml", classes)])


def written(found: Policy) -> list[dict[str, Any]]:
    """Every rule of the file."""
    return [rule for group in yaml.safe_load(rules_document(found))["groups"] for rule in group["rules"]]


def alerts(found: Policy, name: str) -> list[dict[str, Any]]:
    return [rule for rule in written(found) if rule.get("alert") == name]


def rates(objective: Objective, severity: str) -> list[tuple[str, str, float]]:
    return [(window_text(s.pair.long_s), window_text(s.pair.short_s), s.rate) for s in steps(objective, severity)]


def test_thirty_days_alert_at_the_rates_of_the_workbook() -> None:
    """14.4 and 6 page, 3 and 1 open a ticket."""
    objective = Objective(Indicator.TTFT, 0.5)
    assert rates(objective, PAGE) == [("1h", "5m", 14.4), ("6h", "30m", 6.0)]
    assert rates(objective, TICKET) == [("1d", "2h", 3.0), ("3d", "6h", 1.0)]


def test_other_windows_keep_the_shares_of_the_budget() -> None:
    """A week: 2 % in an hour is a rate of 3.36; what would keep the promise is never told."""
    week = Objective(Indicator.TTFT, 0.5, window_s=7 * DAY)
    assert rates(week, PAGE) == [("1h", "5m", 3.36), ("6h", "30m", 1.4)]
    assert rates(week, TICKET) == [("1d", "2h", 1.0), ("3d", "6h", 1.0)]
    quarter = Objective(Indicator.TTFT, 0.5, window_s=90 * DAY)
    assert rates(quarter, PAGE)[0] == ("1h", "5m", 43.2)


def test_no_window_is_longer_than_the_promise() -> None:
    """But for the shortest pair: every objective pages and has a ticket."""
    day = Objective(Indicator.TTFT, 0.5, window_s=DAY)
    assert rates(day, PAGE) == [("1h", "5m", 1.0), ("6h", "30m", 1.0)]
    assert rates(day, TICKET) == [("1d", "2h", 1.0)]
    assert rates(Objective(Indicator.TTFT, 0.5, window_s=60.0), PAGE) == [("1h", "5m", 1.0)]


@given(st.floats(0.001, 0.99999), st.floats(60.0, 400 * DAY))
def test_every_alert_can_fire(target: float, window_s: float) -> None:
    """All requests bad burns faster than every rate, however loose the target."""
    objective = Objective(Indicator.E2E, 1.0, target, window_s)
    for severity in (PAGE, TICKET):
        found = steps(objective, severity)
        assert found
        for step in found:
            assert 1.0 <= step.rate < 1.0 / (1.0 - target)


@pytest.mark.parametrize(
    ("seconds", "text"), [(300, "5m"), (7200, "2h"), (30 * DAY, "30d"), (90.5, "90500ms"), (0.0001, "1ms"), (90, "90s")]
)
def test_durations_are_whole_numbers_of_a_unit(seconds: float, text: str) -> None:
    """PromQL takes no fractions and no exponents."""
    assert window_text(seconds) == text


def test_each_objective_has_a_page_and_a_ticket() -> None:
    """With the labels that the metrics have, once each."""
    found = written(policy())
    burning = [r["labels"] for r in found if r.get("alert", "").startswith("RouterBudgetBurns")]
    assert burning == [
        {"severity": severity, "request_class": name, "objective": objective}
        for name, objective in (("chat", "ttft"), ("chat", "availability"), ("week", "e2e"))
        for severity in ("page", "ticket")
    ]


def test_error_ratios_are_recorded_over_every_window() -> None:
    """level:metric:operations, for all classes and objectives in one rule."""
    records = [rule["record"] for rule in written(policy()) if "record" in rule]
    windows = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
    assert [r for r in records if ":slo_errors:" in r] == [f"router:slo_errors:ratio_rate{w}" for w in windows]
    assert [r for r in records if "remaining" in r] == [
        "router:slo_error_budget_remaining:ratio7d",
        "router:slo_error_budget_remaining:ratio30d",
    ]
    assert all(re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", record) for record in records)


def test_what_an_alert_says() -> None:
    """What was promised, when it fires, and a command to go on with."""
    fast = alerts(policy(), "RouterBudgetBurnsFast")[0]
    said = fast["annotations"]
    assert said["summary"] == "chat: its ttft budget burns {{ $value | humanize }} times too fast"
    assert "the first token within 500ms, for 99% of the requests over 30d" in said["description"]
    assert "14.4 times the allowed share over 1h and 5m" in said["description"]
    assert "router decisions --class chat" in said["runbook"]


def test_every_alert_says_how_to_go_on() -> None:
    """Severity, summary, description, runbook; no two alike."""
    found = [rule for rule in written(policy()) if "alert" in rule]
    for rule in found:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert all(rule["annotations"][key] for key in ("summary", "description", "runbook"))
    assert len({(r["alert"], *sorted(r["labels"].items())) for r in found}) == len(found)


def test_runbooks_name_commands_that_exist() -> None:
    """`router VERB` or `router policy VERB`, by the files they are in."""
    cli = Path(__file__).parents[2] / "router" / "cli"
    text = rules_document(policy())
    named = set(re.findall(r"`router ((?:policy )?[a-z]+)", re.sub(r"\s+", " ", text)))
    assert {"decisions", "policy rules", "policy check", "policy history"} <= named
    assert [name for name in named if not (cli / f"{name.replace(' ', '/')}.py").exists()] == []


def test_a_budget_that_is_spent_pages_only_where_requests_suffer() -> None:
    """`cheapest` goes on, `reject` does not; a class without a budget has no such alert."""
    spent = alerts(policy(), "RouterBudgetSpent")
    assert [(r["labels"]["request_class"], r["labels"]["severity"]) for r in spent] == [
        ("chat", "page"),
        ("week", "ticket"),
    ]
    assert alerts(policy("classes: [{name: a, match: {tenants: t}}]"), "RouterBudgetSpent") == []


def test_bounds_of_the_policy_are_those_of_the_alerts() -> None:
    """The queue alerts follow what the policy allows."""
    found = policy("bounds: {queue_wait: 10s, queue_requests: 50}")
    assert alerts(found, "RouterQueueOld")[0]["expr"] == "max(router_queue_oldest_seconds) > 5"
    assert "> 50" in alerts(found, "RouterQueueFills")[0]["expr"]


def test_rules_name_only_metrics_that_the_router_has() -> None:
    """Every metric in an expression is one that `/metrics` shows, or is recorded here."""
    registry = CollectorRegistry()
    metrics = Metrics(policy(), registry)
    metrics.watch_sink(Sink(()))
    metrics.watch_journal(lambda: 0)
    metrics.watch_decision_log(lost=lambda: 0, written=lambda: 0)
    known = {f.name + ending for f in registry.collect() for ending in ("", "_total")}
    found = written(policy())
    known |= {rule["record"] for rule in found if "record" in rule}
    used = {name for rule in found for name in re.findall(r"\brouter[_:][a-z0-9_:]+", rule["expr"])}
    assert len(used) > 20
    assert used - known == set()


def test_a_policy_that_promises_nothing_has_rules_still() -> None:
    """The router's own health is watched, and a promise that comes later is noticed."""
    found = policy("classes: [{name: a, match: {tenants: t}}]")
    assert alerts(found, "RouterDown")
    assert (
        alerts(found, "RouterRulesStale")[0]["expr"] == "max by (request_class, objective) (router_slo_window_seconds)"
    )
    assert yaml.safe_load(proof_document(found, "r.yml"))["rule_files"] == ["r.yml"]


def test_the_same_promises_give_the_same_file() -> None:
    """A price that moves changes nothing."""
    dearer = compile_policy([("fleet.yaml", FLEET.replace("input: 1", "input: 2")), ("classes.yaml", CLASSES)])
    assert rules_document(dearer) == rules_document(policy())


def run(*arguments: str) -> tuple[int, str]:
    app = Typer()
    app.command()(rules)
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output if done.exception is None else f"{done.output}{done.exception}"


def test_the_command_writes_rules_and_their_tests(tmp_path: Path) -> None:
    """To the terminal or to files; the tests find the rules from where they stand."""
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "all.yaml").write_text(FLEET + CLASSES)
    (tmp_path / "proof").mkdir()
    directory, out, tests = str(tmp_path / "policy"), tmp_path / "rules.yml", tmp_path / "proof" / "tests.yml"
    assert run(directory) == (0, rules_document(policy()))
    assert run(directory, "--out", str(out), "--tests", str(tests))[0] == 0
    assert out.read_text() == rules_document(policy())
    assert yaml.safe_load(tests.read_text())["rule_files"] == ["../rules.yml"]
    code, said = run(directory, "--tests", str(tests))
    assert (code, "--out" in said) == (2, True)
    code, said = run(directory, "--out", str(tmp_path / "absent" / "rules.yml"))
    assert (code != 0, "cannot be written" in said) == (True, True)
