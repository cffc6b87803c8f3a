"""`router evaluate --report`: one page that stands alone, tells what the JSON tells, and never runs what it quotes."""

from __future__ import annotations

import hashlib
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from router.cli.evaluate import evaluate
from router.complexity.artefact import File, Lineage, dump
from tests.unit.evaluated_rows import HOSTILE, examples, line, model

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"})


VOID = {"meta", "wbr"}


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

    def run(self, *more: str, date: str = "2030-01-02") -> tuple[str, dict[str, Any]]:
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
def shown(world: World) -> tuple[str, dict[str, Any]]:
    return world.run()


def test_the_page_stands_alone(shown: tuple[str, dict[str, Any]]) -> None:
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


def test_light_dark_and_print(shown: tuple[str, dict[str, Any]]) -> None:
    """The page follows the reader's scheme and has a style for paper."""
    assert "@media (prefers-color-scheme: dark)" in shown[0]
    assert "@media print" in shown[0]


def test_every_chart_is_xml_with_a_title_and_a_description(shown: tuple[str, dict[str, Any]]) -> None:
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


def test_lines_are_told_apart_without_colour(shown: tuple[str, dict[str, Any]]) -> None:
    """Router, random mixing and oracle carry their names in the picture, and have dashes of their own."""
    (svg,) = re.findall(r'<svg[^>]*aria-labelledby="quality-title.*?</svg>', shown[0], re.DOTALL)
    texts = {text.text for text in ET.fromstring(svg).iter("text")}
    assert {"router", "random mixing", "oracle: knows every gain", "always small", "always large"} <= texts
    dashes = re.findall(r"\.line\.(\w+) \{[^}]*stroke-dasharray: ([\d ]+);", shown[0])
    assert len({dash for _, dash in dashes}) == len(dashes) >= 3


def test_figures_are_those_of_the_json(shown: tuple[str, dict[str, Any]]) -> None:
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


def test_the_curve_in_the_table_ends_at_the_fixed_models(shown: tuple[str, dict[str, Any]]) -> None:
    """At 0 % all are small's mean, at 100 % all are large's; the same of cost."""
    page, overall = Page(shown[0]), shown[1]["overall"]
    saved = "95.0\u00a0%"
    assert page.row("0\u00a0%")[1:] == [f"{overall['small_mean']:.4f}"] * 3 + ["0.0\u00a0%", "0.1", saved]
    assert page.row("100\u00a0%")[1:] == [f"{overall['large_mean']:.4f}"] * 3 + ["100.0\u00a0%", "2", "0.0\u00a0%"]


def test_intervals_hold_the_figures(shown: tuple[str, dict[str, Any]]) -> None:
    """The 95 % interval of APGR is on its card and around it."""
    text = Page(shown[0]).text
    ((low, high),) = re.findall(r"95\u00a0%: (\d\.\d+) to (\d\.\d+)\. Random 0\.5", text)
    assert float(low) < shown[1]["overall"]["apgr"] < float(high)


def test_a_prompt_is_text_and_nothing_else(shown: tuple[str, dict[str, Any]]) -> None:
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


def test_where_it_comes_from(world: World, shown: tuple[str, dict[str, Any]]) -> None:
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
    world: World, shown: tuple[str, dict[str, Any]], tmp_path: Path
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
