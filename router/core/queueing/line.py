"""The order of all who wait: by priority, then by the turn of their tenants, then by when they are due.

Who may go to the same deployments at the same price waits in one lane. `offer` asks for one after the other, the first
of all lanes first, whether it can be taken; past one that cannot, a few others of its lane are tried, those of other
tenants before more of the same. Every operation is O(log n) comparisons, with moves of memory in sorted lists.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush, heapreplace

from router.core.queueing.fair import Entry, Flow, Lane, Level
from router.core.queueing.lazy import LazyHeap

_SCAN = 4
"""How many of a lane are tried past one that nothing can take: they may be smaller, or less dear."""
_LOOKED_AT = 64
"""Most tenants that are counted ahead of somebody; more than that only make the wait longer than is said."""

Key = tuple[int, int, float, float, int]


class Band:
    """Those of one lane and one priority: whose turn it is, and who is due first."""

    __slots__ = ("_aside", "_due", "_inside", "_passed", "_turns", "lane", "level")

    def __init__(self, lane: Lane, level: Level) -> None:
        self.lane, self.level = lane, level
        self._turns: list[tuple[float, int, Flow]] = []
        self._inside: set[int] = set()
        self._due: LazyHeap[Entry] = LazyHeap(lambda _, entry: not entry.is_gone and entry.lane == lane)
        self._aside: list[Flow] = []
        self._passed: list[tuple[Flow, Entry]] = []

    def add(self, flow: Flow, entry: Entry) -> None:
        """One more waits here."""
        queue = flow.queues.setdefault(self.lane, [])
        insort(queue, (entry.due, entry.number, entry))
        self._due.push(entry.due, entry)
        self._await(flow)

    def _await(self, flow: Flow) -> None:
        if flow.number not in self._inside:
            self._inside.add(flow.number)
            heappush(self._turns, (flow.tag, flow.number, flow))

    def _next(self) -> Flow | None:
        """Whose turn it is. Tags only grow, so a stale one is found when it comes to the top."""
        turns = self._turns
        while turns:
            tag, number, flow = turns[0]
            if not flow.queues.get(self.lane):
                heappop(turns)
                self._inside.discard(number)
            elif tag < flow.tag:
                heapreplace(turns, (flow.tag, number, flow))
            else:
                return flow
        return None

    def head(self, now: float) -> tuple[Key, Entry] | None:
        """Who goes next, and where it stands among those of other lanes."""
        flow = self._next()
        if flow is None and self._aside:
            aside, self._aside = self._aside, []
            for one in aside:
                self._await(one)
            flow = self._next()
        if flow is None:
            return None
        level = self.level
        first = self._due.least()
        if first is not None and not first[1].is_passed and now >= first[1].urgent_at:
            entry = first[1]
            owner = level.flows[entry.tenant]
            entry.was_early = owner is not flow
            if owner is flow or (level.may_hurry(owner) and owner.queues[self.lane][0][2] is entry):
                return (-level.priority, 0, entry.due, entry.due, entry.number), entry
        due, number, entry = flow.queues[self.lane][0]
        entry.was_early = False
        return (-level.priority, 1, flow.tag, due, number), entry

    def pass_over(self, entry: Entry) -> None:
        """It cannot be taken now: others of its lane are tried before more of its tenant."""
        flow = self.level.flows[entry.tenant]
        queue = flow.queues[self.lane]
        del queue[bisect_left(queue, (entry.due, entry.number))]
        entry.is_passed = True
        self._passed.append((flow, entry))
        if self._turns and self._turns[0][2] is flow:
            heappop(self._turns)
            self._inside.discard(flow.number)
            self._aside.append(flow)

    def restore(self) -> None:
        """Put back who was passed over."""
        for flow, entry in self._passed:
            entry.is_passed = False
            if not entry.is_gone:
                insort(flow.queues.setdefault(self.lane, []), (entry.due, entry.number, entry))
                self._await(flow)
        for flow in self._aside:
            self._await(flow)
        self._passed, self._aside = [], []

    def flows(self, most: int) -> list[tuple[Flow, int]]:
        """Some of those who wait here, no more than `most`, and how many of each."""
        found = ((flow, len(flow.queues.get(self.lane, ()))) for _, _, flow in self._turns[:most])
        return [(flow, size) for flow, size in found if size]


class Line:
    """All who wait. It decides on nothing but the order."""

    def __init__(self) -> None:
        self._levels: dict[int, Level] = {}
        self._lanes: dict[Lane, dict[int, Band]] = {}
        self._sizes: Counter[Lane] = Counter()
        self._count = self._size = self.waiting = 0
        self.of_tenant: Counter[str] = Counter()
        """Who waits for room, by tenant."""

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Entry]:
        """Everybody, in no order."""
        for level in self._levels.values():
            for flow in level.flows.values():
                for queue in flow.queues.values():
                    yield from (entry for _, _, entry in queue)

    def in_lane(self, lane: Lane) -> int:
        """How many wait there."""
        return self._sizes[lane] if self._sizes else 0

    def first(self, lane: Lane, now: float) -> Entry | None:
        """Who goes next of a lane."""
        bands = self._lanes.get(lane)
        heads = [] if bands is None else [head for b in bands.values() if (head := b.head(now)) is not None]
        return min(heads)[1] if heads else None

    def add(self, entry: Entry, weight: float) -> None:
        """Stand in line; `weight` is that of its tenant."""
        self._count += 1
        entry.number = self._count
        self._enter(entry, weight)

    def move(self, entry: Entry, lane: Lane, weight: float) -> None:
        """It waits for something else from now on, in the order in which it came."""
        self.remove(entry)
        entry.is_gone, entry.lane = False, lane
        self._enter(entry, weight)

    def _enter(self, entry: Entry, weight: float) -> None:
        level = self._levels.get(entry.priority)
        if level is None:
            level = self._levels[entry.priority] = Level(entry.priority)
        flow = level.flow(entry.tenant, weight)
        bands = self._lanes.setdefault(entry.lane, {})
        band = bands.get(entry.priority)
        if band is None or band.level is not level:
            band = bands[entry.priority] = Band(entry.lane, level)
        band.add(flow, entry)
        self._sizes[entry.lane] += 1
        self._size += 1
        if not entry.is_held:
            self._count_in(flow, entry, 1)

    def remove(self, entry: Entry) -> bool:
        """Leave the line; false where it had left before."""
        if entry.is_gone or not entry.number:
            return False
        level = self._levels[entry.priority]
        flow = level.flows[entry.tenant]
        queue = flow.queues.get(entry.lane, [])
        if not entry.is_passed:
            del queue[bisect_left(queue, (entry.due, entry.number))]
        entry.is_gone = True
        if not queue:
            flow.queues.pop(entry.lane, None)
        self._size -= 1
        self._sizes[entry.lane] -= 1
        if not self._sizes[entry.lane]:
            del self._sizes[entry.lane], self._lanes[entry.lane]
        if not entry.is_held:
            self._count_in(flow, entry, -1)
        return True

    def hold(self, entry: Entry, *, is_held: bool) -> None:
        """It is kept by a budget from now on, or no longer."""
        if entry.is_held is not is_held:
            flow = self._levels[entry.priority].flows[entry.tenant]
            entry.is_held = is_held
            self._count_in(flow, entry, -1 if is_held else 1)

    def _count_in(self, flow: Flow, entry: Entry, change: int) -> None:
        flow.waiting += change
        self.waiting += change
        self.of_tenant[entry.tenant] += change
        if not self.of_tenant[entry.tenant]:
            del self.of_tenant[entry.tenant]
        if entry.is_spare:
            place = (entry.due, entry.number, entry)
            if change > 0:
                insort(flow.spare, place)
            else:
                del flow.spare[bisect_left(flow.spare, place[:2])]
        self._levels[entry.priority].rank(flow)

    def charge(self, entry: Entry, work: float) -> None:
        """It was granted, which is so much work; it still stands in line."""
        level = self._levels[entry.priority]
        level.charge(level.flows[entry.tenant], work, early=entry.was_early)

    def offer(self, take: Callable[[Entry], bool], now: float) -> None:
        """Ask for one after the other whether it leaves the line; `take` has removed it when it says so. A lane whose
        first and a few more cannot be taken is left."""
        bands = [band for lane in self._lanes.values() for band in lane.values()]
        heads = [(*head, i, 0) for i, band in enumerate(bands) if (head := band.head(now)) is not None]
        heapify(heads)
        tried: Counter[Lane] = Counter()
        taken = 0
        try:
            while heads:
                _, entry, i, as_of = heappop(heads)
                band = bands[i]
                if as_of == taken:
                    if take(entry):
                        taken += 1
                    else:
                        tried[band.lane] += 1
                        band.pass_over(entry)
                head = band.head(now) if tried[band.lane] <= _SCAN else None
                if head is not None:
                    heappush(heads, (*head, i, taken))
        finally:
            for band in bands:
                band.restore()

    def ahead(self, entry: Entry, weight: float) -> float:
        """How many go before one that is about to stand in line: those of its own tenant that are due earlier, as many
        of each other tenant as the weights give it meanwhile, and all of a higher priority."""
        bands = self._lanes.get(entry.lane, {})
        if not bands:
            return 0.0
        own, others = 0, 0.0
        for priority, band in bands.items():
            if priority > entry.priority:
                others += sum(size for _, size in band.flows(_LOOKED_AT))
            elif priority == entry.priority:
                mine = band.level.flows.get(entry.tenant)
                queue = [] if mine is None else mine.queues.get(entry.lane, [])
                own = bisect_left(queue, (entry.due, self._count + 1))
                turns = (own + 1) / weight
                others += sum(min(n, turns * f.weight) for f, n in band.flows(_LOOKED_AT) if f is not mine)
        return own + others

    def own_victim(self, entry: Entry) -> Entry | None:
        """Who of its own tenant gives its place to one: who may be shed before who may not, and is of less priority."""
        for priority in sorted(self._levels):
            flow = self._levels[priority].flows.get(entry.tenant)
            if flow is not None and flow.spare and (priority < entry.priority or not entry.is_spare):
                return flow.spare[-1][2]
        return None

    def victim(self, entry: Entry, weight: float) -> Entry | None:
        """Who gives its place to one for whom there is none: who may be shed before who may not, the lowest priority
        before higher ones, of the tenant that has most, and of that who is due last. Nobody that may not be shed gives
        way to one that may, and nobody of the same priority to a tenant that would then have more than it keeps."""
        for priority in sorted(self._levels):
            level = self._levels[priority]
            most = level.spares.most()
            if most is None:
                continue
            if not entry.is_spare or priority < entry.priority:
                return most[1].spare[-1][2]
            if priority == entry.priority and self._has_less(level, entry, weight, most[0]):
                return most[1].spare[-1][2]
        if entry.is_spare:
            return None
        own = self._levels.get(entry.priority)
        most = None if own is None else own.all.most()
        if own is None or most is None or not self._has_less(own, entry, weight, most[0]):
            return None
        last = (next((p for p in reversed(q) if not p[2].is_held), None) for q in most[1].queues.values())
        return max(place for place in last if place is not None)[2]

    @staticmethod
    def _has_less(level: Level, entry: Entry, weight: float, load: float) -> bool:
        mine = level.flows.get(entry.tenant)
        return ((0 if mine is None else mine.waiting) + 1) / weight < load

    def forget(self) -> None:
        """Forget tenants of whom nothing is left."""
        for priority in [p for p, level in self._levels.items() if not level.flows]:
            del self._levels[priority]
        for level in self._levels.values():
            level.forget()
