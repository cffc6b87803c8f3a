"""`router simulate --scenario`: what is asked is played, told, written and drawn; what cannot be is refused."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from router.cli.main import app
from router.cli.scenarios.command import Asked, play_scenarios, refuse_beside
from router.cli.scenarios.drawing import apart
from router.domain.errors import RequestError, RouterError
from router.sim.scenarios.catalogue import SCENARIOS
from router.sim.scenarios.scenario import Scenario

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds for minutes, and a search that hardly looks."""

    def short(one: Scenario) -> Scenario:
        return replace(one, per_s=3.0, phases=tuple(replace(p, lasts_s=5.0, flood_per_s=0.0) for p in one.phases[:2]))

    monkeypatch.setattr(
        "router.sim.scenarios.hindsight.KNOBS", {"small_from": (0.5,), "small_limit": (128,), "never_below": (0.0,)}
    )
    monkeypatch.setattr("router.sim.scenarios.hindsight.SCATTERED", 1)
    monkeypatch.setattr("router.sim.scenarios.hindsight.PAIRS", 1)
    monkeypatch.setattr("router.cli.scenarios.command.SCENARIOS", {name: short(one) for name, one in SCENARIOS.items()})


def asked(name: str, **options: object) -> Asked:
    nothing = dict.fromkeys(("policies", "fleet", "workload", "artefact", "json_", "picture"))
    return Asked(**{"name": name, "load": 1.0, "seed": 0, **nothing, **options})  # type: ignore[arg-type]


def texts(path: Path) -> list[str]:
    return ["".join(one.itertext()) for one in ElementTree.parse(path).iter(f"{SVG}text")]


