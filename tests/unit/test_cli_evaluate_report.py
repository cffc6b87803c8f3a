"""`router evaluate --report`: one page that stands alone, tells what the JSON tells, and never runs what it quotes."""

from __future__ import annotations

import hashlib
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from random import Random

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from router.cli.evaluate import evaluate
from router.cli.report.charts import Axis, Chart, Frame, Mark, draw
from router.cli.report.reasons import shorten
from router.complexity.artefact import File, Lineage, dump
from router.complexity.assessment.curves import reliability, tradeoff, worst_misses
from router.complexity.assessment.importance import CHARS, WORDS, feature_groups, importance
from router.complexity.assessment.intervals import uncertainty
from router.complexity.assessment.rows import Rows
from router.complexity.assessment.weights import spelled, top_weights
from router.complexity.evaluate import area, ece, recovered
from router.complexity.features import POSITION
from router.complexity.hashing import BUCKETS, SLOTS
from router.complexity.outcomes import Example, Observed
from router.complexity.trained import (
    BOUND_POINTS,
    DENSE,
    LEAF_CODES,
    SPLITS,
    HeadInfo,
    Heads,
    Inputs,
    Model,
    TrainedEstimator,
)
from router.domain.deployment import Tier

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"})
HOSTILE = '<script>alert("x")</script><img src=http://example.com/a.png> & \u202e\x00'
VOID = {"meta", "wbr"}


def model() -> Model:
    """Two heads that go by the length of the prompt alone: the longer, the less small is trusted."""
    linear = np.zeros((2, DENSE))
    linear[0, POSITION["log_words"]] = -8.0
    info = tuple(HeadInfo(name, tier, 100, 0.5, (0,), {}) for name, tier in (("S", Tier.SMALL), ("L", Tier.LARGE)))
    inputs = Inputs(np.full(DENSE, 2.5), np.ones(DENSE), np.zeros(SLOTS, np.uint16), 0.1)
    slopes = np.tile([4.0, 0.0, 0.0], (2, 1))
    bounds = np.tile(np.linspace(0.05, 0.95, BOUND_POINTS), (2, 1))
    heads = Heads(
        np.zeros((2, 1, SPLITS), np.int64),
        np.zeros((2, 1, SPLITS)),
        np.zeros((2, 1, LEAF_CODES), np.float32),
        linear,
        np.zeros((2, BUCKETS), np.float32),
        np.array([[0.0, 0.0, 0.0], [0.0, 8.0, 0.0]]),
        slopes,
        slopes.copy(),
        bounds,
        np.zeros_like(bounds),
        bounds.copy(),
    )
    return Model(info, inputs, heads)


def examples(count: int = 140, cost: bool = True) -> list[Example]:
    """Small does worse the longer the prompt; two sources; one prompt is hostile."""
    rng, made = Random(3), []
    for n in range(count):
        words = 1 + n % 40
        right = float(rng.random() > words / 45)
        prompt = HOSTILE if n == 7 else " ".join(["secretword", *["word"] * words])
        prices = (1e-4, 2e-3) if cost else (None, None)
        outcomes = {"S": Observed(0.0 if n == 7 else right, prices[0]), "L": Observed(1.0, prices[1])}
        made.append(Example(prompt, outcomes, f"src<{n % 2}>", f"id{n}"))
    return made


def line(example: Example) -> str:
    seen = {
        m: {"quality": o.quality} | ({} if o.cost_usd is None else {"cost_usd": o.cost_usd})
        for m, o in example.outcomes.items()
    }
    return json.dumps({"id": example.id, "source": example.source, "prompt": example.prompt, "outcomes": seen})


