"""Patterns that senders bring: matched by an automaton in time linear in the text, never by backtracking.

pydantic-core carries Rust's `regex`, which has no look-around and no back-references for that reason and bounds the
size of what it compiles. Linear is not free: a large automaton takes microseconds for each character (6 us measured
for a counted repetition of 900), so counted repetitions, pattern and text are bounded too. So is what a pattern costs
to compile: each copy of a Unicode class such as `\\w` takes .7 ms.
"""

from __future__ import annotations

import re
from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

MAX_PATTERN = 512
"""Characters of a pattern."""
MAX_TEXT = 16_384
"""Characters that a pattern is tried on; with the other bounds a match takes at most some 30 ms."""
_MAX_REPEATS = 256
_COUNTED = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_VERBOSE = re.compile(r"\(\?[A-Za-z-]*x")
_CLASS_COSTS = ((re.compile(r"\\[wWpP]"), 1500), (re.compile(r"\\[dD]"), 250))
MAX_COST = 100_000
"""What a pattern may cost to compile, in characters: .4 us each as measured, by which the classes are weighed too."""


class Pattern:
    """One compiled pattern."""

    __slots__ = ("_validator",)

    def __init__(self, validator: SchemaValidator) -> None:
        self._validator = validator

    def found_in(self, text: str) -> bool:
        """Whether the pattern is found anywhere in a text of at most `MAX_TEXT` characters."""
        try:
            self._validator.validate_python(text)
        except ValidationError:
            return False
        return True


def cost_of(pattern: str) -> int:
    """What a pattern costs to compile, in characters (see `MAX_COST`); raises `ValueError` that says what to change."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"the pattern is over {MAX_PATTERN} characters: shorten it")
    if _VERBOSE.search(pattern):
        raise ValueError("the flag x is not understood: write the pattern without spaces and comments")
    repeats = 1
    for low, high in _COUNTED.findall(pattern):
        repeats *= max(int(low), int(high or 0), 1)
    if repeats > _MAX_REPEATS:
        raise ValueError(f"counted repetitions such as {{1,9}} multiply to {repeats}, over {_MAX_REPEATS}: use * or +")
    cost = repeats * (len(pattern) + sum(chars * len(kind.findall(pattern)) for kind, chars in _CLASS_COSTS))
    if cost > MAX_COST:
        raise ValueError("too many copies of `\\w` and the like: write [A-Za-z0-9_], or + for a counted repetition")
    return cost


@lru_cache(maxsize=256)
def compiled(pattern: str) -> Pattern:
    """A pattern ready to match; raises `ValueError` that says what to change."""
    cost_of(pattern)
    try:
        return Pattern(SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex")))
    except SchemaError as error:
        problem = [line.strip() for line in str(error).splitlines() if "error:" in line.lower()]
        raise ValueError(f"the pattern cannot be used: {problem[-1] if problem else 'it is not valid'}") from None
