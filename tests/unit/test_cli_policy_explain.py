"""`router policy explain`: now, then, and both; and what it says when it cannot."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from random import Random

import pytest
import typer
from msgspec import json as codec
from typer.testing import CliRunner

from bench.traffic import policy, request_events
from router.cli.policy.explain import explain
from router.core import snapshot
from router.core.rollouts.saved import encode
from router.domain.errors import RequestError, RouterError
from router.domain.events import DecisionMade, FeedbackReceived
from router.domain.reasons import evidence
from router.runtime.reload import load_directory
from router.storage import checkpoint
from router.storage.decision_log import DecisionLog
from router.storage.decision_records import decision_folder
from router.wiring import controller_for, trained_estimator

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"})
POLICY = """
classes:
  - name: offline
    match: {topics: "+/batch/#"}
  - name: vip
    match: {tenants: [acme], attributes: {tier: gold}}
    deployments: [large]
  - name: chat
    objectives: {ttft: 500ms, tpot: 50ms}
    floor: 0.96
    sheddable: true
    parameters: {temperature: 0.5, top_p: 0.7, max_tokens: 256}
deployments:
  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated, price_usd_per_mtok: {input: 0.2, output: 0.2}}
  - {name: large, model: llama-3.1-70b, tier: large, backend: simulated, price_usd_per_mtok: {input: 1, output: 1}}
