"""The continuous server: worked examples to the nanosecond."""

from __future__ import annotations

from fractions import Fraction

import msgspec
import pytest

from router.backends.simulated_events import Disturbance, Disturbances, Refusal
from router.backends.simulated_fleet import Background, DeploymentSpec, StepMs, TokensPerMin
from router.backends.simulated_server import ContinuousServer
from router.backends.simulated_steps import Job, Stage
from router.domain.deployment import Kind, Tier

MS = 1_000_000
S = 1_000_000_000
SPEC = DeploymentSpec(
    name="one",
    model="m",
    tier=Tier.SMALL,
    step_ms=StepMs(base=10.0, per_sequence=1.0, per_context_token=0.001, per_prefill_token=0.01),
    step_token_budget=2048,
    max_sequences=8,
    kv_tokens=10_000,
)


def server(spec: DeploymentSpec = SPEC, *events: Disturbance, piece: int = 16) -> ContinuousServer:
    return ContinuousServer(spec, Disturbances(events), seed="7/one", piece_tokens=piece)


class Drive:
    """Calls a server as an event loop does, and notes when each job had its first token and its end."""

    def __init__(self, target: ContinuousServer) -> None:
        self.server = target
        self.first: dict[Job, int] = {}
        self.end: dict[Job, int] = {}

    def to(self, now: int) -> None:
        while (wake := self.server.wake_ns()) is not None and wake <= now:
            self._note(wake)
        self._note(now)

    def drain(self) -> None:
        while (wake := self.server.wake_ns()) is not None:
            self._note(wake)

    def arrive(self, now: int, inputs: int, outputs: int) -> Job:
        self.to(now)
        job = Job(inputs, outputs)
        assert self.server.arrive(job, now) is None
        return job

    def _note(self, now: int) -> None:
        for job in self.server.advance(now):
            if job.generated:
                self.first.setdefault(job, now)
            if job.ended:
                self.end[job] = now


def test_one_request_alone() -> None:
    """Prefill of 100 is 10 + 1 ms; then 10 + 1 ms and a microsecond for each of 101 and 102 tokens of context."""
    drive = Drive(server())
    job = drive.arrive(0, 100, 3)
    drive.drain()
    assert drive.first[job] == 11 * MS
    assert drive.end[job] == 11 * MS + 11_101_000 + 11_102_000


def test_an_arrival_joins_at_the_next_step() -> None:
    """B comes during A's prefill, waits for its end, and is taken into a step that also decodes A."""
    drive = Drive(server())
    a = drive.arrive(0, 100, 4)
    b = drive.arrive(3 * MS, 200, 1)
    drive.drain()
    joined = 11 * MS + (10_000_000 + 1_000_000 + 101_000 + 2_000_000)
    assert drive.first[a] == 11 * MS
    assert drive.first[b] == drive.end[b] == joined
    assert drive.end[a] == joined + 11_102_000 + 11_103_000


def test_an_arrival_at_the_boundary_joins_the_step_that_begins_there() -> None:
    """Whoever comes at the very end of a step does not wait for another."""
    drive = Drive(server())
    drive.arrive(0, 100, 2)
    b = drive.arrive(11 * MS, 200, 1)
    drive.drain()
    assert drive.first[b] == 11 * MS + 13_101_000


def test_a_prompt_spans_steps() -> None:
    """With a budget of 100 a prompt of 250 takes steps of 100, 100 and 50, and the next prompt fills the third."""
    drive = Drive(server(msgspec.structs.replace(SPEC, step_token_budget=100)))
    a = drive.arrive(0, 250, 1)
    b = drive.arrive(0, 50, 1)
    drive.drain()
    assert drive.first[a] == drive.first[b] == 3 * 11 * MS


def test_decode_goes_first() -> None:
    """A decoding sequence takes one token of the budget, so the prompt beside it gets the rest."""
    drive = Drive(server(msgspec.structs.replace(SPEC, step_token_budget=100)))
    drive.arrive(0, 100, 3)
    b = drive.arrive(1, 100, 1)
    drive.drain()
    first, second = 10_000_000 + 1_101_000 + 990_000, 10_000_000 + 1_102_000 + 10_000
    assert drive.first[b] == 11 * MS + first + second


def test_a_prompt_waits_for_memory() -> None:
    """8,000 tokens of KV are in use of 10,000, so 3,000 more wait until they are free, and 100 behind them too."""
    drive = Drive(server(msgspec.structs.replace(SPEC, step_token_budget=100_000)))
    a = drive.arrive(0, 8_000, 5)
    b = drive.arrive(1, 3_000, 1)
    c = drive.arrive(2, 100, 1)
    drive.drain()
    assert drive.first[b] == drive.first[c] == drive.end[a] + 10 * MS + 3_100 * 10_000


def test_a_prompt_waits_for_a_sequence() -> None:
    """With room for one sequence the second starts when the first has ended."""
    drive = Drive(server(msgspec.structs.replace(SPEC, max_sequences=1)))
    a = drive.arrive(0, 100, 50)
    b = drive.arrive(0, 100, 1)
    drive.drain()
    assert drive.first[b] == drive.end[a] + 11 * MS


def test_what_can_never_fit_is_refused() -> None:
    """A prompt larger than the KV memory would block the head of the line for ever."""
    target = server()
    assert target.arrive(Job(10_001, 1), 0) is Refusal.TOO_LARGE


