"""What does a server hold, and how long do its steps take? Runs of alike steps in closed form, and their clock.

Work is counted in whole picoseconds (milliseconds of a fleet file to nine decimals) and adds up from an
anchor; the wall time is the anchor plus the work times the slowdown, rounded down to a nanosecond once. So a
run of steps taken together ends where the same steps taken one by one end.
"""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction
from math import isqrt

from msgspec import Struct

from router.backends.simulated_events import Disturbances
from router.backends.simulated_fleet import StepMs

_PS_PER_MS = 1_000_000_000
_PS_PER_NS = 1000


class Stage(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    PREFILL = "prefill"
    DECODE = "decode"
    DONE = "done"
    CANCELLED = "cancelled"
    LOST = "lost"


_ENDED = frozenset({Stage.DONE, Stage.CANCELLED, Stage.LOST})


class Work:
    """What a server was given to do."""

    __slots__ = ("arrived_ns", "stage")

    def __init__(self, arrived_ns: int = 0) -> None:
        self.arrived_ns = arrived_ns
        self.stage = Stage.WAITING

    @property
    def ended(self) -> bool:
        """Whether the server is through with it."""
        return self.stage in _ENDED


class Job(Work):
    """One sequence. `generated` is up to date when the job has news; nobody is told of a `quiet` one."""

    __slots__ = ("first_tick", "generated", "input_tokens", "output_tokens", "quiet", "taken")

    def __init__(self, input_tokens: int, output_tokens: int, *, arrived_ns: int = 0, quiet: bool = False) -> None:
        super().__init__(arrived_ns)
        self.input_tokens = max(1, input_tokens)
        self.output_tokens = max(1, output_tokens)
        self.quiet = quiet
        self.generated = 0
        self.taken = 0
        self.first_tick = 0


class Batch(Work):
    """So many items that start and end together."""

    __slots__ = ("items",)

    def __init__(self, items: int) -> None:
        super().__init__()
        self.items = items


class Gauge(Struct, frozen=True):
    """What a server tells of itself; prompts that the step under way admits count as running."""

    running: int
    waiting: int
    kv_ratio: float


class ServerState(Struct, frozen=True):
    """Everything that decides what a server does next, as of the start of the step under way.

    `waiting_tokens` are prompt tokens not yet taken in, of prompts admitted or not; `remaining` are the
    tokens each decoding sequence has still to generate; `step_ends_ns` is `None` while nothing runs.
    """

    gauge: Gauge
    decoding: int
    context_tokens: int
    kv_tokens: int
    waiting_tokens: int
    remaining: tuple[int, ...]
    step_ends_ns: int | None
    slowdown: float
    down: bool


class StepCost(Struct, frozen=True):
    """Picoseconds of a step: what a fleet file gives in milliseconds."""

    base: int
    per_sequence: int
    per_context_token: int
    per_prefill_token: int

    @classmethod
    def of(cls, step: StepMs) -> StepCost:
        """From milliseconds."""
        return cls(
            base=round(step.base * _PS_PER_MS),
            per_sequence=round(step.per_sequence * _PS_PER_MS),
            per_context_token=round(step.per_context_token * _PS_PER_MS),
            per_prefill_token=round(step.per_prefill_token * _PS_PER_MS),
        )


class Run(Struct, frozen=True, gc=False):
    """Steps in a row: the first takes `first` picoseconds, each next one `growth` more."""

    first: int
    growth: int

    def work(self, steps: int) -> int:
        """Picoseconds of the first so many steps."""
        return steps * self.first + self.growth * (steps * (steps - 1) // 2)

    def steps_within(self, work: int) -> int:
        """The most steps in so many picoseconds: the root of growth/2 k^2 + (first - growth/2) k = work."""
        if work < self.first:
            return 0
        if self.growth == 0:
            return work // self.first
        b = 2 * self.first - self.growth
        return (isqrt(b * b + 8 * self.growth * work) - b) // (2 * self.growth)


class StepClock:
    """The boundary between the steps that are over and the next one, in nanoseconds."""

    def __init__(self, disturbances: Disturbances) -> None:
        self._disturbances = disturbances
        self.boundary = 0
        self._set_pace()

    def jump(self, ns: int) -> None:
        """Let the next step begin at `ns` after a pause."""
        self.boundary = ns
        self._set_pace()

    def spend(self, work: int) -> None:
        """Let so many picoseconds of steps pass."""
        self._work += work
        self.boundary = self._anchor + self._work * self._num // self._den
        if self.next_change is not None and self.boundary >= self.next_change:
            self._set_pace()

    def end(self, work: int) -> int:
        """When so many picoseconds of steps from the boundary on will be over."""
        return self._anchor + (self._work + work) * self._num // self._den

    def work_until(self, ns: int) -> int:
        """The most picoseconds of steps from the boundary on that are over at `ns`."""
        return ((ns - self._anchor + 1) * self._den - 1) // self._num - self._work

    @property
    def slowdown(self) -> float:
        """What holds for the step that begins at the boundary."""
        return float(self._pace)

    def _set_pace(self) -> None:
        self._anchor, self._work = self.boundary, 0
        self._pace: Fraction = self._disturbances.slowdown(self.boundary)
        self._num, self._den = self._pace.numerator, self._pace.denominator * _PS_PER_NS
        self.next_change = self._disturbances.next_change(self.boundary)
