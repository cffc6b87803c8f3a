"""`router policy try`: a workload simulated under two policies, or a log replayed, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
import typer
from typer.testing import CliRunner

from router.cli.policy.attempt import attempt
from router.complexity.estimator import Scored
from router.core.controller import Controller
from router.domain.decision import Decision
from router.domain.deployment import Tier
from router.domain.errors import PolicyError, RouterError
from router.domain.events import DecisionMade
from router.domain.request import Prompt, Request, RequestId
from router.runtime.reload import load_directory
from router.storage.decision_log import DecisionLog
from router.storage.decision_records import decision_folder

RUNNER = CliRunner(env={"COLUMNS": "160", "NO_COLOR": "1"})
FLEET = """
deployments:
  - name: small
    model: llama-3.1-8b
    tier: small
    kind: continuous
    price_usd_per_mtok: {input: 0.22, output: 0.22}
    step_ms: {base: 6.7, per_sequence: 0.058, per_context_token: 0.000032, per_prefill_token: 0.0209}
  - name: large
    model: llama-3.1-70b
    tier: large
    kind: continuous
    price_usd_per_mtok: {input: 0.99, output: 0.99}
    step_ms: {base: 16.4, per_sequence: 0.08, per_context_token: 0.000023, per_prefill_token: 0.065}
"""
DEPLOYMENTS = """
deployments:
  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated, price_usd_per_mtok: {input: 1, output: 1}}
  - {name: large, model: llama-3.1-70b, tier: large, backend: simulated, price_usd_per_mtok: {input: 5, output: 5}}
"""
OLD = "class: {name: all, objectives: {ttft: 500ms, tpot: 50ms}, goal: useful}\n"
NEW = "class: {name: all, objectives: {ttft: 500ms, tpot: 50ms}, deployments: [large]}\n"


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(attempt)
    return made


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two policies, a fleet and a workload of two minutes."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("old", OLD), ("new", NEW)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.yaml").write_text(text)
    (tmp_path / "fleet.yaml").write_text(FLEET)
    rng = Random(1)
    rows = ["arrival_s,input_tokens,output_tokens,quality.llama-3.1-8b,quality.llama-3.1-70b,estimate.llama-3.1-8b"]
    rows += [
        f"{number / 2},{rng.randrange(50, 800)},{rng.randrange(20, 200)},{int(rng.random() < 0.6)},1,0.6"
        for number in range(240)
    ]
    (tmp_path / "day.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def simulated(*arguments: str) -> list[str]:
    return ["new", "--old", "old", "--workload", "day.csv", "--fleet", "fleet.yaml", *arguments]


def test_two_policies_stand_side_by_side(app: typer.Typer, place: Path) -> None:
    """What changed in meaning, both figures, the difference and how clear it is; the interval is named."""
    result = RUNNER.invoke(app, simulated("--seeds", "1", "--json", "out.json"), catch_exceptions=False)
    assert result.exit_code == 0
    for part in ("changes:", "deployments", "all: 240 requests", "adequate of served", "USD per 1k", "TTFT p95 ms"):
        assert part in result.output
    assert "moving blocks" in result.output
    assert "one seed was run" in result.output
    figures = json.loads(Path("out.json").read_text())["overall"]["figures"]
    assert figures["adequate_of_served"]["new"] == 1.0
    assert figures["adequate_of_served"]["clear"] == "better"
    assert figures["cost_per_1k_usd"]["clear"] == "worse"
    assert figures["shed"]["clear"] == ""


def test_the_report_of_every_run_is_kept(app: typer.Typer, place: Path) -> None:
    """The JSON holds what `router simulate` would have reported for each policy and seed, the same each time."""
    documents = []
    for _ in range(2):
        RUNNER.invoke(app, simulated("--seeds", "2", "--for", "60", "--json", "out.json"), catch_exceptions=False)
        documents.append(json.loads(Path("out.json").read_text()))
    reports = documents[0]["reports"]
    assert [len(reports[side]) for side in ("old", "new")] == [2, 2]
    assert reports["old"][0]["overall"]["offered"] == 120
    assert documents[0]["overall"] == documents[1]["overall"]
    assert "the 2 seeds came out alike" in RUNNER.invoke(app, simulated("--seeds", "2", "--for", "60")).output


def test_a_policy_is_tried_against_the_one_in_force(
    app: typer.Typer, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --old it is what `serve` would use; two that mean the same differ in nothing."""
    monkeypatch.setenv("ROUTER_POLICIES", "new")
    arguments = [a for a in simulated("--for", "20", "--seeds", "1") if a not in ("--old", "old")]
    output = RUNNER.invoke(app, arguments, catch_exceptions=False).output
    assert "The two mean the same" in output
    assert "better" not in output
    assert "worse" not in output


