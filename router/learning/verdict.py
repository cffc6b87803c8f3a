"""What did the judge say? One number in [0,1] out of what a model wrote, or nothing.

Only the end of it counts: a judge that thinks aloud, or quotes what it was shown, says its verdict last.
"""

from __future__ import annotations

import json
import math
import re

_MOST_CHARS = 4096
"""What is read of a verdict, from its end: more than fits in the tokens that a judge is given."""
_FIELDS = ("quality", "score", "rating")
_RATING = re.compile(r"rating\W{0,4}\s*\[\[\s*(\d{1,2}(?:\.\d{1,3})?)\s*\]\]", re.IGNORECASE)
_LOWEST, _HIGHEST = 1.0, 10.0
"""The scale of `Rating: [[7]]`, which judges of MT-Bench are taught (Zheng et al., NeurIPS 2023)."""
_decoder = json.JSONDecoder()


def read_verdict(text: str) -> float | None:
    """Quality in [0,1]; `None` where the text holds no verdict. Of several JSON objects the last speaks, and where it
    names no quality, none does."""
    text = text[-_MOST_CHARS:].strip()
    last = _last_object(text)
    if last is not None:
        return next((_share(last[field]) for field in _FIELDS if field in last), None)
    ratings = _RATING.findall(text)
    if ratings:
        return _within(float(ratings[-1]), _LOWEST, _HIGHEST)
    return _share(text)


def _last_object(text: str) -> dict[str, object] | None:
    """The last JSON object that is part of no other."""
    last, at = None, text.find("{")
    while at >= 0:
        try:
            value, end = _decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            last = value
        at = text.find("{", end)
    return last


def _share(value: object) -> float | None:
    """A number in [0,1], or text that is one, or percent."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    per = 1.0
    if isinstance(value, str):
        per = 100.0 if value.rstrip().endswith("%") else 1.0
        try:
            value = float(value.rstrip().removesuffix("%"))
        except ValueError:
            return None
    return _within(value, 0.0, per)


def _within(value: float, low: float, high: float) -> float | None:
    """Where a value stands on a scale; `None` outside of it."""
    return (value - low) / (high - low) if math.isfinite(value) and low <= value <= high else None
