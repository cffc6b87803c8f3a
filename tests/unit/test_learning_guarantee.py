"""What is promised on a calibration sample holds on new rows, at the rate that was promised."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from typer.testing import CliRunner

from router.cli.evaluate import evaluate
from router.complexity.registry import PRIOR
from router.learning.guarantee import Promise, choose, holds, resplit
from router.stats.binomial import at_least, clopper_pearson

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"})
PRIOR_FILE = Path(__file__).parents[2] / "router/complexity" / PRIOR


def losses(rng: np.random.Generator, rows: int, worse: float, better: float) -> NDArray[np.float64]:
    """1 where small is worse, -1 where it is better, by these shares."""
    drawn = rng.random(rows)
    return np.where(drawn < worse, 1.0, np.where(drawn < worse + better, -1.0, 0.0))


def graded(rng: np.random.Generator, rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predicted gain in [-.2, .5], and a gain of -1, 0 or 1 that has it as its mean."""
    score = rng.uniform(-0.2, 0.5, rows)
    drawn = rng.random(rows)
    return score, np.where(drawn < np.abs(score) + 0.1, np.sign(score), 0.0) - np.where(
        drawn > 0.9, np.sign(score), 0.0
    )


def test_a_loss_at_the_bound_is_promised_less_often_than_the_error_allows() -> None:
    """The mean loss is exactly epsilon: rejecting that is an error, and happens in at most 5 of 100 samples."""
    rng = np.random.default_rng(1)
    wrong = sum(holds(losses(rng, 1000, 0.09, 0.04), Promise(0.05)) for _ in range(400))
    assert wrong / 400 <= 0.05


def test_a_loss_well_under_the_bound_is_promised_nearly_always() -> None:
    """The test has power: .02 lost where .05 may be, from a thousand rows."""
    rng = np.random.default_rng(2)
    right = sum(holds(losses(rng, 1000, 0.05, 0.03), Promise(0.05)) for _ in range(100))
    assert right >= 90


def test_gains_make_up_for_losses() -> None:
    """Where small is better as often as it is worse nothing is lost; else they are too many."""
    rng = np.random.default_rng(3)
    both = losses(rng, 2000, 0.10, 0.09)
    assert holds(both, Promise(0.05))
    assert not holds(np.maximum(both, 0.0), Promise(0.05))


def test_fewer_rows_ahead_are_promised_less() -> None:
    """The loss of a hundred rows scatters more than that of ten thousand: more goes to large for them."""
    score, gain = graded(np.random.default_rng(4), 2000)
    shares = [choose(score, gain, Promise(0.05, ahead=ahead)).large_share for ahead in (100, 10_000, None)]
    assert shares[0] > shares[1] >= shares[2]


def test_what_cannot_be_promised_goes_to_large() -> None:
    """Ten rows say nothing; nor do a thousand where small always loses and the score does not tell."""
    rng = np.random.default_rng(5)
    few = choose(rng.uniform(size=10), losses(rng, 10, 0.1, 0.0), Promise(0.01))
    assert (few.large_share, few.loss) == (1.0, 0.0)
    blind = choose(np.zeros(1000), np.ones(1000), Promise(0.05))
    assert blind.large_share == 1.0


def test_rows_of_one_score_are_not_parted() -> None:
    """The threshold decides by score alone: equal scores go the same way."""
    score = np.tile([0.0, 0.3], 500)
    loss = np.tile([0.0, 0.3], 500)
    assert choose(score, loss, Promise(0.05)).large_share == 0.5


def test_resplits_hold_as_often_as_was_promised_and_a_plain_threshold_does_not() -> None:
    """The share that a threshold on the calibration mean alone needs is lower, and it holds about every second time."""
    score, gain = graded(np.random.default_rng(6), 6000)
    promise = Promise(0.05, ahead=4000)
    seen = resplit(score, gain, gain, promise, calibrate=2000, times=60, seed=1)
    assert (seen.loss <= 0.05).mean() >= 0.95
    assert seen.large_share.mean() < 0.75
    assert np.all(seen.pgr <= 1.0 + 1e-9)


