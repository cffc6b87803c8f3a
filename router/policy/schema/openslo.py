"""What an OpenSLO v1 document may say, as far as a promise is read out of it (the specification is on openslo.com)."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic_core import ErrorDetails

from router.policy.schema.json import wording
from router.policy.schema.values import Spec, Text

API_VERSION = "openslo/v1"
Kind = Literal["SLO", "SLI", "Service", "DataSource", "AlertPolicy", "AlertCondition", "AlertNotificationTarget"]


class Metadata(Spec):
    """Name and free marks of an object; what other tools write beside them is theirs."""

    model_config = ConfigDict(extra="ignore")

    name: Text
    labels: dict[str, Any] = Field(default_factory=dict)
    annotations: dict[str, Any] = Field(default_factory=dict)


class Header(Spec):
    """What every object begins with."""

    model_config = ConfigDict(extra="ignore")

    api_version: Literal["openslo/v1"] = Field(alias="apiVersion")
    kind: Kind
    metadata: Metadata


class WindowSpec(Spec):
    """A rolling window, or one that begins with a day of the calendar."""

    duration: Annotated[str, Field(pattern=r"^[0-9]+[a-zA-Z]$")]
    is_rolling: bool | None = Field(None, alias="isRolling")
    calendar: dict[str, Any] | None = None


class ThresholdSpec(Spec):
    """One objective: which values are good, and for which share."""

    display_name: str | None = Field(None, alias="displayName")
    op: Literal["lte", "lt", "gte", "gt"] | None = None
    value: float | None = None
    target: Annotated[float, Field(ge=0, lt=1)] | None = None
    target_percent: Annotated[float, Field(ge=0, lt=100)] | None = Field(None, alias="targetPercent")
    time_slice_target: float | None = Field(None, alias="timeSliceTarget")
    time_slice_window: Any = Field(None, alias="timeSliceWindow")
    indicator: Any = None
    indicator_ref: Text | None = Field(None, alias="indicatorRef")
    composite_weight: float | None = Field(None, alias="compositeWeight")


class SliSpec(Spec):
    """Where an indicator is measured. The router measures for itself; only the unit of a threshold is read."""

    description: str | None = None
    threshold_metric: dict[str, Any] | None = Field(None, alias="thresholdMetric")
    ratio_metric: dict[str, Any] | None = Field(None, alias="ratioMetric")


class InlineSli(Spec):
    """An indicator written into its SLO."""

    metadata: Metadata | None = None
    spec: SliSpec


class SloSpec(Spec):
    """What is promised."""

    description: str | None = None
    service: str | None = None
    indicator: InlineSli | None = None
    indicator_ref: Text | None = Field(None, alias="indicatorRef")
    time_window: Annotated[tuple[WindowSpec, ...], Field(min_length=1, max_length=1)] | None = Field(
        None, alias="timeWindow"
    )
    budgeting_method: Literal["Occurrences", "Timeslices", "RatioTimeslices"] | None = Field(
        None, alias="budgetingMethod"
    )
    objectives: Annotated[tuple[ThresholdSpec, ...], Field(min_length=1)]
    alert_policies: tuple[Any, ...] = Field((), alias="alertPolicies")


class SloObject(Header):
    """A whole SLO."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["SLO"]
    spec: SloSpec


class SliObject(Header):
    """A whole SLI."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["SLI"]
    spec: SliSpec


@cache
def _schema_of(model: type[Header]) -> dict[str, Any]:
    return model.model_json_schema(by_alias=True)


def openslo_wording(model: type[Header], error: ErrorDetails) -> str:
    """One schema error of an OpenSLO object as a sentence, with the words of OpenSLO."""
    if error["type"] == "string_pattern_mismatch":
        return "expected a duration such as 30d or 4w"
    return wording(error, _schema_of(model))