def test_cancel_frees_at_the_end_of_the_step() -> None:
    """A is cancelled in its second step, which ends as formed; the third is B's alone."""
    drive = Drive(server())
    a = drive.arrive(0, 100, 50)
    b = drive.arrive(0, 100, 4)
    first = 10 * MS + 200 * 10_000
    drive.to(first + MS)
    drive.server.cancel(a, first + MS)
    drive.drain()
    both = 10 * MS + 2 * MS + 202_000
    assert drive.end[b] == first + both + 11_102_000 + 11_103_000
    assert a.stage is Stage.CANCELLED
    assert a.generated == 1


def test_cancel_of_what_waits_frees_at_once() -> None:
    """A prompt that no step has taken in yet holds nothing."""
    drive = Drive(server(msgspec.structs.replace(SPEC, max_sequences=1)))
    drive.arrive(0, 100, 10)
    b = drive.arrive(1, 100, 10)
    drive.server.cancel(b, 1)
    assert b.stage is Stage.CANCELLED
    assert drive.server.gauge(2).waiting == 0


def test_a_slowdown_stretches_the_steps_that_begin_in_it() -> None:
    """Steps begin at 0, 11 and 22.101 ms; only the second begins while the server is 1.5 times slower."""
    drive = Drive(server(SPEC, Disturbance(5 * MS, 20 * MS, slowdown=Fraction("1.5"))))
    job = drive.arrive(0, 100, 3)
    drive.drain()
    assert drive.end[job] == 11 * MS + 16_651_500 + 11_102_000


def test_an_outage_loses_everything_and_refuses_what_is_new() -> None:
    """In flight fails when it begins, arrivals are refused until it ends, and then the server is empty."""
    drive = Drive(server(SPEC, Disturbance(50 * MS, 90 * MS, down=True)))
    job = drive.arrive(0, 100, 500)
    drive.to(60 * MS)
    assert job.stage is Stage.LOST
    assert drive.end[job] == 50 * MS
    assert drive.server.arrive(Job(100, 1), 60 * MS) is Refusal.DOWN
    after = drive.arrive(90 * MS, 100, 1)
    drive.drain()
    assert drive.first[after] == 101 * MS


def test_throttling_refuses_a_seeded_share() -> None:
    """Of 1,000 calls about 30 % are refused, and the same ones with the same seed."""

    def refused() -> list[bool]:
        target = server(SPEC, Disturbance(0, S, throttle_ratio=0.3))
        return [target.arrive(Job(1, 1), 0) is Refusal.THROTTLED for _ in range(1000)]

    assert refused() == refused()
    assert 250 < sum(refused()) < 350


def test_background_load_slows_and_fills() -> None:
    """Others' sequences lengthen our steps and show in the gauge, though nobody here sent them."""
    spec = msgspec.structs.replace(SPEC, background=Background(50.0, 100, 100))
    loud, quiet = Drive(server(spec)), Drive(server())
    for drive in (loud, quiet):
        drive.arrive(2 * S, 100, 50)
        drive.drain()
    assert loud.server.gauge(2 * S).running + loud.server.gauge(2 * S).waiting > 5
    assert max(loud.end.values()) > max(quiet.end.values())


PROVISIONED = msgspec.structs.replace(SPEC, kind=Kind.PROVISIONED, tokens_per_min=TokensPerMin(input=600, output=60))


def test_provisioned_input_is_charged_when_it_is_taken() -> None:
    """600 tokens a minute: 500 leave 100, so 200 more are refused until 10 tokens a second have made it up."""
    drive = Drive(server(PROVISIONED))
    drive.arrive(0, 500, 1)
    assert drive.server.arrive(Job(200, 1), 0) is Refusal.THROTTLED
    drive.to(9_999_999_999)
    assert drive.server.arrive(Job(200, 1), 9_999_999_999) is Refusal.THROTTLED
    drive.arrive(10 * S, 200, 1)


def test_provisioned_output_is_charged_as_it_is_generated() -> None:
    """100 tokens out of a bucket of 60 leave it empty: new calls are refused, the one under way goes on."""
    drive = Drive(server(PROVISIONED))
    job = drive.arrive(0, 10, 100)
    drive.drain()
    end = drive.end[job]
    assert job.stage is Stage.DONE
    assert drive.server.arrive(Job(10, 1), end) is Refusal.THROTTLED
    drive.arrive(end + 60 * S, 10, 1)


def test_the_state_is_exact() -> None:
    """In the third step A decodes its second token after 101 of context while B, 30 of 230 taken, waits."""
    spec = msgspec.structs.replace(SPEC, step_token_budget=101)
    drive = Drive(server(spec, piece=1))
    drive.arrive(0, 101, 10)
    drive.arrive(0, 230, 7)
    ends = 10 * MS + 101 * 10_000
    now = ends + 1
    drive.to(now)
    state = drive.server.state(now)
    assert (state.decoding, state.context_tokens, state.kv_tokens) == (1, 102, 102)
    assert (state.waiting_tokens, state.remaining) == (230, (9,))
    assert (state.gauge.running, state.gauge.waiting) == (2, 0)
    assert state.step_ends_ns == ends + 10 * MS + MS + 102_000 + 100 * 10_000


def test_a_server_needs_its_constants() -> None:
    """Without step_ms there is nothing to compute."""
    with pytest.raises(ValueError, match="step_ms"):
        server(msgspec.structs.replace(SPEC, step_ms=None))
