"""What a check of answers is worth, in the simulator: drawn verdicts of a given strength on a workload with truth."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cascade import Point, arrivals, measured, setting
from router.cli.main import app
from router.domain.errors import SettingsError
from router.sim.checked.strength import Strength, read_strength
from router.sim.run import play

WORKLOAD = arrivals(2000, seed=5)


def run(check: Strength | None, floor: float = 0.8) -> Point:
    return measured(play(setting(WORKLOAD, check, floor, seed=5)).served)


@pytest.fixture(scope="module")
def alone() -> Point:
    """The same policy without a check."""
    return run(None)


def test_a_check_that_tells_buys_the_same_quality_for_less(alone: Point) -> None:
    """It catches 95 % of what is wrong and is wrong itself over 2 %: the share adequate is no lower, and the
    cost is, though some answers are made twice."""
    checked = run(Strength(0.95, 0.02))
    assert checked.adequate > alone.adequate - 0.015
    assert checked.usd_per_1k < 0.85 * alone.usd_per_1k
    assert checked.twice > 0.1


def test_a_check_that_says_nothing_is_hardly_taken_up(alone: Point) -> None:
    """It fails right and wrong answers alike. Feedback shows so, and few answers are made twice for it; what it costs
    beyond prompt-only routing is small."""
    checked = run(Strength(0.2, 0.2))
    assert checked.twice < 0.05
    assert checked.adequate > alone.adequate - 0.03
    assert checked.usd_per_1k < 1.12 * alone.usd_per_1k


def test_the_same_seed_gives_the_same_verdicts() -> None:
    """Twice the same run: every request ends as before."""
    what = setting(arrivals(200, seed=1), Strength(0.7, 0.05, 0.2), 0.85, seed=3)
    assert play(what).served == play(what).served


@pytest.mark.parametrize("text", ["", "catch=0.5", "catch=2,alarm=0", "catch=a,alarm=0", "catch=1,alarm=0,x=1"])
def test_a_strength_that_cannot_be_read_is_refused(text: str) -> None:
    """The error shows one that can."""
    with pytest.raises(SettingsError, match=r"catch=0\.7,alarm=0\.05"):
        read_strength(text)
    assert read_strength("catch=0.7, alarm=0.05,wait=0.2") == Strength(0.7, 0.05, 0.2)


FLEET = """
deployments:
  - {name: small, model: s, tier: small, price_usd_per_mtok: {input: 1, output: 1},
     step_ms: {base: 5, per_sequence: 0.1, per_context_token: 0.00003, per_prefill_token: 0.02}}
  - {name: large, model: l, tier: large, price_usd_per_mtok: {input: 9, output: 9},
     step_ms: {base: 9, per_sequence: 0.1, per_context_token: 0.00003, per_prefill_token: 0.05}}
"""
ROWS = "arrival_s,input_tokens,output_tokens,quality.s,quality.l,estimate.s,estimate.l\n" + "".join(
    f"{i},100,50,{i % 2},1,0.5,0.99\n" for i in range(40)
)


def simulated(folder: Path, policy: str, *options: str) -> tuple[int, str]:
    """`router simulate` over forty rows; its exit code and what it said."""
    for name, text in (("fleet.yaml", FLEET), ("day.csv", ROWS), ("policies/all.yaml", policy)):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    given = [str(folder / "day.csv"), "--fleet", str(folder / "fleet.yaml"), "--policies", str(folder / "policies")]
    result = CliRunner().invoke(app, ["simulate", *given, *options])
    return result.exit_code, result.output


def test_the_simulator_says_what_it_leaves_out(tmp_path: Path) -> None:
    """A policy with a cascade is simulated without checks unless one is given, and the command says so; a check without
    a class that asks is a mistake."""
    checked = "class: {name: all, cascade: {checks: [callback], threshold: 45%}}\n"
    code, said = simulated(tmp_path, checked)
    assert code == 0
    assert "all: answers are not checked here" in said
    code, said = simulated(tmp_path, checked, "--check", "catch=1,alarm=0", "--json", str(tmp_path / "report.json"))
    assert code == 0
    assert "not checked" not in said
    assert '"adequate_of_served": 1.0' in (tmp_path / "report.json").read_text()
    code, _ = simulated(tmp_path, "class: {name: all}\n", "--check", "catch=1,alarm=0")
    assert code != 0
