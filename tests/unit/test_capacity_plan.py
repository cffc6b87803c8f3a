"""The plan file: what is written is read again, and what is wrong in it is told with its line."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from router.domain.errors import PolicyError
from router.sim.capacity.days import WEEK
from router.sim.capacity.offers import Commitment
from router.sim.capacity.plan import Plan, Purchase, Window, read_plan, write_plan

DIGEST = "ab" * 32
PLAN: dict[str, Any] = {
    "kind": "capacity-plan",
    "version": 1,
    "made_on": "2026-03-31",
    "model": "llama-3.1-70b",
    "deployment": "large-reserved",
    "region": "us-west-2",
    "timezone": "Europe/Berlin",
    "unit": {"input": 10000.0, "output": 2000.0},
    "purchases": [
        {"commitment": "one-month", "units": 4, "hourly_usd": 1.5},
        {
            "commitment": "none",
            "units": 3,
            "hourly_usd": 2.0,
            "hours": [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": 8, "to": 18}],
        },
    ],
    "expected": {
        "on_demand_usd_per_hour": 12.0,
        "usd_per_hour": {"mean": 9.0, "low": 8.0, "high": 10.0},
        "saving_ratio": {"mean": 0.25, "low": 0.17, "high": 0.33},
    },
    "break_even": {"utilisation": {"one-month": 0.4, "none": 0.6}, "demand": 0.55},
    "assumptions": {
        "on_demand_usd_per_mtok": {"input": 0.99, "output": 0.99},
        "scale": 1.0,
        "hourly_usd": {"none": 2.0, "one-month": 1.5},
        "lot": 1,
        "schedule": "week",
        "notes": ["A note: with a colon, a # and an é"],
    },
    "input": {
        "kind": "log",
        "name": "state",
        "sha256": DIGEST,
        "begins": "2026-03-01T00:00Z",
        "ends": "2026-03-29T00:00Z",
        "calls": 123456,
    },
}


def text(**changes: Any) -> str:
    """The plan with other fields on top."""
    return yaml.safe_dump({**PLAN, **changes}, sort_keys=False)


def read(**changes: Any) -> Plan:
    return read_plan("plan.yaml", text(**changes))


def test_what_is_written_is_read_again() -> None:
    """To the last field, and once more the same bytes."""
    plan = read()
    written = write_plan(plan)
    assert read_plan("plan.yaml", written) == plan
    assert write_plan(read_plan("plan.yaml", written)) == written
    assert written.startswith("# Provisioned capacity to buy")


def windows() -> st.SearchStrategy[Window]:
    hours = st.tuples(st.integers(0, 23), st.integers(1, 24)).filter(lambda pair: pair[0] < pair[1])
    days = st.lists(st.sampled_from(WEEK), min_size=1, unique=True).map(tuple)
    return st.builds(
        lambda day, hour: Window.model_validate({"days": day, "from": hour[0], "to": hour[1]}), days, hours
    )


def purchases() -> st.SearchStrategy[Purchase]:
    units, usd = st.integers(1, 10_000), st.floats(0, 1e4, allow_nan=False)
    committed = st.builds(
        Purchase,
        commitment=st.sampled_from([Commitment.ONE_MONTH, Commitment.SIX_MONTHS]),
        units=units,
        hourly_usd=usd,
    )
    by_hours = st.builds(
        lambda n, price, window: Purchase(commitment=Commitment.NONE, units=n, hourly_usd=price, hours=(window,)),
        units,
        usd,
        windows(),
    )
    return st.one_of(committed, by_hours)


@settings(max_examples=60, deadline=None)
@given(st.lists(purchases(), max_size=6).map(tuple), st.text(min_size=1, max_size=60))
def test_any_plan_survives_its_file(bought: tuple[Purchase, ...], note: str) -> None:
    """Whatever is bought; a note of any text that YAML can hold."""
    plan = read()
    if note.isprintable():
        plan = plan.model_copy(update={"assumptions": plan.assumptions.model_copy(update={"notes": (note,)})})
    plan = plan.model_copy(update={"purchases": bought})
    assert read_plan("plan.yaml", write_plan(plan)) == plan


def test_purchases_of_the_same_hour_add_up() -> None:
    """Four at all hours and three more in office hours, up to but not including the last."""
    plan = read()
    assert [plan.units_at(WEEK[0], hour) for hour in (7, 8, 17, 18)] == [4, 7, 7, 4]
    assert plan.units_at(WEEK[5], 12) == 4


def test_a_plan_may_buy_nothing() -> None:
    """All on demand is an answer too."""
    assert read(purchases=[]).units_at(WEEK[0], 12) == 0


def window(**changes: Any) -> list[dict[str, Any]]:
    hours = {"days": ["mon"], "from": 8, "to": 18, **changes}
    return [{"commitment": "none", "units": 1, "hourly_usd": 1.0, "hours": [hours]}]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "version"),
        ({"kind": "policy"}, "capacity-plan"),
        ({"made_on": "31.3.2026"}, "expected a date"),
        ({"timezone": "Mars/Olympus"}, "no timezone of that name"),
        ({"timezone": "../../etc/passwd"}, "no timezone of that name"),
        ({"unit": {"input": 0, "output": 1.0}}, "greater than 0"),
        ({"unit": {"input": float("inf"), "output": 1.0}}, "unit.input"),
        ({"units": 3}, "unknown field `units`"),
        ({"purchases": [{"commitment": "forever", "units": 1, "hourly_usd": 1.0}]}, "not one of none, one-month"),
        ({"purchases": [{"commitment": "none", "units": 0, "hourly_usd": 1.0}]}, "greater than or equal to 1"),
        ({"purchases": [{"commitment": "none", "units": 1.5, "hourly_usd": 1.0}]}, "a whole number"),
        ({"purchases": window(to=8)}, "`from` must come before `to`"),
        ({"purchases": window(to=25)}, "less than or equal to 24"),
        ({"purchases": window(days=["mon", "mon"])}, "named twice"),
        ({"purchases": window(days=[])}, "at least 1"),
        ({"purchases": window(days=["monday"])}, "`monday` is not one of mon"),
        (
            {"purchases": [{**window()[0], "hours": window()[0]["hours"] * 2}]},
            "overlap",
        ),
        ({"purchases": [{**window()[0], "commitment": "one-month"}]}, "paid at all hours"),
        ({"input": {**PLAN["input"], "sha256": "abc"}}, "64 hexadecimal digits"),
        ({"input": {k: v for k, v in PLAN["input"].items() if k != "calls"}}, "missing required field `calls`"),
        (
            {"expected": {**PLAN["expected"], "usd_per_hour": {"mean": 1.0, "low": 2.0, "high": 1.0}}},
            "`low` is above `high`",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(changes: dict[str, Any], said: str) -> None:
    """File, line and column, and what to write instead."""
    with pytest.raises(PolicyError, match=r"plan\.yaml:\d+:\d+: ") as caught:
        read(**changes)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "broken", ["", "- a\n- list\n", "just text", "a: [", "---\na: 1\n---\nb: 2\n", "kind: !!x y\n"]
)
def test_what_is_no_plan_at_all_is_refused(broken: str) -> None:
    """Empty, torn, of another shape, two documents, a foreign tag."""
    with pytest.raises(PolicyError, match=r"plan\.yaml"):
        read_plan("plan.yaml", broken)
