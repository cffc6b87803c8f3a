"""`router evaluate --online --report`: what an operator sees of a learning router, and what it is held against."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html import unescape
from pathlib import Path
from random import Random

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from router.cli.evaluate import evaluate
from router.domain.errors import RouterError
from router.sim.online.gains import gains
from router.sim.online.happenings import Happening
from router.sim.online.learner import Case
from router.sim.online.references import alone_by_row, compared, mixture
from router.sim.online.stream import stream

HOSTILE = "<script>alert(1)</script>"
COST = {"small<b>": 1e-5, "large": 1e-3}


def outcomes(path: Path, count: int = 260) -> Path:
    """Prompts whose length tells which model does them; one is hostile, and so is the name of a model."""
    rng, lines = Random(3), []
    for number in range(count):
        hard = rng.random() < 0.5
        prompt = f"{number}: " + ("prove by induction that the sum converges " * 8 if hard else "what is this")
        quality = {"small<b>": float(rng.random() < (0.3 if hard else 0.9)), "large": float(rng.random() < 0.9)}
        seen = {m: {"quality": q, "cost_usd": COST[m]} for m, q in quality.items()}
        lines.append(json.dumps({"source": HOSTILE, "prompt": prompt, "outcomes": seen}))
    path.write_text("\n".join(lines))
    return path


def run(folder: Path, *more: str) -> tuple[str, str, dict]:
    """The page, the terminal's text, and the JSON."""
    app = typer.Typer()
    app.command()(evaluate)
    page, told = folder / "page.html", folder / "told.json"
    rows = str(outcomes(folder / "rows.jsonl"))
    ends = ["--json", str(told), "--report", str(page), "--date", "2030-01-02", "--seeds", "3"]
    result = CliRunner(env={"COLUMNS": "120", "NO_COLOR": "1"}).invoke(app, [rows, "--online", *more, *ends])
    assert result.exit_code == 0, result.exception
    return page.read_text(encoding="utf-8"), result.output, json.loads(told.read_text())


BUDGET = ("--models", "small<b>,large", "--budget-usd", "3e-4", "--event", "0.3-0.6:large:cost*=2")


@pytest.fixture(scope="module")
def budget(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, dict]:
    return run(tmp_path_factory.mktemp("budget"), *BUDGET)


@pytest.fixture(scope="module")
def feedback(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, dict]:
    return run(tmp_path_factory.mktemp("feedback"), "--small", "small<b>", "--large", "large", "--feedbacks", "150")


@pytest.mark.parametrize("form", ["budget", "feedback"])
def test_pages_stand_alone_and_escape(form: str, request: pytest.FixtureRequest) -> None:
    """Nothing is fetched or run, no name is markup, every chart is XML, and no prompt is quoted."""
    html = request.getfixturevalue(form)[0]
    assert "default-src 'none'" in unescape(html)
    assert not re.search(r"<(script|link|img|iframe|b)\b|\bsrc=|\bhref=|url\(|@import", html)
    assert "small&lt;<wbr>b&gt;" in html or "small&lt;b&gt;" in html
    assert "prove by induction" not in html
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ET.fromstring(svg)
    assert "2030-01-02" in html
    assert "sha256:" in html


def test_shares_are_stacked_to_the_whole_with_names_and_events(budget: tuple[str, str, dict]) -> None:
    """One area a model, from 0 to 100 %, named in the picture; the event is named where it begins and where it ends."""
    html = budget[0]
    (svg,) = re.findall(r'<svg[^>]*aria-labelledby="shares-title.*?</svg>', html, re.DOTALL)
    drawn = ET.fromstring(svg)
    areas = [path for path in drawn.iter("path") if "stack" in path.get("class", "")]
    assert [path.get("class") for path in areas] == ["area stack m0", "area stack m1"]
    lows = [{float(y) for y in re.findall(r" ([\d.]+)(?:L|Z)", path.get("d", ""))} for path in areas]
    ticks = {t.text: float(t.get("y", "")) - 4.0 for t in drawn.iter("text") if (t.text or "").endswith("%")}
    assert max(lows[0]) == pytest.approx(ticks["0\u00a0%"])
    assert min(lows[1]) == pytest.approx(ticks["100\u00a0%"])
    names = [text.text for text in drawn.iter("text")]
    assert "large: cost x 2" in names
    assert "restored" in names
    assert {"small<b>", "large"} & set(names)


def test_figures_of_the_page_and_the_terminal_are_those_of_the_json(budget: tuple[str, str, dict]) -> None:
    """Quality, its interval, cost over budget and shares."""
    html, text, told = budget
    quality = told["quality"]
    for figure in quality.values():
        assert f"{figure:.4f}" in html
        assert f"{figure:.4f}" in text
    assert f"{told['budget_ratio']:.3f}" in html
    assert f"{told['budget_ratio']:.3f}" in text
    for model, share in told["shares"].items():
        assert f"{model}: {share * 100:.1f}\u00a0%" in unescape(html)
    assert "always large" in text
    assert "mixture at that cost" in text


