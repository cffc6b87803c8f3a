"""Whose turn it is among those who wait, and who gives way, case by case."""

from __future__ import annotations

from collections import Counter

from router.core.queueing.fair import Entry
from router.core.queueing.line import Line
from tests.unit.waiting_line import entry, served


def test_a_flood_delays_another_tenant_by_its_share_only() -> None:
    """A thousand of one tenant came first: of two others each second and third grant goes to them."""
    line = Line()
    for _ in range(1000):
        line.add(entry(tenant="flood", due=0.5), 1.0)
    quiet = [entry(tenant=t, due=9.0) for t in ("b", "c") for _ in range(10)]
    for one in quiet:
        line.add(one, 1.0)
    order = [one.tenant for one in served(line, most=30)]
    assert Counter(order) == {"flood": 10, "b": 10, "c": 10}


def test_weights_say_how_work_is_shared() -> None:
    """Twice the weight, twice the work; work, not requests."""
    line = Line()
    for _ in range(200):
        line.add(entry(tenant="gold"), 2.0)
        line.add(entry(tenant="long"), 1.0)
        line.add(entry(tenant="short"), 1.0)
    order = Counter(one.tenant for one in served(line, {"gold": 1.0, "long": 4.0, "short": 1.0}, most=130))
    assert order["gold"] == 2 * order["short"]
    assert abs(order["long"] * 4 - order["short"]) <= 4


def test_who_did_not_wait_saves_nothing_up() -> None:
    """A tenant that comes after a hundred grants to another shares from then on; it does not get a hundred of its own
    first, and the other pays nothing for having been alone."""
    line = Line()
    for _ in range(200):
        line.add(entry(tenant="early"), 1.0)
    served(line, most=100)
    for _ in range(50):
        line.add(entry(tenant="late"), 1.0)
    assert Counter(one.tenant for one in served(line, most=40)) == {"early": 20, "late": 20}


def test_who_has_paused_saves_nothing_up() -> None:
    """A tenant that was served, left, and comes back after others got much shares from then on."""
    line = Line()
    for _ in range(100):
        line.add(entry(tenant="steady"), 1.0)
    line.add(entry(tenant="pausing"), 1.0)
    served(line, most=60)
    for _ in range(20):
        line.add(entry(tenant="pausing"), 1.0)
    assert Counter(one.tenant for one in served(line, most=20)) == {"steady": 10, "pausing": 10}


def test_who_is_nearly_too_late_goes_before_its_turn_where_fairness_allows() -> None:
    """An urgent one overtakes tenants whose turn it is, and a tenant all of whose requests say so gets a head start of
    four requests and no more."""
    line = Line()
    for i in range(20):
        line.add(entry(tenant="calm", due=100.0 + i), 1.0)
    line.add(entry(tenant="calm2", due=100.0), 1.0)
    urgent = [entry(tenant="urgent", due=1.0 + i) for i in range(20)]
    for one in urgent:
        one.urgent_at = 0.0
        line.add(one, 1.0)
    order = [one.tenant for one in served(line, now=1.0, most=20)]
    assert order[0] == "urgent"
    assert order[:6].count("urgent") == 5
    assert order.count("calm") >= 7


def test_past_one_that_cannot_be_taken_other_tenants_are_tried_first() -> None:
    """Five prompts of one tenant that do not fit keep nobody else of the lane waiting."""
    line = Line()
    for _ in range(6):
        line.add(entry(tenant="big", due=0.1), 1.0)
    line.add(entry(tenant="other", due=9.0), 1.0)
    asked: list[str] = []

    def take(one: Entry) -> bool:
        asked.append(one.tenant)
        if one.tenant == "big":
            return False
        line.remove(one)
        return True

    line.offer(take, 0.0)
    assert asked == ["big", "other", "big", "big", "big", "big"]


def test_who_gives_way_is_the_least_priority_of_the_tenant_with_most_and_the_last_due() -> None:
    """Among those that may be shed; a tenant that has as few as the newcomer's keeps its place."""
    line = Line()
    low = [entry(tenant="a", priority=0, due=float(i), spare=True) for i in range(3)]
    others = [entry(tenant="b", priority=0, spare=True), entry(tenant="a", priority=1, due=99.0, spare=True)]
    for one in (*low, *others, entry(tenant="c", priority=0, due=1e9)):
        line.add(one, 1.0)
    assert line.victim(entry(tenant="b", priority=5, spare=True), 1.0) is low[2]
    assert line.victim(entry(tenant="a", priority=0, spare=True), 1.0) is None
    assert line.victim(entry(tenant="new", priority=0, spare=True), 1.0) is low[2]
    for one in (low[2], low[1]):
        line.remove(one)
    assert line.victim(entry(tenant="new", priority=0, spare=True), 1.0) is None


def test_what_may_be_shed_goes_before_what_may_not_whatever_its_priority() -> None:
    """A newcomer that may not be shed, of the least priority, takes the place of one that may."""
    line = Line()
    spare = entry(tenant="a", priority=5, spare=True)
    for one in (spare, entry(tenant="a", priority=0)):
        line.add(one, 1.0)
    assert line.victim(entry(tenant="a", priority=0), 1.0) is spare


def test_who_may_not_be_shed_gives_way_only_to_the_same_kind_of_a_tenant_with_less() -> None:
    """Never to one that may be shed, whatever its priority."""
    line = Line()
    crowd = [entry(tenant="a", due=float(i)) for i in range(5)]
    for one in crowd:
        line.add(one, 1.0)
    assert line.victim(entry(tenant="b", priority=9, spare=True), 1.0) is None
    assert line.victim(entry(tenant="b"), 1.0) is crowd[4]
    assert line.victim(entry(tenant="a"), 1.0) is None
    assert line.victim(entry(tenant="b"), 0.2) is None


def test_how_many_go_before_one_counts_no_more_of_a_flood_than_its_share() -> None:
    """Behind a thousand of another tenant, one that has two of its own before it waits for some five."""
    line = Line()
    for _ in range(1000):
        line.add(entry(tenant="flood"), 1.0)
    for due in (1.0, 2.0, 9.0):
        line.add(entry(tenant="b", due=due), 1.0)
    assert line.ahead(entry(tenant="b", due=5.0), 1.0) == 2 + 3
    assert line.ahead(entry(tenant="flood", due=5.0), 1.0) == 1000 + 3
    assert line.ahead(entry(tenant="b", priority=9), 1.0) == 0
