"""The continuous server takes runs of steps at once, and nobody can tell: against a plain stepper, by property."""

from __future__ import annotations

from fractions import Fraction

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.backends.simulated_events import Disturbance, Disturbances, Refusal
from router.backends.simulated_fleet import Background, DeploymentSpec, StepMs, TokensPerMin
from router.backends.simulated_server import ContinuousServer
from router.backends.simulated_steps import Job, Stage
from router.domain.deployment import Kind, Tier

MS = 1_000_000
SMALL = DeploymentSpec(
    name="one",
    model="m",
    tier=Tier.SMALL,
    step_ms=StepMs(base=10.0, per_sequence=1.0, per_context_token=0.001, per_prefill_token=0.01),
    step_token_budget=64,
    max_sequences=4,
    kv_tokens=700,
)
METERED = msgspec.structs.replace(
    SMALL,
    kind=Kind.PROVISIONED,
    step_token_budget=2048,
    max_sequences=8,
    kv_tokens=10_000,
    tokens_per_min=TokensPerMin(input=600, output=60),
    background=Background(20.0, 150, 30),
)


class Drive:
    """Calls a server as an event loop does, and notes when each job had its first token and its end."""

    def __init__(self, spec: DeploymentSpec, events: list[Disturbance], piece: int) -> None:
        self.server = ContinuousServer(spec, Disturbances(events), seed="7/one", piece_tokens=piece)
        self.first: dict[Job, int] = {}
        self.end: dict[Job, int] = {}

    def to(self, now: int) -> None:
        while (wake := self.server.wake_ns()) is not None and wake <= now:
            self._note(wake)
        self._note(now)

    def drain(self) -> None:
        while (wake := self.server.wake_ns()) is not None:
            self._note(wake)

    def _note(self, now: int) -> None:
        for job in self.server.advance(now):
            if job.generated:
                self.first.setdefault(job, now)
            if job.ended:
                self.end[job] = now


TIMES = st.integers(0, 400).map(lambda n: n * 617_283)
LONG_TIMES = st.integers(0, 400).map(lambda n: n * 123_456_789)
CALLS = st.tuples(
    TIMES,
    st.integers(1, 300),
    st.one_of(st.integers(1, 4), st.integers(1, 120)),
    st.one_of(st.none(), st.integers(0, 300 * MS)),
)
WINDOWS = st.tuples(TIMES, st.integers(1, 100 * MS))


Calls = list[tuple[int, int, int, int | None]]
"""Arrival, input tokens, output tokens, and when it is cancelled after its arrival."""
Seen = tuple[int | None, int | None, int]
"""First token, end, and the tokens generated when it was over."""


class PlainStepper:
    """The rules of the server written down plainly: a list of sequences, one step after the other."""

    def __init__(self, calls: Calls, slow: list[tuple[int, int, Fraction]], outage: tuple[int, int]) -> None:
        self.calls, self.slow, self.outage = calls, slow, outage
        self.tokens: dict[int, list[int]] = {n: [] for n in range(len(calls))}
        self.taken = dict.fromkeys(self.tokens, 0)
        self.left = {n: call[0] + call[3] for n, call in enumerate(calls) if call[3] is not None}
        self.alive = [n for n in sorted(self.tokens, key=lambda n: calls[n][0]) if not self.comes_in_outage(n)]
        self.admitted: list[int] = []

    def comes_in_outage(self, n: int) -> bool:
        return self.outage[0] <= self.calls[n][0] < self.outage[1]

    def held(self, n: int) -> int:
        return self.calls[n][1] + len(self.tokens[n])

    def chunks(self, present: list[int], budget: int) -> list[tuple[int, int]]:
        chunks = []
        for n in present:
            if self.tokens[n] or budget <= 0:
                continue
            if n not in self.admitted:
                if sum(map(self.held, self.admitted)) + self.calls[n][1] > 700 or len(self.admitted) == 4:
                    break
                self.admitted.append(n)
            chunks.append((n, min(budget, self.calls[n][1] - self.taken[n])))
            budget -= chunks[-1][1]
        return chunks

    def step_ns(self, now: int, decoding: list[int], prompt_tokens: int) -> int:
        work = 10_000_000 + 1_000_000 * len(decoding) + 1_000 * sum(map(self.held, decoding)) + 10_000 * prompt_tokens
        pace = Fraction(1)
        for start, stop, factor in self.slow:
            pace *= factor if start <= now < stop else 1
        length = work * pace
        assert length.denominator == 1
        return int(length)

    def step(self, now: int) -> int:
        """One step, or the wait for one; when it is over."""
        self.alive = [n for n in self.alive if self.left.get(n, now + 1) > now]
        self.admitted = [n for n in self.admitted if n in self.alive]
        present = [n for n in self.alive if self.calls[n][0] <= now]
        if not present:
            return min((self.calls[n][0] for n in self.alive), default=now)
        decoding = [n for n in self.admitted if self.tokens[n]]
        chunks = self.chunks(present, 64 - len(decoding))
        then = now + self.step_ns(now, decoding, sum(size for _, size in chunks))
        if now < self.outage[0] < then:
            self.alive = [n for n in self.alive if self.calls[n][0] >= self.outage[1]]
            self.admitted = []
            return self.outage[1]
        for n, size in chunks:
            self.taken[n] += size
        for n in [*decoding, *(n for n, _ in chunks if self.taken[n] == self.calls[n][1])]:
            self.tokens[n].append(then)
            if len(self.tokens[n]) == self.calls[n][2]:
                self.alive.remove(n)
                self.admitted.remove(n)
        return then

    def seen(self, n: int) -> Seen:
        times = [t for t in self.tokens[n] if t <= self.left.get(n, t)]
        return times[0] if times else None, times[-1] if len(times) == self.calls[n][2] else None, len(times)


