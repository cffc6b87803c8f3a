"""Broken outcomes: the message names the file and the line, and says what would be right."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from router.cli.evaluate import evaluate
from router.cli.train import train
from router.domain.errors import RouterError

GOOD = b'{"id": "a", "source": "s", "prompt": "p", "outcomes": {"m": {"quality": 1.0, "cost_usd": 0.1}}}'


def row(outcome: bytes) -> bytes:
    return b'{"prompt": "p", "outcomes": {"m": ' + outcome + b"}}"


BROKEN = {
    "cut short": (GOOD[:40], "not one JSON object on one line"),
    "not JSON": (b"prompt,quality", "not one JSON object on one line"),
    "two on a line": (GOOD + GOOD, "not one JSON object on one line"),
    "not UTF-8": (GOOD.replace(b'"p"', b'"\xff"'), "not one JSON object on one line"),
    "a list": (b"[" + GOOD + b"]", "Expected `object`, got `array`"),
    "no prompt": (b'{"outcomes": {"m": {"quality": 1}}}', "missing required field `prompt`"),
    "a prompt that is no text": (GOOD.replace(b'"p"', b"7"), "$.prompt"),
    "no outcomes": (b'{"prompt": "p"}', "missing required field `outcomes`"),
    "outcomes of no model": (b'{"prompt": "p", "outcomes": {}}', "name at least one model"),
    "no quality": (row(b'{"cost_usd": 1}'), "missing required field `quality`"),
    "quality as text": (row(b'{"quality": "good"}'), "Expected `float`, got `str`"),
    "quality null": (row(b'{"quality": null}'), "Expected `float`, got `null`"),
    "quality NaN": (row(b'{"quality": NaN}'), "not one JSON object on one line"),
    "quality over 1": (row(b'{"quality": 1.5}'), "quality of m is 1.5, not in [0, 1]"),
    "quality below 0": (row(b'{"quality": -0.1}'), "quality of m is -0.1, not in [0, 1]"),
    "a negative cost": (row(b'{"quality": 1, "cost_usd": -2}'), "cost_usd of m is -2: give USD, 0 or more"),
    "a cost as text": (row(b'{"quality": 1, "cost_usd": "2 USD"}'), "cost_usd"),
    "negative tokens": (row(b'{"quality": 1, "output_tokens": -1}'), "output_tokens of m is -1: give 0 or more"),
    "half a token": (row(b'{"quality": 1, "output_tokens": 1.5}'), "output_tokens"),
    "an id that is a number": (GOOD.replace(b'"a"', b"1"), "$.id"),
}


def message(command: Callable[..., None], *arguments: str) -> str:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, list(arguments))
    assert isinstance(result.exception, RouterError), result.output
    return str(result.exception)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_row_is_named_by_file_and_line(tmp_path: Path, kind: str) -> None:
    """The second file's third line, empty lines counted, by both commands that read outcomes."""
    line, what = BROKEN[kind]
    first, second = tmp_path / "good.jsonl", tmp_path / "rows.jsonl"
    first.write_bytes(GOOD)
    second.write_bytes(b"\n".join((GOOD, b"", line, GOOD)))
    files = (str(first), str(second))
    for told in (
        message(train, *files, "--out", str(tmp_path / "out")),
        message(evaluate, *files, "--model", str(tmp_path / "none"), "--small", "m", "--large", "n"),
        message(evaluate, *files, "--online", "--models", "m,n", "--budget-usd", "1"),
    ):
        assert told.startswith(f"{second}:3: ")
        assert what in told
    assert not (tmp_path / "out").exists()


def test_a_row_of_the_wrong_form_is_shown_the_right_one(tmp_path: Path) -> None:
    """Whoever exported the wrong thing sees what a line looks like."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"question": "p", "answer": "x"}')
    assert '{"prompt": "...", "source": "...", "outcomes": {"MODEL": {"quality": 0 to 1}}}' in message(
        train, str(path), "--out", str(tmp_path / "out")
    )


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("empty.jsonl", b"\n\n", "no outcomes"),
        ("cut.jsonl.gz", gzip.compress(GOOD)[:-9], "cut short or damaged"),
        ("damaged.jsonl.gz", gzip.compress(GOOD)[:-8] + b"\0" * 8, "CRC"),
        ("broken.jsonl.gz", gzip.compress(GOOD + b"\n{"), "broken.jsonl.gz:2: "),
    ],
    ids=["empty", "cut", "damaged", "broken"],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    """Also where it is compressed."""
    path = tmp_path / name
    path.write_bytes(content)
    told = message(train, str(path), "--out", str(tmp_path / "out"))
    assert told.startswith(str(path))
    assert what in told


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The message is the system's."""
    told = message(train, str(tmp_path / "gone.jsonl"), "--out", str(tmp_path / "out"))
    assert "gone.jsonl: No such file" in told