class Page(HTMLParser):
    """Checks balance while it collects attributes, text by element, and table rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.cards: dict[str, str] = {}
        self._card, self._big = "", False
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "dd":
            self._big = ("class", "big") in attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] == "dt":
            self._card = data
        elif "dd" in self.open and self._big:
            self.cards[self._card] = self.cards.get(self._card, "") + data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, name: str) -> list[str]:
        (found,) = [row for row in self.rows if row[0] == name]
        return found


class World:
    """A command, an artefact and outcomes in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = typer.Typer()
        self.app.command()(evaluate)
        self.outcomes = folder / "held out.jsonl"
        self.outcomes.write_text("\n".join(map(line, examples())))
        self.fit_on(File("other.jsonl", "0" * 64, 80))

    def fit_on(self, file: File) -> None:
        lineage = Lineage((file,), 0, 5, {}, ())
        (self.folder / "model.artefact").write_bytes(dump(model(), lineage))

    def run(self, *more: str, date: str = "2030-01-02") -> tuple[str, dict]:
        html, figures = self.folder / "page.html", self.folder / "figures.json"
        arguments = [str(self.outcomes), "--model", str(self.folder / "model.artefact"), "--small", "S"]
        arguments += ["--large", "L", "--report", str(html), "--json", str(figures), "--date", date, *more]
        result = RUNNER.invoke(self.app, arguments)
        assert result.exit_code == 0, result.output
        return html.read_text(encoding="utf-8"), json.loads(figures.read_text())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def shown(world: World) -> tuple[str, dict]:
    return world.run()


