"""Generated rules in the hands of promtool: who is told, and who is not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from router.policy.compile import compile_policy
from router.policy.policy import Policy
from router.policy.rules.document import proof_document, rules_document
from router.runtime.reload import load_directory

PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: apt install prometheus)")

REPO = Path(__file__).parents[2]
POLICY = """\
deployments:
  - {name: d, model: m, tier: small, backend: simulated, price_usd_per_mtok: {input: 1, output: 1}}
classes:
  - name: chat
    match: {tenants: t}
    objectives: {ttft: 500ms}
    budget: {usd_per_day: 20}
  - name: week
    match: {tenants: u}
    objectives: [{indicator: e2e, threshold: 9s, target: 90%, timeWindow: 7d}]
    budget: {usd_per_day: 5, when_spent: cheapest}
  - name: loose
    match: {tenants: v}
    objectives: {availability: 50%}
  - name: odd
    match: {tenants: w}
    objectives: {tpot: {threshold: 50ms, target: 99.9%, timeWindow: 90.5s}}
"""
FIRING = 'ALERTS{alertstate="firing"}'


def policy() -> Policy:
    return compile_policy([("policy.yaml", POLICY)])


def promtool(*command: str) -> str:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """The rules of the policy above, as a file."""
    path = tmp_path / "rules.yml"
    path.write_text(rules_document(policy()))
    return path


def test_promtool_accepts_the_rules(rules: Path) -> None:
    """No error and no lint, with windows that are no round number."""
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", str(rules))


def test_promtool_accepts_the_rules_of_every_shipped_policy(tmp_path: Path) -> None:
    """The default one and those that are measured with."""
    for folder in (REPO / "policies", *sorted((REPO / "policies" / "bench").iterdir())):
        deployments = None if folder.name == "policies" else load_directory(REPO / "policies").deployments
        path = tmp_path / f"{folder.name}.yml"
        path.write_text(rules_document(load_directory(folder, deployments=deployments)))
        assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", str(path))


def test_the_tests_that_come_with_the_rules_pass(rules: Path) -> None:
    """Kept, missed slowly, missed fast, and everything else at once."""
    tests = rules.with_name("tests.yml")
    tests.write_text(proof_document(policy(), rules.name))
    assert "SUCCESS" in promtool("test", "rules", str(tests))


def test_the_tests_that_come_with_the_rules_can_fail(rules: Path) -> None:
    """A rate that is wrong in the rules is found."""
    tests = rules.with_name("tests.yml")
    tests.write_text(proof_document(policy(), rules.name))
    rules.write_text(rules.read_text().replace("> 14.4", "> 25").replace("> 6\n", "> 25\n").replace("> 6)", "> 25)"))
    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", str(tests))


BURNS = {"page": "RouterBudgetBurnsFast", "ticket": "RouterBudgetBurnsSlowly"}


@pytest.mark.parametrize(
    ("good", "minutes", "due"),
    [
        ("0+995x420", 420, None),
        ("0+1000x1559 1560000+800x69", 1630, "page"),
        ("0+1000x1559 1560000+800x9 1568000+1000x59", 1630, None),
        ("0+955x420", 420, "ticket"),
        ("0+985x420", 420, "ticket"),
    ],
    ids=["healthy", "20 times for an hour", "20 times for ten minutes and over", "4.5 times", "1.5 times"],
)
def test_a_burning_objective_tells_exactly_whom_it_should(
    rules: Path, good: str, minutes: int, due: str | None
) -> None:
    """1000 requests a minute and a target of 99 %: ten bad ones a minute are a burn rate of 1."""
    labels = '{request_class="chat",objective="ttft"}'
    series = {
        'up{job="router"}': f"1x{minutes}",
        f"router_slo_requests_total{labels}": f"0+1000x{minutes}",
        f"router_slo_good_total{labels}": good,
        f"router_slo_target_ratio{labels}": f"0.99x{minutes}",
        f"router_slo_window_seconds{labels}": f"2592000x{minutes}",
    }
    firing = []
    if due is not None:
        about = f'severity="{due}",request_class="chat",objective="ttft"'
        firing = [{"labels": f'ALERTS{{alertname="{BURNS[due]}",alertstate="firing",{about}}}', "value": 1}]
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": FIRING, "eval_time": f"{minutes}m", "exp_samples": firing}],
    }
    tests = rules.with_name("tests.yml")
    tests.write_text(yaml.safe_dump({"rule_files": [rules.name], "evaluation_interval": "5m", "tests": [case]}))
    assert "SUCCESS" in promtool("test", "rules", str(tests))


def test_a_promise_without_an_alert_is_told(rules: Path) -> None:
    """The policy in force has moved on, and the rules have not: another window, and a class that they do not know."""
    series = {
        'up{job="router"}': "1x30",
        'router_slo_window_seconds{request_class="chat",objective="ttft"}': "604800x30",
        'router_slo_window_seconds{request_class="new",objective="ttft"}': "2592000x30",
        'router_slo_window_seconds{request_class="odd",objective="tpot"}': "90.5x30",
    }
    stale = (
        'ALERTS{{alertname="RouterRulesStale",alertstate="firing",severity="ticket",request_class="{}",'
        'objective="ttft"}}'
    )
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": FIRING,
                "eval_time": "30m",
                "exp_samples": [{"labels": stale.format(name), "value": 1} for name in ("chat", "new")],
            }
        ],
    }
    tests = rules.with_name("tests.yml")
    tests.write_text(yaml.safe_dump({"rule_files": [rules.name], "evaluation_interval": "1m", "tests": [case]}))
    assert "SUCCESS" in promtool("test", "rules", str(tests))