def log_decisions(place: Path, count: int = 60) -> None:
    """What a daemon under the old policy would have logged."""
    for name in ("old", "new"):
        (place / name / "fleet.yaml").write_text(DEPLOYMENTS)

    class Estimator:
        def estimate(self, request: Request) -> Scored:
            return Scored(0.5, "chat", {}, {Tier.SMALL: 0.9, Tier.LARGE: 0.91})

    controller = Controller(load_directory(place / "old"), Estimator(), rng=Random(1))
    log = DecisionLog(decision_folder(place / "state"))
    for number in range(count):
        request = Request(RequestId(str(number)), float(number), float(number), Prompt("hello"), 100)
        decision = controller.decide(controller.admit(request, now=float(number)), now=float(number))
        assert isinstance(decision, Decision)
        log.handlers()[DecisionMade](DecisionMade(decision))
    log.close()


@pytest.mark.parametrize("log", ["state", "state/decisions", "state/decisions/decisions.jsonl"])
def test_a_log_is_replayed(app: typer.Typer, place: Path, log: str) -> None:
    """By state directory, folder or file: how many would go elsewhere and where, what was predicted of both, and that
    outcomes are not told."""
    log_decisions(place)
    result = RUNNER.invoke(app, ["new", "--old", "old", "--log", log, "--json", "out.json"], catch_exceptions=False)
    output = " ".join(result.output.split())
    assert "60 decisions read, 60 taken again, 60 (100.0%) would go elsewhere" in output
    assert "all: small -> large 60" in output
    assert "not estimated here" in output
    told = json.loads(Path("out.json").read_text())
    assert told["moved"] == 60
    assert told["by_class"]["all"]["now"]["p_adequate"] == pytest.approx(0.91)


def test_damage_in_a_log_is_told(app: typer.Typer, place: Path) -> None:
    """The rest is replayed."""
    log_decisions(place)
    path = decision_folder(place / "state") / "decisions.jsonl"
    path.write_text('{"record":"decision",torn\n' + path.read_text())
    result = RUNNER.invoke(app, ["new", "--old", "old", "--log", "state"], catch_exceptions=False)
    assert "1 lines could not be read" in result.output
    assert "decisions.jsonl:1" in result.output
    assert "60 taken again" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new", "--log", "state", "--workload", "day.csv"], "say one"),
        (["new", "--old", "old", "--workload", "day.csv"], "no file has any `deployments`"),
        (["new", "--old", "old", "--log", "nowhere"], "nowhere: no decision log here"),
        (simulated("--for", "0"), "nothing arrives within --for 0"),
        (["new", "--old", "old", "--workload", "nowhere.csv", "--fleet", "fleet.yaml"], r"nowhere\.csv"),
        (["new", "--old", "old", "--workload", "day.csv", "--fleet", "nowhere.yaml"], r"nowhere\.yaml: No such file"),
        (["broken", "--old", "old", "--workload", "day.csv", "--fleet", "fleet.yaml"], r"policy\.yaml:1:20: .*lateny"),
        (
            simulated("--json", "no/such/out.json", "--for", "5", "--seeds", "1"),
            r"no/such/out\.json: there is no directory",
        ),
    ],
)
def test_what_cannot_be_tried_is_said(app: typer.Typer, place: Path, arguments: list[str], message: str) -> None:
    """One message that says what is wrong and where."""
    (place / "broken").mkdir()
    (place / "broken" / "policy.yaml").write_text("class: {name: all, lateny: 5s}\n")
    with pytest.raises((RouterError, PolicyError), match=message):
        RUNNER.invoke(app, arguments, catch_exceptions=False)


def test_without_a_workload_the_demos_stream_is_tried_on_the_policies_own_fleets(app: typer.Typer, place: Path) -> None:
    """Nothing was recorded yet: an edit can be tried all the same, and one of the fleet too."""
    (place / "old" / "fleet.yaml").write_text(DEPLOYMENTS)
    (place / "new" / "fleet.yaml").write_text(DEPLOYMENTS)
    asked = ["new", "--old", "old", "--for", "30", "--seeds", "1", "--json", "out.json"]
    result = RUNNER.invoke(app, asked, catch_exceptions=False)
    out = json.loads((place / "out.json").read_text())
    assert result.exit_code == 0
    assert "demo" in out["workload"]
    assert out["overall"]["figures"]["cost_per_1k_usd"]["clear"] == "worse"


def test_a_rollout_is_shown_step_by_step(app: typer.Typer, place: Path) -> None:
    """Taken up at its second as an edit of the directory would be, with both sides beside each other."""
    canary = "rollout: {mode: canary, steps: [50], step: 30s, min_requests: 5}"
    (place / "new" / "policy.yaml").write_text(NEW.replace("deployments: [large]", f"deployments: [large], {canary}"))
    result = RUNNER.invoke(app, simulated("--rollout-at", "10", "--json", "out.json"), catch_exceptions=False)
    told = json.loads((place / "out.json").read_text())["rollouts"]
    assert [change["state"] for change in told["transitions"]] == ["canary", "promoted"]
    assert "canary 50%: the class was edited" in result.output
    assert "stable" in result.output
    assert "error budget of the whole window spent" in result.output


def test_an_edit_without_a_rollout_says_so(app: typer.Typer, place: Path) -> None:
    """In force at once: there is no timeline to show."""
    result = RUNNER.invoke(app, simulated("--rollout-at", "10", "--for", "20"), catch_exceptions=False)
    assert "in force at once" in result.output
