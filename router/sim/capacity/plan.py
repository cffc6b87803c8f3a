"""The plan: a file that says what to buy for which hours, on what it rests, and what is expected of it.

It is written by `router capacity advise --plan FILE`, read by people and by whatever carries it out. Reading checks it
all: unknown fields, units that are no units, hours that overlap, figures outside their interval. Purchases that hold at
the same hour add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from router.domain.errors import PolicyError
from router.policy.parse import PolicyErrors, compose, read_node
from router.policy.schema.json import wording
from router.policy.schema.values import Amount, Count, Day, Spec, Text
from router.sim.capacity.days import HOURS, WEEK, Weekday
from router.sim.capacity.offers import Commitment

Ratio = Annotated[float, Field(ge=-1e9, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e12)]
_Hour = Annotated[int, Field(ge=0, le=HOURS)]

_HEAD = """\
# Provisioned capacity to buy, as `router capacity advise` wrote it. Nothing was bought or changed.
#
# purchases    what to hold: units of `unit`, under a commitment (none, one-month, six-months); without `hours` at all
#              hours, with them on these days from the start of hour `from` up to hour `to`, in `timezone`. Purchases
#              that hold at the same hour add up. No purchase: all of it is best bought on demand.
# expected     USD an hour, mean and 95 % interval, on days that the units were not chosen on
# break_even   utilisation from which a unit pays; share of the demand seen down to which the plan pays
# assumptions  what the figures rest on; another price or another demand is another plan
# input        the record: the digest is SHA-256 over time and tokens of every call of the model in it
#
# `router capacity show FILE` reads and checks it.
"""


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise PydanticCustomError("timezone", "no timezone of that name; expected one such as Europe/Berlin") from None
    return value


class Window(Spec):
    """Hours of some days of the week."""

    days: Annotated[tuple[Weekday, ...], Field(min_length=1)]
    """Days of the week, each once."""
    start: _Hour = Field(alias="from")
    """First hour, 0 to 23."""
    end: _Hour = Field(alias="to")
    """The hour that it ends before, 1 to 24."""

    @model_validator(mode="after")
    def _right(self) -> Window:
        if self.start >= self.end:
            raise PydanticCustomError("hours", "`from` must come before `to`; a night is two windows")
        if len(set(self.days)) < len(self.days):
            raise PydanticCustomError("hours", "a day is named twice")
        return self

    def holds(self, day: Weekday, hour: int) -> bool:
        """Whether this hour of this day is inside."""
        return day in self.days and self.start <= hour < self.end


class Purchase(Spec):
    """Units to hold."""

    commitment: Commitment
    """none, one-month or six-months."""
    units: Count
    """How many."""
    hourly_usd: Amount
    """USD an hour of one of them."""
    hours: tuple[Window, ...] = ()
    """When; absent: at all hours."""

    @model_validator(mode="after")
    def _right(self) -> Purchase:
        if self.hours and self.commitment is not Commitment.NONE:
            raise PydanticCustomError("hours", "units under a commitment are paid at all hours: drop `hours`")
        if any(sum(w.holds(day, hour) for w in self.hours) > 1 for day in WEEK for hour in range(HOURS)):
            raise PydanticCustomError("hours", "two windows of one purchase overlap")
        return self

    def holds(self, day: Weekday, hour: int) -> bool:
        """Whether the units are held then."""
        return not self.hours or any(window.holds(day, hour) for window in self.hours)


class Rate(Spec):
    """Tokens a minute."""

    input: Positive
    """Input tokens a minute."""
    output: Positive
    """Output tokens a minute."""


class Tokens(Spec):
    """USD per million tokens."""

    input: Amount
    """USD per million input tokens."""
    output: Amount
    """USD per million output tokens."""


class Interval(Spec):
    """A figure with its 95 % interval."""

    mean: float
    """What is expected."""
    low: float
    """2.5 %."""
    high: float
    """97.5 %."""

    @model_validator(mode="after")
    def _right(self) -> Interval:
        if self.low > self.high:
            raise PydanticCustomError("interval", "`low` is above `high`")
        return self


class Expected(Spec):
    """Money an hour, over all hours."""

    on_demand_usd_per_hour: Amount
    """With nothing reserved."""
    usd_per_hour: Interval
    """With the plan, on demand included."""
    saving_ratio: Interval
    """Share of the first that the plan saves."""


class BreakEven(Spec):
    """From where on it pays."""

    utilisation: dict[Commitment, Amount] = Field(default_factory=dict)
    """By commitment: the share of its time for which a unit must be in full use."""
    demand: Ratio | None = None
    """Share of the demand seen at which the plan costs what nothing reserved would."""


class Assumptions(Spec):
    """What the figures rest on."""

    on_demand_usd_per_mtok: Tokens
    """Price of what the units do not serve."""
    scale: Positive
    """Demand was multiplied by so much."""
    hourly_usd: dict[Commitment, Amount]
    """Prices of a unit that were weighed."""
    lot: Count
    """Units are bought so many at a time."""
    schedule: Literal["flat", "day", "week"]
    """Hours that could differ."""
    notes: tuple[Text, ...] = ()
    """What must be known before it is believed."""


class Record(Spec):
    """Where the demand comes from."""

    kind: Literal["log", "trace"]
    """A decision log of the router, or a workload file."""
    name: Text
    """Its file or directory."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Over time and tokens of every call."""
    begins: Text
    """First whole minute, UTC."""
    ends: Text
    """End of the last whole minute, UTC."""
    calls: Count
    """Calls in it."""


class Plan(Spec):
    """All of a plan file."""

    kind: Literal["capacity-plan"]
    """Says what file this is."""
    version: Literal[1]
    """Of the format."""
    made_on: Day
    """Date."""
    model: Text
    """What the units serve."""
    deployment: Text | None = None
    """Provisioned deployment of the policy that they belong to."""
    region: Text | None = None
    """Where they are bought."""
    timezone: Annotated[str, AfterValidator(_zone)]
    """Of all `hours`."""
    unit: Rate
    """What one unit takes."""
    purchases: tuple[Purchase, ...]
    """What to hold."""
    expected: Expected
    """What it costs."""
    break_even: BreakEven
    """From where on it pays."""
    assumptions: Assumptions
    """What the figures rest on."""
    input: Record
    """Where the demand comes from."""

    def units_at(self, day: Weekday, hour: int) -> int:
        """Units that are held in an hour of the week."""
        return sum(purchase.units for purchase in self.purchases if purchase.holds(day, hour))


def write_plan(plan: Plan) -> str:
    """As a file."""
    document = plan.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    body: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
    return _HEAD + body


def read_plan(file: str, text: str) -> Plan:
    """A plan out of the text of a file; raises `PolicyErrors` with everything that is wrong, by line."""
    trees = compose(file, text)
    if len(trees) != 1:
        raise PolicyError("a plan is one YAML document", file=file, line=1, column=1)
    plan, problems = read_node(file, trees[0].root, Plan.model_validate_json, _wording)
    if plan is None:
        raise PolicyErrors(problems)
    return plan


@cache
def _schema() -> Mapping[str, Any]:
    return Plan.model_json_schema(by_alias=True)


def _wording(error: ErrorDetails) -> str:
    if error["type"] == "string_pattern_mismatch":
        return "expected 64 hexadecimal digits"
    return wording(error, _schema())