def one_by_one(calls: Calls, slow: list[tuple[int, int, Fraction]], outage: tuple[int, int]) -> dict[int, Seen]:
    stepper = PlainStepper(calls, slow, outage)
    now = 0
    while stepper.alive:
        now = stepper.step(now)
    return {n: stepper.seen(n) for n in range(len(calls))}


def driven(
    calls: Calls,
    events: list[Disturbance],
    piece: int,
    probes: list[int],
) -> dict[int, Seen]:
    drive = Drive(SMALL, events, piece)
    jobs: dict[int, Job] = {}
    left: dict[int, Seen] = {}

    def seen(job: Job) -> Seen:
        end = drive.end.get(job) if job.stage is Stage.DONE else None
        return drive.first.get(job), end, job.generated

    todo = [(call[0], 0, n) for n, call in enumerate(calls)]
    todo += [(call[0] + call[3], 1, n) for n, call in enumerate(calls) if call[3] is not None]
    todo += [(at, 2, 0) for at in probes]
    for at, kind, n in sorted(todo):
        drive.to(at)
        if kind == 0:
            jobs[n] = Job(calls[n][1], calls[n][2])
            if drive.server.arrive(jobs[n], at) is not None:
                jobs[n].stage = Stage.LOST
        elif kind == 1:
            drive.server.cancel(jobs[n], at)
            left[n] = seen(jobs[n])
    drive.drain()
    return {n: seen(job) for n, job in jobs.items()} | left


CANCELLED_WHILE_IT_HOLDS_OTHERS_UP: Calls = [
    (0, 99, 7, None),
    (617_283, 1, 1, None),
    (0, 99, 5, None),
    (0, 267, 1, None),
    (0, 226, 1, 83_213_001),
]
"""The last at 0 does not fit into the step that begins at 83.213 ms, and is cancelled a nanosecond into it."""
NO_OUTAGE = (10**15, 10**15)


@settings(max_examples=60, deadline=None)
@example(calls=CANCELLED_WHILE_IT_HOLDS_OTHERS_UP, slow=[], piece=1, probes=[], outage=NO_OUTAGE)
@given(
    calls=st.lists(CALLS, min_size=1, max_size=9),
    slow=st.lists(WINDOWS, max_size=2),
    piece=st.sampled_from([1, 3, 16, 1_000_000]),
    probes=st.lists(TIMES, max_size=4),
    outage=st.one_of(st.just(NO_OUTAGE), WINDOWS.map(lambda w: (w[0], w[0] + w[1]))),
)
def test_runs_of_steps_end_as_steps_one_by_one(
    calls: Calls,
    slow: list[tuple[int, int]],
    piece: int,
    probes: list[int],
    outage: tuple[int, int],
) -> None:
    """First tokens, ends and token counts are those of a plain stepper, however the server is asked."""
    windows = [(at, at + length, Fraction(3, 2)) for at, length in slow]
    events = [Disturbance(start, stop, slowdown=factor) for start, stop, factor in windows]
    events.append(Disturbance(*outage, down=True))
    assert driven(calls, events, piece, probes) == one_by_one(calls, windows, outage)


@settings(max_examples=60, deadline=None)
@given(calls=st.lists(st.tuples(LONG_TIMES, st.integers(1, 60), st.integers(2, 60)), max_size=25))
def test_quota_and_background_do_not_depend_on_the_pieces(calls: list[tuple[int, int, int]]) -> None:
    """Buckets charged over a run of steps, and others' arrivals within one, are those of steps one by one."""

    def outcome(piece: int) -> list[tuple[Refusal | None, int | None, int | None]]:
        drive = Drive(METERED, [], piece)
        jobs, refusals = [], []
        for at, inputs, outputs in sorted(calls):
            drive.to(at)
            jobs.append(Job(inputs, outputs))
            refusals.append(drive.server.arrive(jobs[-1], at))
        drive.drain()
        return [(r, drive.first.get(j), drive.end.get(j)) for r, j in zip(refusals, jobs, strict=True)]

    assert outcome(1) == outcome(1_000_000)
