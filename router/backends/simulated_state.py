"""What does a simulated server hold, and what can be seen of it?"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


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
