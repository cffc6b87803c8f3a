"""What carrying out a capacity plan would change, and what it refuses to."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
import yaml

from router.backends.aws.control.provisioned import Provisioned
from router.sim.capacity.changes import Changes, changes
from router.sim.capacity.plan import Plan, read_plan

MODEL = "anthropic.claude-3-haiku-20240307-v1:0"
ZONE = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 4, 1, 12, 0, tzinfo=ZONE)
NIGHT = datetime(2026, 4, 1, 23, 0, tzinfo=ZONE)
BASE = {"commitment": "one-month", "units": 4, "hourly_usd": 1.5}
DAY = {"commitment": "none", "units": 3, "hourly_usd": 2.0, "hours": [{"days": ["wed"], "from": 8, "to": 18}]}
PLAN: dict[str, Any] = {
    "kind": "capacity-plan",
    "version": 1,
    "made_on": "2026-03-31",
    "model": "haiku",
    "timezone": "Europe/Berlin",
    "unit": {"input": 10000.0, "output": 2000.0},
    "expected": {
        "on_demand_usd_per_hour": 12.0,
        "usd_per_hour": {"mean": 9.0, "low": 8.0, "high": 10.0},
        "saving_ratio": {"mean": 0.25, "low": 0.17, "high": 0.33},
    },
    "break_even": {"utilisation": {"none": 0.6}, "demand": 0.55},
    "assumptions": {
        "on_demand_usd_per_mtok": {"input": 0.99, "output": 0.99},
        "scale": 1.0,
        "hourly_usd": {"none": 2.0},
        "lot": 1,
        "schedule": "week",
    },
    "input": {"kind": "log", "name": "s", "sha256": "ab" * 32, "begins": "a", "ends": "b", "calls": 1},
}


def plan(*purchases: dict[str, Any]) -> Plan:
    """With these purchases."""
    return read_plan("plan.yaml", yaml.safe_dump({**PLAN, "purchases": list(purchases)}))


def there(units: int, commitment: str | None = None, name: str = "router-none-1", model: str = MODEL) -> Provisioned:
    """Bought already."""
    arn = f"arn:aws:bedrock:us-east-1:123456789012:provisioned-model/{name}"
    return Provisioned(arn, name, "InService", units, units, f"arn:x::foundation-model/{model}", 0.0, commitment)


def found(of: Plan, *have: Provisioned, at: datetime = NOON) -> Changes:
    """The changes at a time."""
    return changes(of, "digest", MODEL, have, at=at)


def test_what_is_missing_is_bought_under_its_commitment() -> None:
    """A month of four units obliges to 730 hours of them; units by the hour oblige to nothing."""
    by_day, base = found(plan(BASE, DAY)).creations
    assert (base.order.units, base.hourly_usd, base.term_usd) == (4, 6.0, 4380.0)
    assert base.order.commitment is not None
    assert base.order.commitment.value == "OneMonth"
    assert (by_day.order.units, by_day.order.commitment, by_day.term_usd) == (3, None, None)


def test_a_plan_carried_out_changes_nothing_the_second_time() -> None:
    """What is there counts, whoever bought it."""
    todo = found(plan(BASE, DAY), there(4, "OneMonth", "by-hand"), there(3))
    assert todo.is_empty
    assert len(todo.kept) == 2


def test_units_by_the_hour_are_given_back_after_their_hours() -> None:
    """At night the day's units go, and what is committed stays."""
    todo = found(plan(BASE, DAY), there(4, "OneMonth", "month"), there(3), at=NIGHT)
    assert [one.units for one in todo.deletions] == [3]
    assert todo.creations == ()
    assert [one.name for one in todo.kept] == ["month"]


@pytest.mark.parametrize(
    "have", [there(3, name="by-hand"), there(3, "OneMonth", "router-one-month-1")], ids=["by hand", "committed"]
)
def test_what_no_plan_bought_and_what_is_committed_is_never_given_back(have: Provisioned) -> None:
    """It is told as too many, and left alone."""
    todo = found(plan(), have)
    assert todo.deletions == ()
    assert todo.left == (have,)


def test_no_more_goes_than_is_too_many() -> None:
    """Two of five units are wanted: giving back all five would leave too few."""
    todo = found(plan({**DAY, "units": 2}), there(5))
    assert todo.deletions == ()
    assert [one.units for one in todo.left] == [5]


def test_other_models_and_what_failed_do_not_count() -> None:
    """Units of another model serve nothing here."""
    failed = msgspec.structs.replace(there(3), status="Failed")
    todo = found(plan(DAY), there(3, model="other.model-v1"), failed)
    assert [one.order.units for one in todo.creations] == [3]


def test_trying_again_in_the_same_hour_is_the_same_order() -> None:
    """The token is Bedrock's to tell a repetition by; another hour, plan or stock is another order."""
    (first,) = found(plan(DAY)).creations
    assert found(plan(DAY), at=NOON.replace(minute=30)).creations == (first,)
    (later,) = found(plan(DAY), at=NOON.replace(hour=13)).creations
    (more,) = found(plan(DAY), there(1)).creations
    assert len({first.order.token, later.order.token, more.order.token}) == 3
