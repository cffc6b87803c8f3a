"""The dashboard against a real Prometheus: every panel's query is evaluated, and none is empty.

`base_url` is where `/metrics` is served: once made-up traffic of every kind that goes on with every scrape, once the
demo as `make run` starts it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from threading import Lock, Thread
from typing import Any

import msgspec
import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from bench.ports import free_port
from bench.traffic import change_events, policy, request_events, tick_events, trouble_events
from router.domain.slo import Indicator, Objective
from router.policy.policy import Policy
from router.telemetry.metrics import Metrics, render
from router.telemetry.sink import Sink

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/router.json").read_text())
RULES = yaml.safe_load((DEPLOY / "prometheus-rules.yml").read_text())

PROMETHEUS = shutil.which("prometheus")
WAIT_S, PAUSE_S = 120.0, 0.25
WHERE_THERE_IS_ONE = re.compile(
    r"annotations /|/ (Shadow|Arms): |/ (Budget|Cache|Saved by the cache|Prompt tokens saved|Requests shaped)"
    r"|/ Promised \w+ / B|/ Output ceiling|/ Answers cut off|/ Moves of ceilings"
    r"|/ Checked answers|/ What the checks say|/ Judg(ed answers|ing: dollars)|/ Do judge and sender agree"
    r"|/ Mean budgets|/ Batch(es)?[: ]|/ Why a batch|/ Lanes|/ Advice|/ Decided together"
    r"|AWS control plane /|AWS: on-demand quota|/ Batch jobs: |Requests in parts /"
    r"|/ Servers' own load|/ Age of servers' own load"
    r"|/ Tokens on the deployments / C|/ Predictions: 90 % interval / B|/ Tuning: frozen, and what is known / [BC]"
)
"""What shows an edit, a rollout, a budget, a cache, a judge and so on: empty where there is none and nobody edits."""
VARIABLES = {"$__rate_interval": "10s", "$__range": "60s", "$request_class": ".*", "$deployment": ".*"}


def filled(expression: str) -> str:
    """A panel's expression with Grafana's variables put in."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, f"a variable that Grafana would fill in and this test does not: {expression}"
    return expression


