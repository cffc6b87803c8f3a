"""The order of those who wait: nobody is lost or doubled, tenants share, and who gives way is who should."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.core.queueing.fair import Entry
from router.core.queueing.lazy import LazyHeap
from router.core.queueing.line import Line
from router.core.queueing.tally import Tally

LANES, TENANTS, PRIORITIES = ("a", "b", "c"), ("t0", "t1", "t2"), (0, 1, 5)


def entry(lane: str = "a", tenant: str = "t0", priority: int = 0, due: float = 1.0, *, spare: bool = False) -> Entry:
    return Entry(lane, tenant=tenant, priority=priority, due=due, is_spare=spare)


def served(line: Line, work: dict[str, float] | None = None, *, now: float = 0.0, most: int = 10**9) -> list[Entry]:
    """Who is taken, in order, when each grant is as much work as its tenant's requests are."""
    order: list[Entry] = []

    def take(one: Entry) -> bool:
        if len(order) >= most:
            return False
        line.charge(one, 1.0 if work is None else work[one.tenant])
        line.remove(one)
        order.append(one)
        return True

    line.offer(take, now)
    return order


class Standing(RuleBasedStateMachine):
    """Everything that can happen to a line, against a plain list of who should be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line()
        self.waiting: list[Entry] = []
        self.now = 0.0

    @rule(
        lane=st.sampled_from(LANES),
        tenant=st.sampled_from(TENANTS),
        priority=st.sampled_from(PRIORITIES),
        due=st.floats(0.0, 50.0),
        spare=st.booleans(),
        held=st.booleans(),
        urgent=st.booleans(),
        weight=st.sampled_from([1.0, 2.0, 0.5]),
    )
    def come(
        self, lane: str, tenant: str, priority: int, due: float, spare: bool, held: bool, urgent: bool, weight: float
    ) -> None:
        one = entry(lane, tenant, priority, due, spare=spare)
        one.urgent_at = self.now if urgent else due
        self.line.add(one, weight)
        self.line.hold(one, is_held=held)
        self.waiting.append(one)

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.waiting:
            one = data.draw(st.sampled_from(self.waiting))
            assert self.line.remove(one)
            assert not self.line.remove(one)
            self.waiting.remove(one)

    @rule(data=st.data())
    def hold_or_release(self, data: st.DataObject) -> None:
        if self.waiting:
            one = data.draw(st.sampled_from(self.waiting))
            self.line.hold(one, is_held=not one.is_held)

    @rule(seed=st.integers(0, 2**32), later=st.floats(0.0, 10.0))
    def offer(self, seed: int, later: float) -> None:
        """Some are taken; nobody is asked twice, and no higher priority of the same lane is first asked after."""
        self.now += later
        rng, asked = Random(seed), []

        def take(one: Entry) -> bool:
            asked.append(one)
            if rng.random() < 0.5:
                return False
            self.line.charge(one, rng.random())
            self.line.remove(one)
            self.waiting.remove(one)
            return True

        there = Counter((one.lane, one.priority) for one in self.waiting)
        self.line.offer(take, self.now)
        assert len(set(map(id, asked))) == len(asked)
        for lane in LANES:
            priorities = [one.priority for one in asked if one.lane == lane]
            assert priorities == sorted(priorities, reverse=True)
            if sum(n for (name, _), n in there.items() if name == lane):
                assert priorities
                assert priorities[0] == max(p for name, p in there if name == lane)

    @rule(tenant=st.sampled_from(TENANTS), priority=st.sampled_from(PRIORITIES), spare=st.booleans())
    def push_out(self, tenant: str, priority: int, spare: bool) -> None:
        newcomer = entry(tenant=tenant, priority=priority, spare=spare)
        last = self.line.victim(newcomer, 1.0)
        if last is None:
            return
        assert last in self.waiting
        assert not last.is_held
        assert last.is_spare or not spare
        assert last.is_spare or not any(one.is_spare and not one.is_held for one in self.waiting)
        self.line.remove(last)
        self.waiting.remove(last)

    @rule()
    def forget(self) -> None:
        self.line.forget()

    @invariant()
    def nobody_is_lost_or_doubled(self) -> None:
        assert Counter(map(id, self.line)) == Counter(map(id, self.waiting))
        assert len(self.line) == len(self.waiting)
        patient = [one for one in self.waiting if not one.is_held]
        assert self.line.waiting == len(patient)
        assert self.line.of_tenant == Counter(one.tenant for one in patient)
        for lane in LANES:
            assert self.line.in_lane(lane) == sum(one.lane == lane for one in self.waiting)


Standing.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestStanding = Standing.TestCase


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(TENANTS), st.sampled_from(PRIORITIES), st.floats(0.0, 9.0)), min_size=1, max_size=40
    )
)
def test_a_tenant_is_served_by_priority_and_then_by_when_it_is_due(asked: list[tuple[str, int, float]]) -> None:
    """Whatever others do: of one tenant, the higher priority first, then the earlier due, then who came first."""
    line = Line()
    for tenant, priority, due in asked:
        line.add(entry("a", tenant, priority, due), 1.0)
    order = served(line)
    assert len(order) == len(asked)
    assert [one.priority for one in order] == sorted((p for _, p, _ in asked), reverse=True)
    for tenant in TENANTS:
        own = [(-one.priority, one.due, one.number) for one in order if one.tenant == tenant]
        assert own == sorted(own)


@settings(max_examples=100, deadline=None)
@given(
    works=st.lists(st.floats(0.01, 3.0), min_size=60, max_size=60),
    weights=st.tuples(*[st.sampled_from([0.5, 1.0, 3.0])] * 3),
    urgent=st.sets(st.sampled_from(TENANTS)),
    grants=st.integers(1, 50),
)
def test_work_is_shared_by_weight_within_the_bound(
    works: list[float], weights: tuple[float, float, float], urgent: set[str], grants: int
) -> None:
    """While tenants wait in one lane, what each was granted by weight is never further apart than a request of each and
    what may be granted before its turn, though all of some are urgent."""
    line, of, got = Line(), dict(zip(TENANTS, weights, strict=True)), dict.fromkeys(TENANTS, 0.0)
    largest = max(works)
    for i in range(60):
        for tenant in TENANTS:
            one = entry("a", tenant, due=float(i))
            one.urgent_at = 0.0 if tenant in urgent else 1e9
            line.add(one, of[tenant])
    pending, left = iter(works), [grants]

    def take(one: Entry) -> bool:
        if not left[0]:
            return False
        left[0] -= 1
        work = next(pending)
        line.charge(one, work)
        line.remove(one)
        got[one.tenant] += work / of[one.tenant]
        return True

    line.offer(take, 1.0)
    least = min(weights)
    assert max(got.values()) - min(got.values()) <= (2 + 4) * largest / least + 1e-9


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


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 9.0))))
def test_a_lazy_heap_gives_the_least_that_counts_and_stays_small(steps: list[tuple[bool, float]]) -> None:
    """Against a plain list."""
    alive: list[float] = []
    heap: LazyHeap[float] = LazyHeap(lambda key, _: key in alive)
    for comes, key in steps:
        if comes or not alive:
            alive.append(key)
            heap.push(key, key)
        else:
            alive.remove(min(alive))
        least = heap.least()
        assert (None if least is None else least[0]) == min(alive, default=None)
        assert len(heap._heap) <= 2 * len(alive) + 2 * 64


def test_a_tally_knows_the_longest_wait_of_each_name() -> None:
    """Also when the first has gone, or waits anew; a name under which nobody waits is forgotten."""
    line, tally = Line(), Tally()
    first, second = entry(), entry()
    line.add(first, 1.0)
    line.add(second, 1.0)
    tally.begin("a", first, 0.0)
    tally.begin("a", second, 2.0)
    assert (tally.oldest_s("a", 5.0), tally.rows(5.0, 9)) == (5.0, (("a", 2, 5.0),))
    tally.end("a", first)
    assert tally.oldest_s("a", 5.0) == 3.0
    tally.begin("a", first, 4.0)
    tally.end("a", second)
    assert tally.longest_s(5.0) == 1.0
    tally.end("a", first)
    assert (tally.rows(5.0, 9), tally.longest_s(5.0)) == ((), 0.0)
