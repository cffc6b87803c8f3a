"""How single values are spelled in a policy document: durations, ratios, names, lists."""

from __future__ import annotations

import math
import re
from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

_UNIT_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*(ms|s|m|h|d|w)")
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,9})?)\s*%")


_SECONDS_BELIEVED = 30.0
_SHORT_S = 0.1


def _day(value: str) -> str:
    try:
        date.fromisoformat(value)
    except ValueError:
        raise PydanticCustomError("day", "expected a date such as 2026-03-31") from None
    return value


Day = Annotated[str, AfterValidator(_day)]
"""A date, as ISO 8601 writes it."""


class Spec(BaseModel):
    """Base of everything a document may hold: unknown fields are refused, values keep their YAML type."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def read_duration(value: Any) -> float:
    """Seconds out of `500ms`, `30s`, `2m`, `1h`, `30d`, `4w`, or a plain number of seconds."""
    if isinstance(value, str) and (found := _DURATION.fullmatch(value.strip())):
        return round(float(found[1]) * _UNIT_S[found[2]], 12)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e12:
        return float(value)
    raise PydanticCustomError("duration", "expected a duration such as 500ms, 30s, 2m, 1h or 30d")


def read_short_wait(value: Any) -> float:
    """A wait that every request may have to bear: at most 100 ms."""
    seconds = read_duration(value)
    if seconds > _SHORT_S:
        raise PydanticCustomError(
            "short_wait",
            "{value} is too long: every request of a crowd waits for it; write 0 to 100ms, such as 3ms",
            {"value": duration_text(seconds)},
        )
    return seconds


def read_threshold(value: Any) -> float:
    """A duration that a latency is held to: seconds without a unit are believed only where they are few."""
    seconds = read_duration(value)
    if not isinstance(value, str) and seconds >= _SECONDS_BELIEVED:
        raise PydanticCustomError(
            "threshold", "{value} has no unit: write {value}ms or {value}s", {"value": f"{seconds:g}"}
        )
    return seconds


def read_ratio(value: Any) -> float:
    """A share in [0, 1] out of `0.9` or `90%`."""
    number: float = math.nan
    if isinstance(value, str) and (found := _PERCENT.fullmatch(value.strip())):
        number = round(float(found[1]) / 100, 12)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value) if abs(value) < 1e9 else math.nan
    if not 0 <= number <= 1:
        raise PydanticCustomError("ratio", "expected a share such as 0.9 or 90%")
    return number


def read_share(value: Any) -> float:
    """A share above 0."""
    ratio = read_ratio(value)
    if ratio <= 0:
        raise PydanticCustomError("share", "expected a share above 0, such as 0.02 or 2%")
    return ratio


def read_percent(value: Any) -> float:
    """A number of percent out of `5` or `5%`."""
    if isinstance(value, str) and (found := _PERCENT.fullmatch(value.strip())):
        return float(found[1])
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 1:
        return float(value)
    raise PydanticCustomError("percent", "expected percent such as 5 or 5%; below 1 with its sign, such as 0.5%")


def read_target(value: Any) -> float:
    """A promised share, which must leave an error budget."""
    ratio = read_ratio(value)
    if not 0 < ratio < 1:
        raise PydanticCustomError("target", "a target lies above 0 and below 100%: there must be an error budget")
    return ratio


def _listed(value: Any) -> Any:
    """One text stands for a list of one."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


_TIME_JSON = {"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,9})? *(ms|[smhdw])$"}
_SHARE_JSON = {"type": "string", "pattern": r"^[0-9]{1,3}(\.[0-9]{1,9})? *%$"}
_WAIT_JSON = {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1e12}, _TIME_JSON]}
_SHORT_JSON = {"anyOf": [{"type": "number", "minimum": 0, "maximum": _SHORT_S}, _TIME_JSON]}
_DURATION_JSON = {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1e12}, _TIME_JSON]}
_RATIO_JSON = {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, _SHARE_JSON]}
_SHARE_ABOVE_0_JSON = {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1}, _SHARE_JSON]}
_TARGET_JSON = {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, _SHARE_JSON]}
_TEXT_JSON = {"type": "string", "minLength": 1, "maxLength": 1024}
PERCENT_JSON = {
    "anyOf": [
        {"type": "number", "minimum": 1, "maximum": 100},
        {"type": "string", "pattern": r"^[0-9]{1,2}(\.[0-9]{1,9})? *%$"},
    ]
}
_NAMES_JSON = {"anyOf": [_TEXT_JSON, {"type": "array", "items": _TEXT_JSON}]}

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
URL = r"^https?://[^\s/]+(/\S*)?$"
ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
Text = Annotated[str, Field(min_length=1, max_length=1024)]
Name = Annotated[str, Field(pattern=NAME)]
Wait = Annotated[float, BeforeValidator(read_duration), WithJsonSchema(_WAIT_JSON)]
ShortWait = Annotated[float, BeforeValidator(read_short_wait), WithJsonSchema(_SHORT_JSON)]
Duration = Annotated[float, Field(gt=0), BeforeValidator(read_duration), WithJsonSchema(_DURATION_JSON)]
Threshold = Annotated[float, Field(gt=0), BeforeValidator(read_threshold), WithJsonSchema(_DURATION_JSON)]
Ratio = Annotated[float, BeforeValidator(read_ratio), WithJsonSchema(_RATIO_JSON)]
Share = Annotated[float, BeforeValidator(read_share), WithJsonSchema(_SHARE_ABOVE_0_JSON)]
Target = Annotated[float, BeforeValidator(read_target), WithJsonSchema(_TARGET_JSON)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_listed), WithJsonSchema(_NAMES_JSON)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Amount = Annotated[float, Field(ge=0, le=1e12)]


def duration_text(seconds: float) -> str:
    """A duration in the largest unit that leaves a whole number, else in seconds or milliseconds."""
    for unit in ("d", "h", "m"):
        count = seconds / _UNIT_S[unit]
        if count >= 1 and count == round(count):
            return f"{count:g}{unit}"
    return f"{seconds:g}s" if seconds >= 1 or seconds == 0 else f"{seconds * 1e3:g}ms"


def ratio_text(ratio: float) -> str:
    """A share as a percentage."""
    return f"{round(ratio * 100, 6):g}%"