"""
BODY = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0.1}


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(explain)
    return made


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with policies, an empty state and a request."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "policy.yaml").write_text(POLICY)
    (tmp_path / "request.json").write_text(json.dumps(BODY))
    return tmp_path


def now(app: typer.Typer, *arguments: str) -> dict[str, object]:
    """The JSON of what would be decided now."""
    result = RUNNER.invoke(app, ["request.json", "--json", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    told: dict[str, object] = json.loads(result.stdout)["now"]
    return told


def log_decisions(state: Path) -> None:
    log, rng, made = DecisionLog(decision_folder(state)), Random(1), policy(classes=2, deployments=3)
    told = [event for n in range(12) for event in request_events(n, rng, made)]
    handlers = log.handlers()
    for event in (*told, FeedbackReceived("d7", 0.25, True)):
        if type(event) in handlers:
            handlers[type(event)](event)
    log.close()


def test_everything_that_led_to_the_pick_is_shown(app: typer.Typer, place: Path) -> None:
    """Class and why, promises, what is filled in and what the sender said itself is not, candidates with quantiles,
    terms, bounds, prices, and the sentence."""
    output = RUNNER.invoke(app, ["request.json"], catch_exceptions=False).output
    for part in (
        "goes to ",
        "because ",
        "class chat: it takes whatever no other class takes",
        "not offline: it has no topic, which must match +/batch/#",
        "promised: ttft 500ms for 99%, tpot 50ms for 99%, 96% adequate",
        "_tokens 256, top_p 0.7",
        "nothing learned yet",
        "p50/p90/p99",
        "P(adequate)",
        "at least",
        "capacity of small",
        "features:",
    ):
        assert part in output
    assert "temperature" not in output


def test_router_fields_are_options(app: typer.Typer, place: Path) -> None:
    """Tenant, property and topic choose the class as their headers would; a class can be named; who is not allowed
    fell out."""
    vip = now(app, "--tenant", "acme", "--property", "tier=gold")
    assert vip["class"] == "vip"
    excluded = vip["excluded"]
    assert isinstance(excluded, list)
    assert [(e["deployment"], e["code"]) for e in excluded] == [("small", "not_allowed")]
    assert now(app, "--topic", "x/batch/y")["class"] == "offline"
    assert now(app, "--class", "offline")["asked"] == [
        {"name": "offline", "holds": True, "why": "the request names it as its class"}
    ]


def test_a_deadline_too_short_sheds_with_the_evidence(app: typer.Typer, place: Path) -> None:
    """What would be shed is shown with the candidates that were not good enough, none of them chosen."""
    told = now(app, "--deadline", "1ms")
    assert told["outcome"] == "shed"
    assert told["decision"] is not None
    output = RUNNER.invoke(app, ["request.json", "--deadline", "1ms"]).output
    assert "would be shed: class chat may be, and the best score" in output
    assert "* " not in output


def test_predictions_are_those_of_the_checkpoint(app: typer.Typer, place: Path) -> None:
    """What the daemon has learned is used, its time is told, and the file is left as it was."""
    compiled = load_directory(place / "policies")
    controller = controller_for(compiled, trained_estimator(None), rng=Random(0))
    member = next(iter(controller.fleet.members.values()))
    for i in range(60):
        member.latency.observe_first_token(0.01, 0.05, now=0.1 * i)
    before = now(app)
    path = checkpoint.checkpoint_file(place / "state")
    checkpoint.save(path, snapshot.take(controller, at=1_700_000_000.0))
    saved = path.read_bytes()
    after = now(app)
    assert after["learned"] == {"file": "state/checkpoint.json", "saved_at": 1_700_000_000.0, "policy": compiled.digest}
    slow = [one["decision"]["candidates"][0]["quantiles"]["ttft_s"]["p90"] for one in (before, after)]  # type: ignore[index]
    assert slow[1] > 3 * slow[0]
    assert path.read_bytes() == saved
    assert "predictions as learned until 2023-11-14" in RUNNER.invoke(app, ["request.json"]).output


def test_a_rollout_that_is_on_its_way_is_taken_up(app: typer.Typer, place: Path) -> None:
    """The side that the request falls on is told, as the daemon would place it: before the first step is done, an edit
    of the directory is not yet in force for all."""
    controller = controller_for(load_directory(place / "policies"), trained_estimator(None), rng=Random(0))
    (place / "policies" / "policy.yaml").write_text(
        POLICY.replace("ttft: 500ms", "ttft: 400ms").replace("sheddable: true", "rollout: {mode: canary, percent: 10}")
    )
    assert now(app)["arm"] == ""
    controller.apply(load_directory(place / "policies"), now=0.0, at=1_700_000_000.0)
    checkpoint.save(checkpoint.checkpoint_file(place / "state"), snapshot.take(controller, at=1_700_000_001.0))
    checkpoint.save(checkpoint.rollouts_file(place / "state"), encode(controller.rollouts.saved(now=0.0)))
    told = now(app)
    assert told["arm"] in ("stable", "canary")
    promised = "ttft 500ms" if told["arm"] == "stable" else "ttft 400ms"
    output = RUNNER.invoke(app, ["request.json"]).output
    assert promised in output
    assert f"class chat (side {told['arm']} of its rollout)" in output


def test_nothing_is_written(app: typer.Typer, place: Path) -> None:
    """No state directory, no log, no checkpoint comes of asking."""
    now(app)
    assert sorted(p.name for p in place.iterdir()) == ["policies", "request.json"]


def test_a_logged_decision_is_shown_and_compared(app: typer.Typer, place: Path) -> None:
    """With --at alone what was decided then; with a request also now, side by side."""
    log_decisions(place / "state")
    then = RUNNER.invoke(app, ["--at", "d7"], catch_exceptions=False).output
    assert "decision d7" in then
    assert "feedback 0.25" in then
    both = RUNNER.invoke(app, ["request.json", "--at", "chatcmpl-d7"], catch_exceptions=False).output
    assert "then -> now" in both
    assert "class: class-1 -> chat" in both
    document = json.loads(RUNNER.invoke(app, ["--at", "d7", "--json"]).stdout)
    assert document["now"] is None
    assert document["then"]["decision"]["because"]
    assert document["then"]["feedback"][0]["quality"] == 0.25


@pytest.fixture
def daemon() -> Iterator[str]:
    """A daemon that knows one decision."""
    made = next(
        e.decision
        for e in request_events(7, Random(1), policy(classes=2, deployments=3))
        if isinstance(e, DecisionMade)
    )

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/v1/decisions/d7" and self.headers["authorization"] == "Bearer k1"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(codec.encode(evidence(made)) if known else b"{}")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_running_daemon_can_be_asked(
    app: typer.Typer, place: Path, daemon: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--url fetches the decision with the key that commands are given, else with one of the settings, an operator's
    before others; one that it does not know is told."""
    monkeypatch.setenv("ROUTER_HTTP__API_KEYS", "k1,k2")
    assert "decision d7" in RUNNER.invoke(app, ["--at", "d7", "--url", daemon], catch_exceptions=False).output
    monkeypatch.setenv("ROUTER_HTTP__API_KEYS", "k2")
    monkeypatch.setenv("ROUTER_HTTP__ADMIN_KEYS", "k1")
    assert "decision d7" in RUNNER.invoke(app, ["--at", "d7", "--url", daemon], catch_exceptions=False).output
    monkeypatch.setenv("ROUTER_HTTP__ADMIN_KEYS", "k2")
    monkeypatch.setenv("ROUTER_ADMIN_KEY", "k1")
    assert "decision d7" in RUNNER.invoke(app, ["--at", "d7", "--url", daemon], catch_exceptions=False).output
    with pytest.raises(RequestError, match=r"404 .*the log has more"):
        RUNNER.invoke(app, ["--at", "d8", "--url", daemon], catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to explain"),
        (["request.json", "--class", "chta"], "no request class `chta`"),
        (["request.json", "--at", "nobody"], "no decision nobody in .*decisions"),
        (["request.json", "--property", "gold"], "NAME=VALUE"),
        (["request.json", "--deadline", "soon"], "--deadline soon: expected a duration"),
        (["nowhere.json"], "nowhere.json: No such file"),
        (["broken.json"], "broken.json:2:13: not JSON: Expecting"),
        (["wrong.json"], "wrong.json: .*messages"),
        (["named.json"], "no model, deployment or request class is called `gpt`"),
        (["--at", "d", "--url", "localhost:80"], "write http://HOST:PORT"),
    ],
)
def test_what_cannot_be_done_is_said(app: typer.Typer, place: Path, arguments: list[str], message: str) -> None:
    """One message that says what is wrong and where."""
    (place / "broken.json").write_text('{"messages":\n  [{"role": user}]}')
    (place / "wrong.json").write_text('{"messages": []}')
    (place / "named.json").write_text(json.dumps({**BODY, "model": "gpt"}))
    with pytest.raises(RouterError, match=message):
        RUNNER.invoke(app, arguments, catch_exceptions=False)


def test_a_checkpoint_that_cannot_be_read_is_named_and_left(app: typer.Typer, place: Path) -> None:
    """The daemon would put it aside; a question must not."""
    path = checkpoint.checkpoint_file(place / "state")
    checkpoint.save(path, b"{}")
    with pytest.raises(RouterError, match=r"checkpoint\.json: the checkpoint cannot be read"):
        RUNNER.invoke(app, ["request.json"], catch_exceptions=False)
    assert path.read_bytes() == b"{}"


def test_several_decisions_that_begin_so_are_listed(app: typer.Typer, place: Path) -> None:
    """An exact id wins over longer ones; a beginning that fits several names some."""
    log_decisions(place / "state")
    assert "decision d1\n" in RUNNER.invoke(app, ["--at", "d1"], catch_exceptions=False).output
    with pytest.raises(RequestError, match="12 decisions begin with d: d0, d1"):
        RUNNER.invoke(app, ["--at", "d"], catch_exceptions=False)