def test_the_page_stands_alone(shown: tuple[str, dict]) -> None:
    """No element and no style fetches or runs anything, and the browser is told so."""
    page = Page(shown[0])
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form", "use", "image"} & set(page.tags)
    fetching = ("src", "href", "xlink:href", "srcset", "action", "data", "background", "style")
    assert [a for a in page.attributes if a[1] in fetching or a[1].startswith("on")] == []
    style = re.search(r"<style>(.*?)</style>", shown[0], re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_light_dark_and_print(shown: tuple[str, dict]) -> None:
    """The page follows the reader's scheme and has a style for paper."""
    assert "@media (prefers-color-scheme: dark)" in shown[0]
    assert "@media print" in shown[0]


def test_every_chart_is_xml_with_a_title_and_a_description(shown: tuple[str, dict]) -> None:
    """Each picture is named by its own title and description, every id is used once; small ones in tables, whose
    figures stand beside them, are hidden from readers aloud."""
    drawn = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", shown[0], re.DOTALL)]
    charts = [svg for svg in drawn if svg.get("role") == "img"]
    assert len(charts) == 5
    assert all(svg.get("aria-hidden") == "true" for svg in drawn if svg not in charts)
    for chart in charts:
        title, told = chart.get("aria-labelledby", "").split()
        assert chart[0].tag == "title"
        assert (chart[0].get("id"), chart[1].get("id")) == (title, told)
        assert chart[0].text
        assert chart[1].text
    ids = [value for _, name, value in Page(shown[0]).attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_lines_are_told_apart_without_colour(shown: tuple[str, dict]) -> None:
    """Router, random mixing and oracle carry their names in the picture, and have dashes of their own."""
    (svg,) = re.findall(r'<svg[^>]*aria-labelledby="quality-title.*?</svg>', shown[0], re.DOTALL)
    texts = {text.text for text in ET.fromstring(svg).iter("text")}
    assert {"router", "random mixing", "oracle: knows every gain", "always small", "always large"} <= texts
    dashes = re.findall(r"\.line\.(\w+) \{[^}]*stroke-dasharray: ([\d ]+);", shown[0])
    assert len({dash for _, dash in dashes}) == len(dashes) >= 3


def test_figures_are_those_of_the_json(shown: tuple[str, dict]) -> None:
    """APGR, CPT, AUC and ECE on the page are the JSON's, rounded; so is every source's row."""
    page, figures = Page(shown[0]), shown[1]
    overall = figures["overall"]
    assert page.cards["APGR"] == f"{overall['apgr']:.3f}"
    for x in (50, 80, 95):
        assert page.cards[f"CPT{x}: to large for {x}\u00a0% of the gap"] == f"{overall[f'cpt{x}']:.1f} %"
    sources = {"all prompts": overall, **figures["by_source"]}
    for name, scores in sources.items():
        cells = page.row(name)
        assert cells[1] == str(scores["n"])
        told = [scores["apgr"], scores["auc"], *scores["ece"].values()]
        assert [cells[4], *cells[9:]] == ["–" if t is None else f"{t:.3f}" for t in told]
    assert page.row("S")[5] == f"{overall['ece']['S']:.3f}"


def test_the_curve_in_the_table_ends_at_the_fixed_models(shown: tuple[str, dict]) -> None:
    """At 0 % all are small's mean, at 100 % all are large's; the same of cost."""
    page, overall = Page(shown[0]), shown[1]["overall"]
    saved = "95.0\u00a0%"
    assert page.row("0\u00a0%")[1:] == [f"{overall['small_mean']:.4f}"] * 3 + ["0.0\u00a0%", "0.1", saved]
    assert page.row("100\u00a0%")[1:] == [f"{overall['large_mean']:.4f}"] * 3 + ["100.0\u00a0%", "2", "0.0\u00a0%"]


def test_intervals_hold_the_figures(shown: tuple[str, dict]) -> None:
    """The 95 % interval of APGR is on its card and around it."""
    text = Page(shown[0]).text
    low, high = re.search(r"95\u00a0%: (\d\.\d+) to (\d\.\d+)\. Random 0\.5", text).groups()
    assert float(low) < shown[1]["overall"]["apgr"] < float(high)


def test_a_prompt_is_text_and_nothing_else(shown: tuple[str, dict]) -> None:
    """A hostile prompt among the worst misses is shown as written, without what hides or reorders text."""
    page = Page(shown[0])
    (quoted,) = [row[-1] for row in page.rows if row[0].startswith("id7src<")]
    assert quoted == HOSTILE.replace("\u202e", "\ufffd").replace("\x00", "\ufffd")
    assert "<script" not in shown[0]


def test_prompts_can_be_left_out(world: World) -> None:
    """With `--no-examples` no word of a prompt is on the page; ids and figures stay."""
    html, _ = world.run("--no-examples")
    assert "secretword" not in html
    assert "alert" not in html
    (row,) = [row for row in Page(html).rows if row[0].startswith("id7src<")]
    assert row[2] == "+1.00"


def test_where_it_comes_from(world: World, shown: tuple[str, dict]) -> None:
    """Digest, date, files, row count and a command line that a shell takes back are on the page; the same run, the
    same bytes."""
    page = Page(shown[0])
    assert re.search(r"sha256:[0-9a-f]{64}", page.text)
    assert "2030-01-02" in page.text
    assert "140 prompts that both models answered, of 140" in page.text
    assert f"'{world.outcomes}'" in page.text
    assert "--small S --large L" in page.text
    assert page.row("other.jsonl")[1:] == ["80", "0" * 64]
    assert world.run()[0] == shown[0]


def test_a_file_that_the_artefact_has_seen_is_pointed_out(
    world: World, shown: tuple[str, dict], tmp_path: Path
) -> None:
    """Figures on training rows flatter; the page says so, and only then."""
    own = World(tmp_path)
    own.fit_on(File("held out.jsonl", hashlib.sha256(own.outcomes.read_bytes()).hexdigest(), 80))
    assert "was fitted on held out.jsonl" in own.run()[0]
    assert "was fitted on held out.jsonl" not in shown[0]


def test_a_model_that_the_artefact_does_not_know_is_pointed_out(tmp_path: Path) -> None:
    """It is scored as its tier, which a reader has to know."""
    own = World(tmp_path)
    own.outcomes.write_text("\n".join(map(line, examples())).replace('"S"', '"stranger"'))
    html, _ = own.run("--small", "stranger")
    assert "stranger: scored as a typical model of its tier" in Page(html).text


@pytest.mark.parametrize("count", [1, 20])
def test_too_few_rows_still_make_a_page(tmp_path: Path, count: int) -> None:
    """Without figures and without costs the page says why."""
    own = World(tmp_path)
    own.outcomes.write_text("\n".join(map(line, examples(count, cost=False))))
    text = Page(own.run()[0]).text
    for part in (
        "fewer than 50 prompts",
        "Costs are not shown",
        "Not measured",
        "2 more sources" if count > 1 else "1 more source",
    ):
        assert part in text


def test_a_page_that_cannot_be_written_is_an_error(world: World) -> None:
    """The message names the file."""
    artefact, page = world.folder / "model.artefact", world.folder / "nowhere" / "page.html"
    arguments = ["--model", str(artefact), "--small", "S", "--large", "L", "--report", str(page)]
    result = RUNNER.invoke(world.app, [str(world.outcomes), *arguments])
    assert "nowhere" in str(result.exception)


def rows(score: list[float], gain: list[float]) -> Rows:
    quality = np.column_stack((np.zeros(len(gain)), gain))
    expected = np.column_stack((np.zeros(len(score)), score))
    made = tuple(Example("x " * (n + 1), {}) for n in range(len(gain)))
    return Rows(made, quality, quality, np.full(quality.shape, 0.5), expected, quality * 2.0)


def test_the_drawn_curve_has_the_area_that_apgr_measures() -> None:
    """Router, random and oracle, ties included, from one set of rows: areas .., 1/2 and the oracle's own."""
    made = rows([0.9, 0.2, 0.2, 0.1], [1.0, 1.0, 0.0, 0.0])
    drawn = tradeoff(made)
    assert drawn.router.quality.tolist() == [0.0, 0.25, 0.375, 0.5, 0.5]
    assert drawn.router.cost is not None
    assert drawn.router.cost.tolist() == [0.0, 0.5, 0.75, 1.0, 1.0]
    assert area(drawn.router.quality / 0.5) == pytest.approx(area(recovered(made.score, made.gain)))
    assert area(drawn.random.quality / 0.5) == pytest.approx(0.5)
    assert drawn.oracle_apgr == pytest.approx((0.25 + 0.75 + 1.0 + 1.0) / 4)


def test_reliability_bins_hold_every_row_and_give_the_ece() -> None:
    """Ten bins of equal size whose gaps, weighed by size, are the calibration error; intervals hold the share."""
    rng = np.random.default_rng(0)
    p = rng.random(95)
    true = (rng.random(95) < p).astype(float)
    told = reliability("m", p, true)
    assert [b.rows for b in told.bins] == [10] * 5 + [9] * 5
    assert sum(b.rows * abs(b.said - b.true) for b in told.bins) / 95 == pytest.approx(ece(p, true)) == told.ece
    assert all(0.0 <= b.low <= b.true <= b.high <= 1.0 for b in told.bins)
    assert told.brier == pytest.approx(np.mean((p - true) ** 2))


def test_misses_are_the_rows_that_were_most_wrong() -> None:
    """Underestimated and overestimated apart, worst first; a row that was right is neither."""
    worst = worst_misses(rows([0.1, 0.9, 0.5, 0.2], [1.0, 0.0, 0.5, 0.8]), 2)
    assert (worst.too_low, worst.too_high) == ((0, 3), (1,))


def test_shuffling_what_the_router_goes_by_costs_apgr_and_the_rest_nothing() -> None:
    """Heads that read the length alone lose by `size` and by no other group."""
    made = examples(120)
    quality = np.array([[e.outcomes["S"].quality, 1.0] for e in made])
    estimator = TrainedEstimator(model())
    evaluated = Rows(tuple(made), quality, quality, quality, quality, None)
    found = importance(evaluated, estimator, small="S", large="L", rng=np.random.default_rng(0))
    assert found is not None
    assert found.groups[0].group == "size"
    assert found.groups[0].low > 0.05
    assert all(one.fall == one.low == one.high == 0.0 for one in found.groups[1:])
    assert {WORDS, CHARS} < {one.group for one in found.groups}


def test_every_dense_feature_is_in_one_group() -> None:
    """None is left out and none is shuffled twice."""
    assert sorted(index for group in feature_groups().values() for index in group) == list(range(DENSE))


def test_a_long_prompt_keeps_its_beginning_and_its_end() -> None:
    """The question often comes last."""
    short = shorten("begin " + "x" * 5000 + " end")
    assert len(short) < 400
    assert short.startswith("begin")
    assert short.endswith(" end")


def test_labels_stay_inside_the_picture() -> None:
    """A mark at the right edge is written to its left; a title is escaped."""
    frame = Frame(Axis("x", 0.0, 1.0), Axis("y", 0.0, 1.0))
    figure = draw(Chart("c", "a < b", "told", frame, marks=[Mark("fixed", 1.0, 0.5, "always large")]))
    assert "a &lt; b" in figure
    texts = ET.fromstring(re.search(r"<svg.*</svg>", figure, re.DOTALL)[0]).iter("text")
    (label,) = [text for text in texts if text.text == "always large"]
    assert label.get("text-anchor") == "end"


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.677, 0.865), (-0.08, 0.06), (2.9e-5, 1.5e-2), (3.0, 70.0)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    """Three to eleven ticks, evenly spaced, between the ends."""
    ticks = Axis("x", low, high).ticks()
    assert 3 <= len(ticks) <= 11
    assert low - 1e-9 <= ticks[0] < ticks[-1] <= high + 1e-9
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


@pytest.mark.parametrize(("low", "high"), [(2.9e-5, 1.5e-2), (0.8, 30.0), (0.02, 0.9)])
def test_ticks_of_a_logarithmic_axis_are_round_and_inside(low: float, high: float) -> None:
    """Two to eight, each one digit and zeros; equal ratios lie equally far apart."""
    axis = Axis("x", low, high, log=True)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 8
    assert all(low <= tick <= high and float(f"{tick:.0e}") == pytest.approx(tick) for tick in ticks)
    assert axis.place(2 * low) - axis.place(low) == pytest.approx(axis.place(high) - axis.place(high / 2))


def test_the_interval_of_apgr_covers_and_narrows_with_rows() -> None:
    """It holds the figure of the rows, is about 1/sqrt(n) wide, and there is none without a gap or with few rows."""
    rng = np.random.default_rng(1)

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        score = rng.random(count)
        return score, (rng.random(count) < 0.2 + 0.5 * score).astype(float)

    widths = []
    for count in (200, 3200):
        score, gain = drawn(count)
        sure = uncertainty(score, gain, np.random.default_rng(0))
        assert sure is not None
        assert sure.apgr.low < area(recovered(score, gain)) < sure.apgr.high
        assert all(low <= high for low, high in zip(sure.low, sure.high, strict=True))
        widths.append(sure.apgr.high - sure.apgr.low)
    assert 2.5 < widths[0] / widths[1] < 6.0
    score, gain = drawn(60)
    assert uncertainty(score[:40], gain[:40], rng) is None
    assert uncertainty(score, -gain, rng) is None


def test_prompts_with_equal_scores_are_neither_luck_nor_skill() -> None:
    """One score for all is random mixing, whatever is drawn."""
    sure = uncertainty(np.zeros(100), np.repeat([1.0, 0.0], 50), np.random.default_rng(0))
    assert sure is not None
    assert (sure.apgr.low, sure.apgr.high) == pytest.approx((0.5, 0.5))


def test_weights_are_those_of_the_linear_member() -> None:
    """Length alone, away from small: one row, the head's weight through blend and calibration."""
    (weight,) = top_weights(TrainedEstimator(model()), small="S", large="L", most=5)
    assert weight.feature == "words, logarithm"
    assert weight.small == pytest.approx(-8.0 * 0.25 * 4.0)
    assert weight.large == 0.0
    assert weight.towards_large == pytest.approx(8.0)


@pytest.mark.parametrize(
    "name", ["share_negation", "says___", "says_of_the_following", "opens_which", "log_chars", "wh"]
)
def test_a_feature_is_named_in_words(name: str) -> None:
    """No prefix of the code is left, and no name is empty."""
    told = spelled(name)
    assert told
    assert told != name
    assert not told.startswith(("share_", "says_", "opens_", "log_"))
    assert "“”" not in told