def queries() -> dict[str, str]:
    """Every target of every panel, by `row / panel / letter`, and the annotations."""
    found, row = {}, ""
    for panel in DASHBOARD["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        for target in panel.get("targets", ()):
            found[f"{row} / {panel['title']} / {target['refId']}"] = filled(target["expr"])
    for note in DASHBOARD["annotations"]["list"]:
        found[f"annotations / {note['name']}"] = filled(note["expr"])
    return found


class Traffic:
    """Made-up requests behind real metrics; each scrape finds some more of them."""

    def __init__(self) -> None:
        self._policy = policy(classes=3, deployments=3)
        self._registry, self._rng, self._number, self._lock = CollectorRegistry(), Random(1), 0, Lock()
        metrics = Metrics(self._policy, self._registry)
        metrics.adopt(self._policy, _edited(self._policy))
        self._sink = Sink(metrics.subscribers)
        metrics.watch_sink(self._sink)
        metrics.watch_journal(lambda: 0)
        metrics.watch_decision_log(lost=lambda: 0, written=lambda: self._number)

    def page(self) -> tuple[bytes, str]:
        with self._lock:
            for _ in range(30):
                self._number += 1
                for event in request_events(self._number, self._rng, self._policy):
                    self._sink.emit(event)
            for events in (tick_events, trouble_events, change_events):
                for event in events(self._number, self._policy):
                    self._sink.emit(event)
            self._sink.drain_all()
            return render(self._registry)


def _edited(of: Policy) -> Policy:
    """The policy with a tighter TTFT objective in its first class, as an edit on its way has it."""
    first, *others = of.classes
    tighter = msgspec.structs.replace(first.objectives, ttft=Objective(Indicator.TTFT, 0.25, 0.9))
    return msgspec.structs.replace(of, classes=(msgspec.structs.replace(first, objectives=tighter), *others))


@pytest.fixture(scope="module", params=["made-up events", "the demo"])
def base_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where a router's `/metrics` is: events of every kind, and the demo as `make run` starts it."""
    with _made_up() if request.param == "made-up events" else _demo() as url:
        yield url


@contextmanager
def _demo() -> Iterator[str]:
    """`router demo` until the test has seen enough of it."""
    command = [sys.executable, "-m", "router", "demo", "--rate", "20", "--port", str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        said = ""
        while (found := re.search(r"metrics\s+(http://\S+)/metrics", said)) is None:
            line = child.stdout.readline()
            assert line, said
            said += line
        reader = Thread(target=child.stdout.read)
        reader.start()
        try:
            yield found[1]
        finally:
            child.terminate()
            child.wait(60)
            reader.join()


@contextmanager
def _made_up() -> Iterator[str]:
    """A page of metrics of synthetic events."""
    traffic = Traffic()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body, content_type = traffic.page()
            self.send_response(200 if self.path == "/metrics" else 404)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def prometheus(base_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prometheus with the deployed configuration and rules, made impatient, scraping `base_url`."""
    if PROMETHEUS is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        PROMETHEUS,
        f"--config.file={_impatient(folder, base_url)}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--log.level=warn",
    ]
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            assert _comes(lambda: process.poll() is not None or _is_ready(url))
            assert process.poll() is None, (folder / "log").read_text()
            yield url
        finally:
            process.terminate()
            process.wait(60)


def _impatient(folder: Path, base_url: str) -> Path:
    """The deployed configuration in seconds instead of minutes; what it scrapes is the only other change."""
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(folder / "rules.yml")]
    (router,) = [job for job in config["scrape_configs"] if job["job_name"] == "router"]
    router["static_configs"] = [{"targets": [base_url.removeprefix("http://")]}]
    config["scrape_configs"] = [router]
    groups = [{**group, "interval": "500ms"} for group in RULES["groups"]]
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    return folder / "prometheus.yml"


def _comes(what: Callable[[], bool]) -> bool:
    """Whether something comes to be so."""
    until = time.monotonic() + WAIT_S
    while not what():
        if time.monotonic() > until:
            return False
        time.sleep(PAUSE_S)
    return True


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _ask(url: str, path: str, **parameters: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=60) as response:
        answer = json.load(response)
    assert answer["status"] == "success"
    return answer["data"]


def _has_data(url: str, expression: str) -> bool:
    """Whether a query gives at least one figure that is a number."""
    result = _ask(url, "query", query=expression)["result"]
    return any(series["value"][1] != "NaN" for series in result)


@pytest.mark.parametrize("expression", queries().values(), ids=queries().keys())
def test_every_expression_parses(expression: str) -> None:
    """Each panel holds one well-formed PromQL expression."""
    assert promql_parser.parse(expression) is not None


def test_no_panel_is_empty(prometheus: str, request: pytest.FixtureRequest) -> None:
    """With traffic behind it every query of every panel and annotation answers with figures; of the demo, whose policy
    nobody edits, all but those that need an edit, a budget or a cache."""
    waiting = queries()
    if request.node.callspec.params["base_url"] == "the demo":
        waiting = {name: query for name, query in waiting.items() if not WHERE_THERE_IS_ONE.search(name)}
        assert len(waiting) > 70

    def is_all_seen() -> bool:
        for name, query in tuple(waiting.items()):
            if _has_data(prometheus, query):
                del waiting[name]
        return not waiting

    assert _comes(is_all_seen), "; ".join(sorted(waiting))


def test_every_rule_evaluates(prometheus: str) -> None:
    """No recording or alerting rule fails on real series, and each recording rule gives some."""

    def rules() -> list[dict[str, Any]]:
        return [rule for group in _ask(prometheus, "rules")["groups"] for rule in group["rules"]]

    _comes(lambda: all(rule["health"] != "unknown" for rule in rules()))
    assert {rule["name"]: rule.get("lastError") for rule in rules() if rule["health"] != "ok"} == {}
    names = [rule["name"] for rule in rules() if rule["type"] == "recording"]
    assert len(names) == 15
    assert [name for name in names if not _comes(lambda name=name: _has_data(prometheus, name))] == []  # type: ignore[misc]


def test_the_scrape_is_healthy_and_the_variables_have_values(prometheus: str) -> None:
    """Prometheus takes the page without a complaint, and the drop-downs of the dashboard are not empty."""

    def targets() -> list[tuple[str, str, str]]:
        found = _ask(prometheus, "targets")["activeTargets"]
        return [(target["labels"]["job"], target["health"], target["lastError"]) for target in found]

    assert _comes(lambda: targets() == [("router", "up", "")]), targets()
    for variable in DASHBOARD["templating"]["list"]:
        metric, label = variable["definition"].removeprefix("label_values(").removesuffix(")").split(", ")
        query = f"count by ({label}) ({metric})"
        assert _comes(lambda query=query: _has_data(prometheus, query)), variable["name"]  # type: ignore[misc]