def test_the_list_names_every_scenario_and_its_question() -> None:
    """Nothing is played."""
    result = CliRunner().invoke(app, ["simulate", "--scenario", "list"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert all(name in result.output for name in SCENARIOS)
    assert "How fast is a slowdown noticed" in result.output


def test_one_scenario_is_told_written_and_drawn(tmp_path: Path) -> None:
    """A table, the report, the picture."""
    out, drawn = tmp_path / "out.json", tmp_path / "step.svg"
    line = ["simulate", "--scenario", "step", "--seed", "4", "--json", str(out), "--picture", str(drawn)]
    result = CliRunner().invoke(app, line, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "60 s: load x3" not in result.output
    assert "5 s: load x3" in result.output
    report = json.loads(out.read_text())
    assert (report["scenario"], report["seed"], len(report["phases"])) == ("step", 4, 2)
    assert {"settled_s", "overshoot_ratio", "violation_s", "flips_per_min", "floor_breaches", "regret"} <= set(
        report["figures"]
    )
    said = texts(drawn)
    assert "Load x3 and back" in said
    assert "load x3" in said
    assert any(one.startswith("settled") or one == "not settled" for one in said)
    assert {"router", "best fixed, in hindsight", "objective", "floor 90%"} <= set(said)


def test_a_flood_says_of_whom_its_figures_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who floods is sent and not judged; where nobody does there is nothing to say."""
    one = SCENARIOS["flood"]
    calm, flooded = (
        replace(one, per_s=3.0, phases=tuple(replace(p, lasts_s=5.0, flood_per_s=n) for p in one.phases[:2]))
        for n in (0.0, 6.0)
    )
    monkeypatch.setattr("router.cli.scenarios.command.SCENARIOS", {"calm": calm, "flooded": flooded})
    said = {
        name: " ".join(CliRunner().invoke(app, ["simulate", "--scenario", name]).output.split())
        for name in ("calm", "flooded")
    }
    assert "of the other tenants than the one that floods" in said["flooded"]
    assert "lost: useful answers against best" in said["calm"]
    assert "other tenants" not in said["calm"]


def test_a_picture_is_dark_where_the_reader_is(tmp_path: Path) -> None:
    """By its own style, with nothing fetched and nothing run."""
    drawn = tmp_path / "one.svg"
    play_scenarios(asked("bursts", picture=drawn))
    text = drawn.read_text()
    assert "prefers-color-scheme: dark" in text
    assert "<script" not in text
    assert "href" not in text
    root = ElementTree.fromstring(text)
    assert root.find(f"{SVG}title") is not None
    assert root.find(f"{SVG}desc") is not None


def test_all_scenarios_are_written_by_name(tmp_path: Path) -> None:
    """One report, a directory of pictures."""
    out, pictures = tmp_path / "all.json", tmp_path / "pictures"
    play_scenarios(asked("all", json_=out, picture=pictures))
    assert list(json.loads(out.read_text())) == list(SCENARIOS)
    assert sorted(path.stem for path in pictures.iterdir()) == sorted(SCENARIOS)


def test_a_policy_directory_takes_the_place_of_the_scenarios_policy(tmp_path: Path) -> None:
    """The floor drawn is the directory's."""
    (tmp_path / "one.yaml").write_text("class: {name: all, objectives: {ttft: 1s}, floor: 0.7, goal: useful}\n")
    out = tmp_path / "out.json"
    play_scenarios(asked("step", policies=tmp_path, json_=out))
    report = json.loads(out.read_text())
    assert report["floor"]["ratio"] == 0.7
    assert list(report["ours"]["latency"]) == ["ttft"]


def test_a_policy_without_a_floor_is_drawn_without_one(tmp_path: Path) -> None:
    """There is nothing to hold answers against."""
    (tmp_path / "one.yaml").write_text("class: {name: all, objectives: {tpot: 60ms}, goal: useful}\n")
    drawn = tmp_path / "one.svg"
    play_scenarios(asked("lost", policies=tmp_path, picture=drawn))
    assert not any(one.startswith("Adequate") for one in texts(drawn))


def test_a_fleet_file_takes_the_place_of_the_scenarios_servers(tmp_path: Path) -> None:
    """Two small ones: each is drawn."""
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(
        "deployments:\n"
        "  - {name: tiny, model: llama-3.1-8b, tier: small, replicas: 2, step_ms: {base: 7}}\n"
        "  - {name: big, model: llama-3.1-70b, tier: large, step_ms: {base: 16}}\n"
    )
    out = tmp_path / "out.json"
    play_scenarios(asked("slowdown", fleet=fleet, json_=out))
    assert json.loads(out.read_text())["tiers"] == {"tiny-0": "small", "tiny-1": "small", "big": "large"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--scenario", "steep"), "there is no scenario `steep`"),
        (("--scenario", "step", "--for", "5"), "--for cannot be said with --scenario"),
        (("--scenario", "step", "--baselines"), "--baselines cannot be said with --scenario"),
        (("day.csv", "--scenario", "step"), r"say --workload\) cannot be said"),
        (("--picture", "x.svg"), "--workload and --picture go with a scenario"),
        (("day.csv",), "say either WORKLOAD and --fleet, or --scenario NAME"),
        (("--scenario", "step", "--picture", "no/where.svg"), "there is no directory no"),
        (("--scenario", "step", "--json", "no/where.json"), "there is no directory no"),
        (("--scenario", "step", "--workload", "none.csv"), "none.csv"),
        (("--scenario", "step", "--fleet", "none.yaml"), "none.yaml"),
    ],
)
def test_what_cannot_be_played_is_refused_in_words(options: tuple[str, ...], said: str) -> None:
    """Before anything is played."""
    with pytest.raises(RouterError, match=said):
        CliRunner().invoke(app, ["simulate", *options], catch_exceptions=False)


def test_all_pictures_go_into_a_directory_and_one_into_a_file(tmp_path: Path) -> None:
    """The other way round is refused."""
    file = tmp_path / "one.svg"
    file.write_text("")
    with pytest.raises(RouterError, match="takes a directory"):
        play_scenarios(asked("all", picture=file))
    with pytest.raises(RouterError, match="takes the file to write"):
        play_scenarios(asked("step", picture=tmp_path))


def test_what_was_not_said_is_not_refused() -> None:
    """Defaults are not options."""
    refuse_beside({"--for": None, "--feedback": 0.0, "--baselines": False})
    with pytest.raises(RequestError, match="--check, --baselines cannot"):
        refuse_beside({"--for": None, "--check": "catch=1", "--baselines": True})


def test_names_that_would_lie_on_each_other_are_moved_apart() -> None:
    """Down, and up again from the floor; what has room stays."""
    assert apart([10.0, 12.0, 60.0], 14.0, 100.0) == [10.0, 24.0, 60.0]
    assert apart([90.0, 95.0, 99.0], 14.0, 100.0) == [72.0, 86.0, 100.0]
    assert apart([], 14.0, 100.0) == []
