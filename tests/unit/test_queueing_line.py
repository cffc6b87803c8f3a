"""The order of those who wait: nobody is lost or doubled, and tenants share, whatever comes."""

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
from tests.unit.waiting_line import entry, served

LANES, TENANTS, PRIORITIES = ("a", "b", "c"), ("t0", "t1", "t2"), (0, 1, 5)


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
