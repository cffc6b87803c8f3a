"""`router evaluate --online`: what the learning router makes of a stream, under a budget and through what happens."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from router.cli.main import app
from router.complexity import artefact
from router.complexity.costs import CostForecast, attach, detach
from router.complexity.registry import PRIOR, load_estimator
from router.complexity.trained import DENSE
from router.domain.errors import RouterError
from router.sim.online.happenings import Happening, parse_happening
from router.sim.online.learner import Case, Learner
from router.sim.online.stream import Streamed, stream

MODELS = ("small", "middle", "large")
COST = (1e-5, 1e-4, 1e-3)
PACKAGE = Path(artefact.__file__).parent


def cases(count: int, seed: int = 0) -> list[Case]:
    """Three models: a cheap one that is good on half of the prompts, a good one, and a dear one hardly better."""
    rng, found = Random(seed), []
    for _ in range(count):
        hard = rng.random() < 0.5
        quality = (0.6 if hard else 0.85, 0.92, 0.94)
        truth = tuple(min(max(rng.gauss(q, 0.08), 0.0), 1.0) for q in quality)
        cost = tuple(usd * rng.uniform(0.5, 1.5) for usd in COST)
        found.append(Case(100, "hard" if hard else "easy", quality, 1.5, (), truth, cost))
    return found


def told(count: int, budget_usd: float, *happenings: Happening) -> Streamed:
    return stream(cases(count), MODELS, budget_usd=budget_usd, seeds=4, happenings=happenings)


@pytest.mark.parametrize("budget_usd", [5e-5, 2e-4])
def test_a_budget_is_kept_and_beats_the_mixture_without_any_forecast_of_costs(budget_usd: float) -> None:
    """Costs are learned on the way; the mean stays within 1 %, the quality above the line between the two models."""
    result = told(600, budget_usd)
    assert result.budget_ratio <= 1.01
    below, above = (0, 1) if budget_usd < COST[1] else (1, 2)
    share = (result.cost_usd.mean - COST[below]) / (COST[above] - COST[below])
    means = (0.725, 0.92, 0.94)
    assert result.quality.mean > means[below] + share * (means[above] - means[below]) - 0.015
    assert result.quality.low < result.quality.mean < result.quality.high
    assert sum(result.shares.values()) == pytest.approx(1.0)


def test_a_model_that_fell_is_left_and_taken_up_again() -> None:
    """Quality to 0.6 for the middle third: hardly any share in it, and the old share at the end."""
    result = told(900, 1.3e-4, Happening(0.33, 0.67, "middle", quality=0.6))
    shares = [part["middle"] for part in result.shares_by_50]
    before, during, after = shares[5], shares[9:12], shares[-1]
    assert before > 0.5
    assert max(during) < 0.15
    assert after > 0.7 * before
    assert result.budget_ratio <= 1.01


def test_a_price_that_rises_is_paid_for_within_the_budget() -> None:
    """Ten times dearer from a third on: used less, and the budget holds."""
    result = told(900, 1.3e-4, Happening(0.33, 1.0, "middle", cost_factor=10.0))
    assert result.shares_by_50[-1]["middle"] < 0.5 * result.shares_by_50[5]["middle"]
    assert result.budget_ratio <= 1.02


def test_probabilities_are_those_of_the_picks() -> None:
    """The same learner asked ten thousand times picks as often as it says."""
    learner, stock = Learner(3, has_forecast=False, budget_usd=1.3e-4), cases(200)
    for case in stock:
        model, _ = learner.choose(case, rng=Random(1))
        learner.learn(case, model, 0.3 if model == 1 else case.true_quality[model], case.true_cost_usd[model])
    learner.beliefs[1].fallen = 1
    rng, picked, said = Random(2), Counter[int](), {}
    for _ in range(10_000):
        learner.pacer.requests -= 1
        model, chance = learner.choose(stock[0], rng=rng)
        picked[model] += 1
        said[model] = chance
    assert len(said) > 1
    assert sum(said.values()) == pytest.approx(1.0)
    for model, chance in said.items():
        assert picked[model] / 10_000 == pytest.approx(chance, abs=0.015)


@pytest.mark.parametrize(
    "text", ["", "0.1:m:cost*=2", "0.5-0.2:m:cost*=2", "0-1:m:quality=2", "0-1::quality=0", "0-1:m:x"]
)
def test_events_that_are_none_are_refused(text: str) -> None:
    """The message says how to write one."""
    with pytest.raises(RouterError, match="A-B:MODEL"):
        parse_happening(text)


def test_a_model_name_may_hold_colons() -> None:
    """As provider names do."""
    assert parse_happening("0.25-0.5:us.meta.llama-v1:0:cost*=3").model == "us.meta.llama-v1:0"


def test_costs_ride_behind_an_artefact_and_damage_is_told() -> None:
    """What is attached is detached again; an artefact without costs has none; a damaged section is refused."""
    plain, _ = detach((PACKAGE / PRIOR).read_bytes())
    assert detach(plain) == (plain, None)
    row = tuple(0.1 for _ in range(DENSE))
    forecast = CostForecast(("m",), row, row, ((0.5, *row),))
    whole = attach(plain, forecast)
    assert detach(whole) == (plain, forecast)
    assert load_estimator(whole).model.digest == artefact.digest(whole)
    for bad in (attach(plain, CostForecast(("m",), row, row, ((0.5,),))), whole[:-12] + b"\xff\xff\xff\x7fRTRCOSTS"):
        with pytest.raises(RouterError, match="costs"):
            detach(bad)


def outcomes(path: Path, count: int) -> Path:
    """Prompts whose length tells which model does them."""
    rng, lines = Random(3), []
    for number in range(count):
        hard = rng.random() < 0.5
        prompt = f"{number}: " + ("prove by induction that the sum converges " * 8 if hard else "what is this")
        quality = {"small": float(rng.random() < (0.3 if hard else 0.9)), "large": float(rng.random() < 0.9)}
        seen = {m: {"quality": q, "cost_usd": 1e-5 if m == "small" else 1e-3} for m, q in quality.items()}
        lines.append(json.dumps({"source": "all", "prompt": prompt, "outcomes": seen}))
    path.write_text("\n".join(lines))
    return path


def test_both_forms_by_command(tmp_path: Path) -> None:
    """The JSON holds what was promised, in both forms."""
    rows, out = str(outcomes(tmp_path / "rows.jsonl", 260)), str(tmp_path / "out.json")
    command = ["evaluate", rows, "--online", "--seeds", "2", "--json", out]
    done = CliRunner().invoke(app, [*command, "--models", "small,large", "--budget-usd", "3e-4"])
    assert done.exit_code == 0, done.output
    told = json.loads(Path(out).read_text())
    assert set(told) == {"quality", "cost_usd", "budget_ratio", "shares", "shares_by_50"}
    assert set(told["quality"]) == {"mean", "low", "high"}
    assert len(told["shares_by_50"]) == 6
    assert told["budget_ratio"] <= 1.01
    done = CliRunner().invoke(app, [*command, "--small", "small", "--large", "large", "--feedbacks", "150"])
    assert done.exit_code == 0, done.output
    told = json.loads(Path(out).read_text())
    assert set(told) == {"before", "after", "full_feedback"}
    assert told["full_feedback"]["overall"]["apgr"] >= told["before"]["overall"]["apgr"] - 0.05
    assert told["after"]["overall"]["n"] == 110


def test_options_that_belong_to_no_form_are_told(tmp_path: Path) -> None:
    """The message names both."""
    rows = str(outcomes(tmp_path / "rows.jsonl", 5))
    done = CliRunner().invoke(app, ["evaluate", rows, "--online", "--models", "small,large"])
    assert done.exit_code != 0
    assert "--budget-usd" in str(done.exception or done.output)
