"""The deployed files in the hands of the programs they are for: promtool, mosquitto, systemd."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from bench.ports import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
SBIN = "/usr/sbin:/sbin"
WAIT_S = 120.0


def program(name: str) -> str:
    """Where a program is, or a skip that says which is missing."""
    found = shutil.which(name) or shutil.which(name, path=SBIN)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str) -> str:
    """Output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    """`promtool check config` finds the rules file where it is named and nothing wrong in either."""
    assert "1 rule files found" in run(program("promtool"), "check", "config", str(DEPLOY / "prometheus.yml"))


def test_the_fast_burn_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    """One class of two misses a fifth of its TTFT promise of 99 %: twenty times the budget pages for it alone."""
    series = {
        'up{job="router"}': "1x130",
        'router_slo_requests_total{request_class="chat", objective="ttft"}': "0+600x130",
        'router_slo_good_total{request_class="chat", objective="ttft"}': "0+600x60 36480+480x70",
        'router_slo_requests_total{request_class="code", objective="ttft"}': "0+600x130",
        'router_slo_good_total{request_class="code", objective="ttft"}': "0+597x130",
        'router_slo_target_ratio{request_class="chat", objective="ttft"}': "0.99x130",
        'router_slo_target_ratio{request_class="code", objective="ttft"}': "0.99x130",
    }
    burn = 'router:slo_burn_rate:ratio_rate5m{request_class="chat"}'
    pages = 'ALERTS{alertstate="firing", severity="page"}'
    page = (
        'ALERTS{alertname="RouterBudgetBurnsFast", alertstate="firing", severity="page", request_class="chat",'
        ' objective="ttft"}'
    )
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": pages, "eval_time": "60m", "exp_samples": []},
            {"expr": pages, "eval_time": "129m", "exp_samples": [{"labels": page, "value": 1}]},
            {
                "expr": f"round({burn}, 0.001)",
                "eval_time": "129m",
                "exp_samples": [{"labels": '{request_class="chat", objective="ttft"}', "value": 20}],
            },
        ],
    }
    tests = {"rule_files": [str(DEPLOY / "prometheus-rules.yml")], "evaluation_interval": "1m", "tests": [case]}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    assert "SUCCESS" in run(program("promtool"), "test", "rules", str(tmp_path / "tests.yml"))


def test_mosquitto_starts_with_the_configuration(tmp_path: Path) -> None:
    """The broker takes every line of the file; port, folder and user are the only changes."""
    port = free_port()
    text = (DEPLOY / "mosquitto.conf").read_text()
    text = text.replace("listener 1883", f"listener {port} 127.0.0.1").replace("/mosquitto/data/", f"{tmp_path}/")
    (tmp_path / "mosquitto.conf").write_text(f"{text}\nuser root\n")
    with (tmp_path / "log").open("w+") as log:
        broker = subprocess.Popen([program("mosquitto"), "-c", str(tmp_path / "mosquitto.conf")], stderr=log)
        try:
            assert _answers(port, broker), (tmp_path / "log").read_text()
        finally:
            broker.terminate()
            broker.wait(WAIT_S)
    assert "Error" not in (tmp_path / "log").read_text()


def _answers(port: int, broker: subprocess.Popen[bytes]) -> bool:
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until and broker.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
        except OSError:
            time.sleep(0.05)
    return False


def systemd(*arguments: str) -> str:
    """What systemd-analyze says of a unit file; before version 250 it does not read files that are not installed."""
    analyze = program("systemd-analyze")
    if int(run(analyze, "--version").split()[1]) < 250:
        pytest.skip("systemd is older than version 250")
    return run(analyze, *arguments)


def test_systemd_knows_every_line_of_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say but that the program is not installed here."""
    text = (DEPLOY / "router.service").read_text().replace("/opt/router/bin/router serve", "/bin/true")
    (tmp_path / "router.service").write_text(text)
    said = systemd("verify", "--man=no", str(tmp_path / "router.service"))
    assert [line for line in said.splitlines() if "router.service" in line] == []


def test_the_unit_is_hardened() -> None:
    """systemd's own review of the unit rates it OK, with an exposure under 2 of 10."""
    said = systemd("security", "--offline=true", str(DEPLOY / "router.service"))
    (exposure,) = re.findall(r"exposure level for \S+: ([\d.]+) ", said)
    assert float(exposure) < 2.0