@pytest.mark.parametrize(
    ("count", "of", "low", "high"), [(0, 10, 0.0, 0.3085), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1.0)]
)
def test_clopper_pearson_is_the_published_interval(count: int, of: int, low: float, high: float) -> None:
    """Tabled values."""
    assert clopper_pearson(count, of) == pytest.approx((low, high), abs=1e-4)


def test_binomial_tail_is_exact() -> None:
    """Against the closed forms of one trial more and less."""
    assert at_least(0, 7, 0.3) == pytest.approx(1.0)
    assert at_least(7, 7, 0.3) == pytest.approx(0.3**7)
    assert at_least(1, 7, 0.3) == pytest.approx(1.0 - 0.7**7)


def outcomes(path: Path, rows: int) -> Path:
    """Long prompts are hard for the small model, easy ones are not always easy."""
    rng, lines = Random(7), []
    for number in range(rows):
        words = rng.randint(3, 60)
        small = float(rng.random() > words / 80)
        prompt = " ".join(rng.choice(("what", "is", "the", "sum", "of", "seven", "trees")) for _ in range(words))
        quality = {"s": {"quality": small}, "l": {"quality": float(rng.random() < 0.95)}}
        lines.append(json.dumps({"id": str(number), "source": "a", "prompt": prompt, "outcomes": quality}))
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def run(path: Path, *options: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(evaluate)
    named = ("--model", str(PRIOR_FILE), "--small", "s", "--large", "l")
    result = RUNNER.invoke(app, [str(path), *named, *options])
    return result.exit_code, str(result.exception or result.output)


def test_the_command_says_how_often_it_held_and_how_much_went_to_large(tmp_path: Path) -> None:
    """`router evaluate --floor-loss`: a table for people, and the same figures in the JSON, beside the evaluation."""
    out = tmp_path / "out.json"
    path = outcomes(tmp_path / "rows.jsonl.gz", 400)
    code, said = run(path, "--floor-loss", "0.2", "--recalibrate", "200", "--resplits", "10", "--json", str(out))
    assert code == 0, said
    floor = json.loads(out.read_text())["floor"]
    assert (floor["epsilon"], floor["calibrated_on"], floor["tested_on"], floor["resplits"]) == (0.2, 200, 200, 10)
    assert floor["net"]["held_ratio"]["low"] <= floor["net"]["held_ratio"]["mean"] <= floor["net"]["held_ratio"]["high"]
    assert "Lose at most 0.2" in said
    assert "overall" in json.loads(out.read_text())


def test_the_same_seed_gives_the_same_splits(tmp_path: Path) -> None:
    """Figures can be shown again."""
    path = outcomes(tmp_path / "rows.jsonl.gz", 300)
    options = ("--floor-loss", "0.2", "--recalibrate", "150", "--resplits", "5", "--json")
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert run(path, *options, str(tmp_path / name), "--seed", seed)[0] == 0
    a, b, c = (json.loads((tmp_path / name).read_text())["floor"] for name in "abc")
    assert a == b != c


def test_too_few_rows_are_refused_with_what_to_do(tmp_path: Path) -> None:
    """Nothing would be left to look at."""
    code, said = run(outcomes(tmp_path / "rows.jsonl.gz", 100), "--floor-loss", "0.05")
    assert code != 0
    assert "--recalibrate 2000 leaves none of the 100 rows" in said


def test_a_stream_has_no_floor_to_promise(tmp_path: Path) -> None:
    """--floor-loss looks at a frozen artefact."""
    code, said = run(outcomes(tmp_path / "rows.jsonl.gz", 60), "--online", "--floor-loss", "0.05")
    assert code != 0
    assert "leave out --online" in said
