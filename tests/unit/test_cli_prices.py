"""`router prices`: what models cost, and what a request does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from router.cli.main import app
from router.domain.errors import RouterError


def run(*args: object) -> Result:
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, ["prices", *map(str, args)])


def rows(*args: object) -> dict[str, dict[str, Any]]:
    """By model."""
    return {row["model"]: row for row in json.loads(run(*args, "--json").stdout)}


def test_a_request_is_priced_in_every_tier() -> None:
    """Claude 3.5 Haiku, 10,000 input of which 9,000 come from the cache, 200 output: 0.0008 + 0.00072 + 0.0008; half of
    it in a batch."""
    one = rows("claude-3.5-haiku", "--in", 10_000, "--cached", 9_000, "--out", 200)
    (row,) = one.values()
    assert row["request_usd"]["default"] == pytest.approx(0.00232)
    assert row["request_usd"]["batch"] == pytest.approx(0.00116)
    assert row["source"] == "shipped:2025-07-20"
    assert row["cited"].startswith("aws.amazon.com/bedrock/pricing")


def test_models_are_found_by_a_part_of_any_of_their_names() -> None:
    """As people write it, as Bedrock does, or by a piece."""
    llama = "meta.llama3-1-70b-instruct-v1:0"
    assert list(rows("llama-3.1-70b")) == list(rows("llama3-1-70b")) == [llama]
    assert llama in rows("LLAMA")
    assert len(rows()) > 50


def test_the_table_has_tiers_and_where_figures_are_from() -> None:
    """One line a tier, and the publication below."""
    shown = run("nova-pro").stdout
    assert [word for line in shown.splitlines() for word in line.split()[:2] if word == "optimized"]
    assert "priority" in shown
    assert "convo-lang/convo-lang" in shown
    assert "priority" not in run().stdout.partition("tiers of Bedrock")[0]


def test_a_name_that_nobody_has() -> None:
    """Nothing to show is exit status 1."""
    result = run("claude-99")
    assert (result.exit_code, result.stderr) == (1, "no price of a model like claude-99\n")


def test_a_file_of_litellms(tmp_path: Path) -> None:
    """Its rows are shown in place of what ships; one that cannot be read is told."""
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"gpt-9": {"input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6}}))
    (row,) = rows("--litellm", file, "--in", 1_000, "--out", 100).values()
    assert (row["model"], row["source"], row["request_usd"]) == ("gpt-9", "litellm", {"default": 0.0028})
    broken = run("--litellm", tmp_path / "none.json")
    assert isinstance(broken.exception, RouterError)
    assert str(broken.exception).endswith("none.json cannot be read: No such file or directory")


def test_more_cached_than_there_is() -> None:
    """The error names both flags."""
    result = run("haiku", "--cached", 5)
    assert isinstance(result.exception, RouterError)
    assert "--cached 5: a request of 0 input tokens (--in) has no more to read" in str(result.exception)
