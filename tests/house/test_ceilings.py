"""The house stays small enough to walk through, and holds nothing it should not."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "router").rglob("*.py"))
FILE_LINES, FUNCTION_LINES, PACKAGE_FILES = 350, 55, 12


def test_no_file_is_over_its_ceiling() -> None:
    """A file is one thought."""
    long = {str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(p.read_text().splitlines())) > FILE_LINES}
    assert long == {}


def test_no_function_is_a_page() -> None:
    """Signature, docstring and body together."""
    long = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    long[f"{path.relative_to(ROOT)}:{node.name}"] = lines
    assert long == {}


def test_no_package_is_over_its_ceiling() -> None:
    """Not counting what says the package's question."""
    files = Counter(str(p.parent.relative_to(ROOT)) for p in SOURCES if p.name != "__init__.py")
    assert {name: count for name, count in files.items() if count > PACKAGE_FILES} == {}


def test_no_name_that_says_nothing() -> None:
    """A file is called after what it holds."""
    empty = {"utils", "util", "helpers", "common", "misc", "manager", "base"}
    assert [str(p.relative_to(ROOT)) for p in SOURCES if p.stem in empty] == []


def test_every_package_says_its_question() -> None:
    """Theory lives in the docstring of `__init__.py`."""
    packages = [p for p in SOURCES if p.name == "__init__.py"]
    assert [str(p.parent.name) for p in packages if not ast.get_docstring(ast.parse(p.read_text()))] == []


def test_nothing_is_ever_unpickled() -> None:
    """Loading what a stranger wrote must not run code."""
    loaders = re.compile(r"^\s*(?:import|from) (?:pickle|marshal|shelve|dill|joblib)\b|allow_pickle=True", re.M)
    assert [str(p.relative_to(ROOT)) for p in SOURCES if loaders.search(p.read_text())] == []


@pytest.mark.parametrize("lock", sorted((ROOT / "locks").glob("*.txt")), ids=lambda p: p.name)
def test_locks_hold_hashes_and_no_index(lock: Path) -> None:
    """Every pin has its hashes; where it is fetched from is the machine's affair."""
    text = lock.read_text()
    pins = re.findall(r"^[a-zA-Z0-9_.-]+==[^\n]*\\\n((?:    --hash=sha256:[0-9a-f]{64}[^\n]*\n)+)", text, re.M)
    assert len(pins) == len(re.findall(r"^[a-zA-Z0-9_.-]+==", text, re.M))
    assert not re.search(r"https?://|--index-url|--extra-index-url|--find-links", text)