def test_the_table_of_feedback_has_intervals(feedback: tuple[str, str, dict]) -> None:
    """Before, after and full feedback, each with its interval; the gain is told."""
    html, text, told = feedback
    for name in ("before", "after", "full_feedback"):
        assert f"{told[name]['overall']['apgr']:.3f}" in text
        assert f"{told[name]['overall']['apgr']:.3f}" in html
    assert text.count(" .. ") >= 5
    assert "full feedback gained" in text


def test_the_page_says_when_a_budget_is_broken(tmp_path: Path, budget: tuple[str, str, dict]) -> None:
    """A budget below the cheapest model cannot be kept."""
    html, text, told = run(tmp_path, "--models", "small<b>,large", "--budget-usd", "5e-6")
    assert told["budget_ratio"] > 1.01
    assert "Budget broken." in html
    assert "BROKEN" in text
    assert "Budget broken." not in budget[0]
    assert "kept" in budget[1]


@pytest.mark.parametrize("models", ["large", "large,large", "large,"])
def test_models_are_two_or_more(tmp_path: Path, models: str) -> None:
    """One model leaves nothing to choose."""
    app = typer.Typer()
    app.command()(evaluate)
    rows = str(outcomes(tmp_path / "rows.jsonl", 60))
    result = CliRunner().invoke(app, [rows, "--online", "--models", models, "--budget-usd", "1"])
    assert isinstance(result.exception, RouterError)
    assert "two or more" in str(result.exception)


@pytest.mark.parametrize(
    ("usd", "quality"), [(0.5, 0.2), (1.0, 0.2), (2.0, 0.5), (3.0, 0.8), (4.5, 0.85), (6.0, 0.9), (9.0, 0.9)]
)
def test_the_mixture_is_the_best_straight_line(usd: float, quality: float) -> None:
    """Between neighbours on the hull; a model under the line, or dearer and worse, is not drawn; money left over buys
    nothing."""
    cost, good = np.array([1.0, 2.0, 3.0, 6.0, 7.0]), np.array([0.2, 0.3, 0.8, 0.9, 0.4])
    assert mixture(cost, good, usd) == pytest.approx(quality)


def test_a_model_alone_lives_through_the_events(tmp_path: Path) -> None:
    """Half of the stream at a third of the quality, a quarter at three times the cost, on average over orders."""
    cases = [Case(1, "qa", (0.5, 0.5), 0.0, (), (0.4 + 0.2 * (n % 2), 1.0), (1.0, 2.0)) for n in range(40)]
    happenings = [Happening(0.5, 1.0, "b", quality=0.3), Happening(0.25, 0.5, "b", cost_factor=3.0)]
    quality, cost = alone_by_row(cases, ("a", "b"), happenings)
    assert quality.mean(axis=0) == pytest.approx((0.5, 0.65))
    assert cost.mean(axis=0) == pytest.approx((1.0, 3.0))


def test_the_lead_over_the_mixture_is_told_with_its_doubt() -> None:
    """A router that earns .1 more than the mixture leads by .1, and the interval excludes nothing; one that equals a
    model has no lead."""
    rng = np.random.default_rng(2)
    fixed = np.column_stack((np.full(400, 0.4), np.full(400, 0.8))) + rng.normal(0.0, 0.05, (400, 1))
    usd = np.column_stack((np.full(400, 1.0), np.full(400, 3.0)))
    better = compared(fixed.mean(axis=1)[None] + 0.1, np.full((1, 400), 2.0), fixed, usd, ("a", "b"))
    assert better.lead.mean == pytest.approx(0.1)
    assert better.lead.low > 0.09
    same = compared(fixed[:, 0][None], usd[:, 0][None], fixed, usd, ("a", "b"))
    assert same.lead.mean == pytest.approx(0.0)
    assert same.alone[0].quality.low < same.quality.mean < same.alone[0].quality.high


def test_moments_add_up_to_the_whole() -> None:
    """Quality and cost by fifty, weighed by how many they are, are those of the stream."""
    rng = Random(1)
    cases = [Case(1, "qa", (0.6, 0.9), 0.0, (), (rng.random(), rng.random()), (1e-4, 1e-3)) for _ in range(120)]
    told = stream(cases, ("a", "b"), budget_usd=5e-4, seeds=3)
    sizes = (50, 50, 20)
    assert len(told.by_50) == len(sizes) == len(told.shares_by_50)
    for field in ("quality", "cost_usd"):
        summed = sum(getattr(m, field).mean * n for m, n in zip(told.by_50, sizes, strict=True)) / 120
        assert summed == pytest.approx(getattr(told, field).mean)


def test_gains_have_no_ratio_where_full_feedback_gains_nothing() -> None:
    """Half of a gain is one half; a share of nothing is not told; without figures there is nothing."""
    half = gains([(0.5, 0.55 + d, 0.6 + d) for d in (0.0, 0.004, -0.004)])
    assert half is not None
    assert half.ratio is not None
    assert half.ratio.mean == pytest.approx(0.5)
    none = gains([(0.5, 0.5, 0.52), (0.5, 0.5, 0.49)])
    assert none is not None
    assert none.ratio is None
    assert gains([(None, 0.5, 0.5)]) is None
