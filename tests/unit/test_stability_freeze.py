"""Automatic changes that do harm are taken back and held; how tuning stands is told."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from rich.console import Console

from router.cli.policy.status import _view
from router.core.stability.freeze import Change, Freeze, State, World

CALM, BUSY = World(10.0, 1e4, {"large": 1.0}), World(20.0, 2e4, {"large": 1.0})
GOOD, MOVED = {"limit/large": 40.0, "capacity/large": 1.0}, {"limit/large": 4.0, "capacity/large": 1.1}


def played(
    freeze: Freeze, begin: int, end: int, world: World, values: dict[str, float], *, bad: float
) -> list[tuple[int, Change]]:
    """Ten requests a second of which the share `bad` breaks its promise, looked at once a second."""
    changes = []
    for second in range(begin, end):
        for number in range(10):
            freeze.record("chat", [("ttft", 0.99, number >= round(10 * bad))], now=second + number / 10.0)
        if (change := freeze.look(world, values, now=second + 1.0)) is not None:
            changes.append((second, change))
            if change.state is State.FROZEN:
                values = {**values, **change.back}
    return changes


def test_a_burn_right_after_a_move_takes_the_move_back() -> None:
    """A limit cut to a tenth, then three of ten late: within the long window it is back where it was, and what has
    hardly moved is left alone."""
    freeze = Freeze()
    assert played(freeze, 0, 300, CALM, GOOD, bad=0.0) == []
    ((when, change),) = played(freeze, 300, 600, CALM, MOVED, bad=0.6)
    assert when - 300 < 120
    assert (change.state, dict(change.back)) == (State.FROZEN, {"limit/large": 40.0})
    assert "bad in 25 s" in change.reason


@pytest.mark.parametrize(
    "world", [BUSY, replace(CALM, slowness={"large": 2.0}), replace(CALM, others=8.0)], ids=["load", "slow", "others"]
)
def test_a_burn_that_the_world_explains_freezes_nothing(world: World) -> None:
    """More is asked for, a server is slower, others load it: then moving limits and prices is the cure."""
    freeze = Freeze()
    played(freeze, 0, 300, CALM, GOOD, bad=0.0)
    assert played(freeze, 300, 900, world, MOVED, bad=0.6) == []


def test_a_burn_without_a_move_freezes_nothing() -> None:
    """Nothing to take back."""
    freeze = Freeze()
    played(freeze, 0, 300, CALM, GOOD, bad=0.0)
    assert played(freeze, 300, 900, CALM, GOOD, bad=0.6) == []


def test_it_thaws_when_the_class_has_done_well_and_holds_longer_the_next_time() -> None:
    """At least two minutes the first time, twice that when it burns again within the hour."""
    freeze = Freeze()
    played(freeze, 0, 300, CALM, GOOD, bad=0.0)
    ((when, _),) = played(freeze, 300, 400, CALM, MOVED, bad=0.6)
    ((thawed, change),) = played(freeze, 400, 800, CALM, GOOD, bad=0.0)
    assert change.state is State.FREE
    first_s = thawed - when
    assert first_s >= 119
    ((again, _),) = played(freeze, 800, 1000, CALM, MOVED, bad=0.6)
    ((later, _),) = played(freeze, 1000, 1600, CALM, GOOD, bad=0.0)
    assert later - again >= 239


@pytest.mark.parametrize(
    ("world", "bad", "says"), [(BUSY, 0.0, "more is asked for"), (CALM, 0.6, "has not helped")], ids=["world", "futile"]
)
def test_what_is_held_is_let_go_when_the_world_moves_or_it_has_not_helped(world: World, bad: float, says: str) -> None:
    """At once when more is asked for; after a quarter of an hour when the burn goes on all the same, and then it is
    not held again for that burn."""
    freeze = Freeze()
    played(freeze, 0, 300, CALM, GOOD, bad=0.0)
    played(freeze, 300, 400, CALM, MOVED, bad=0.6)
    assert freeze.state is State.FROZEN
    ((_, change),) = played(freeze, 400, 2400, world, GOOD, bad=bad)
    assert (change.state, says in change.reason) == (State.FREE, True)


def test_an_edit_of_the_policy_lets_go() -> None:
    """The operator's word goes before."""
    freeze = Freeze()
    played(freeze, 0, 300, CALM, GOOD, bad=0.0)
    played(freeze, 300, 400, CALM, MOVED, bad=0.6)
    change = freeze.adopt(["chat"])
    assert change is not None
    assert change.state is State.FREE
    assert freeze.adopt(["chat"]) is None


def test_how_tuning_stands_is_told_to_whoever_asks() -> None:
    """Held for which class and why; what is only advised beside what is in force."""
    page = {
        "in_force": "a", "written": "a", "status": {"state": "in_force", "problems": [], "rollouts": []},
        "rollouts": [], "budgets": {},
        "tuning": {
            "state": "frozen", "request_class": "chat", "reason": "ttft burns",
            "advised": [{"what": "limit", "subject": "small", "in_force": 40.0, "advised": 12.0}],
        },
    }  # fmt: skip
    console = Console(width=100)
    with console.capture() as captured:
        console.print(_view(page))
    text = captured.get()
    assert "held for class chat: ttft burns" in text
    assert "40" in text
    assert "12" in text
