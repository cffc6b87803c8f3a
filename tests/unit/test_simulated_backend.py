"""The simulated backend: exact times on a virtual loop, pieces, refusals, bills and telemetry."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

import msgspec
import pytest

from router.backends.simulated import SimulatedAnswer, SimulatedBackend
from router.backends.simulated_fleet import FleetSpec, deployments, read_fleet
from router.domain.decision import DecisionId
from router.domain.errors import BackendError, ProtocolError, Refused, Throttled, Unreachable
from router.domain.outcome import Attempt, AttemptId, Delta, Usage
from router.domain.request import Prompt, Request, RequestId
from router.sim.clock import run_virtual
from router.wire.openai import assemble

Result = TypeVar("Result")

FLEET = """\
deployments:
  - name: one
    model: m
    tier: small
    price_usd_per_mtok: {input: 1000, output: 10000}
    step_ms: {base: 10, per_sequence: 1, per_context_token: 0.001, per_prefill_token: 0.01}
    kv_tokens: 1000
  - name: scorer
    model: m
    tier: small
    kind: batch
    price_usd_per_mtok: {input: 1000, output: 10000}
    batch_ms: {base: 30, per_item: 2}
    max_items: 4
events:
  - {at_s: 100, until_s: 110, deployment: one, down: true}
  - {at_s: 200, until_s: 210, deployment: one, throttle_ratio: 1.0}
telemetry_lag_s: 0.2
"""
TEXT = "The kettle was sent on the third of March.  It should be there by now.\n"


class Truth:
    def __init__(self, tokens: int = 40, text: str | None = None) -> None:
        self.given = SimulatedAnswer(tokens, text)

    def answer(self, request: Request, model: str) -> SimulatedAnswer:
        return self.given


def attempt(name: str = "one", *, inputs: int = 100, stream: bool = True, most: int | None = None) -> Attempt:
    request = Request(
        id=RequestId("r"), arrived=0.0, at=0.0, prompt=Prompt("?"), input_tokens=inputs, stream=stream, max_tokens=most
    )
    fleet = {d.name: d for d in deployments(read_fleet(FLEET))}
    return Attempt(
        id=AttemptId("a"),
        decision_id=DecisionId("d"),
        request=request,
        deployment=fleet.get(name, msgspec.structs.replace(fleet["one"], name=name)),
        number=1,
        started=0.0,
        deadline=None,
        stream=stream,
    )


def on_fleet(
    work: Callable[[SimulatedBackend], Awaitable[Result]], truth: Truth | None = None, **options: int
) -> Result:
    async def main() -> Result:
        fleet: FleetSpec = read_fleet(FLEET)
        backend = SimulatedBackend(fleet, truth or Truth(), origin_s=0.0, **options)
        try:
            return await work(backend)
        finally:
            await backend.close()

    return run_virtual(main())


async def timed(stream: AsyncGenerator[Delta, None]) -> list[tuple[float, Delta]]:
    return [(asyncio.get_running_loop().time(), piece) async for piece in stream]


def test_first_token_and_end_come_at_the_servers_times() -> None:
    """11 ms of prefill, then 39 steps of 11.1 ms and a microsecond more each; usage and reason come last."""
    pieces = on_fleet(lambda backend: timed(backend.open(attempt())))
    assert pieces[0][0] == 0.011
    assert pieces[-1][0] == pytest.approx(0.011 + 39 * 0.0111 + sum(range(1, 40)) * 1e-6, abs=1e-12)
    assert sum(piece.tokens for _, piece in pieces) == 40
    assert max(piece.tokens for _, piece in pieces) <= 16
    assert [piece.finish_reason for _, piece in pieces] == [None] * (len(pieces) - 1) + ["stop"]
    assert pieces[-1][1].usage == Usage(100, 40)


def test_what_was_said_before_an_outage_is_told_by_a_loop_that_wakes_late() -> None:
    """Called 50 ms before it, on a loop that sleeps through it: the four tokens of that time come, then the break."""

    async def work(backend: SimulatedBackend) -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(99.95)
        heard = asyncio.ensure_future(until_broken(backend.open(attempt())))
        await asyncio.sleep(0)
        on_time, late = loop.time, loop.time() + 1.0
        loop.time = lambda: max(on_time(), late)  # type: ignore[method-assign]
        return await heard

    async def until_broken(stream: AsyncGenerator[Delta, None]) -> tuple[int, int]:
        pieces: list[Delta] = []
        with pytest.raises(ProtocolError):  # noqa: PT012  # it breaks in mid-loop
            async for piece in stream:
                pieces.append(piece)  # noqa: PERF401  # what came before the break counts
        return len(pieces), sum(piece.tokens for piece in pieces)

    assert on_fleet(work, piece_tokens=1) == (1, 4)


def test_the_size_of_the_pieces_changes_no_time() -> None:
    """Told of every token or of every sixteenth, the answer ends at the same nanosecond."""
    each = on_fleet(lambda backend: timed(backend.open(attempt())), piece_tokens=1)
    some = on_fleet(lambda backend: timed(backend.open(attempt())))
    assert len(each) == 40
    assert (each[0][0], each[-1][0]) == (some[0][0], some[-1][0])


@pytest.mark.parametrize("stream", [True, False])
def test_the_words_come_whole(stream: bool) -> None:
    """Streamed in pieces or not, the assembled answer is the truth's text to the character."""
    given = on_fleet(lambda backend: timed(backend.open(attempt(stream=stream))), truth=Truth(40, TEXT), piece_tokens=1)
    choices = msgspec.json.decode(assemble([piece for _, piece in given]))
    assert choices[0]["message"]["content"] == TEXT
    assert choices[0]["finish_reason"] == "stop"
    assert len(given) == (40 if stream else 1)


def test_max_tokens_cuts_the_answer() -> None:
    """Half the tokens, about half the words, and the reason says so."""
    pieces = [
        piece for _, piece in on_fleet(lambda backend: timed(backend.open(attempt(most=20))), truth=Truth(40, TEXT))
    ]
    assert sum(piece.tokens for piece in pieces) == 20
    choices = msgspec.json.decode(assemble(pieces))
    assert choices[0]["finish_reason"] == "length"
    assert TEXT.startswith(choices[0]["message"]["content"])


@pytest.mark.parametrize(
    ("at_s", "call", "expected"),
    [
        (105.0, attempt(), Unreachable),
        (205.0, attempt(), Throttled),
        (0.0, attempt(inputs=1001), Refused),
        (0.0, attempt("elsewhere"), Unreachable),
        (99.995, attempt(), Unreachable),
        (99.9, attempt(), ProtocolError),
    ],
)
def test_refusals_and_breaks(at_s: float, call: Attempt, expected: type[BackendError]) -> None:
    """Down, throttled, too long, unknown, lost before the first token, and lost after it."""

    async def work(backend: SimulatedBackend) -> BackendError:
        await asyncio.sleep(at_s)
        with pytest.raises(BackendError) as caught:
            await timed(backend.open(call))
        return caught.value

    error = on_fleet(work)
    assert type(error) is expected
    assert error.retry_after_s == (1.0 if expected is Throttled else None)


def test_each_attempt_is_billed_once() -> None:
    """In full at its end; a cancelled one its input and what it had generated; a lost or refused one nothing."""
    bills: list[float] = []

    async def main() -> None:
        backend = SimulatedBackend(
            read_fleet(FLEET), Truth(), origin_s=0.0, on_bill=lambda _, usd: bills.append(round(usd, 6))
        )
        await timed(backend.open(attempt()))
        stream = backend.open(attempt())
        assert (await anext(stream)).tokens == 1
        await stream.aclose()
        assert backend.state("one").gauge.running == 0
        await asyncio.sleep(99.9 - asyncio.get_running_loop().time())
        with pytest.raises(BackendError):
            await timed(backend.open(attempt()))
        with pytest.raises(BackendError):
            await timed(backend.open(attempt()))
        await backend.run_batch((attempt("scorer"),))
        await backend.close()

    run_virtual(main())
    assert bills == [0.1 + 0.4, 0.1 + 0.01, 0.0, 0.1 + 0.4]


def test_a_cancelled_task_frees_the_server() -> None:
    """Cancelling the task that reads takes the sequence out at the end of the step."""

    async def work(backend: SimulatedBackend) -> tuple[int, int]:
        task = asyncio.create_task(timed(backend.open(attempt())))
        await asyncio.sleep(0.015)
        task.cancel()
        await asyncio.wait([task])
        held = backend.state("one").gauge.running
        await asyncio.sleep(0.01)
        return held, backend.state("one").gauge.running

    assert on_fleet(work) == (1, 0)


def test_a_batch_ends_together() -> None:
    """Three items take 36 ms, come back whole and in order; the next batch waits for its turn."""

    async def work(backend: SimulatedBackend) -> list[float]:
        async def batch(size: int) -> float:
            answers = await backend.run_batch((attempt("scorer"),) * size)
            assert [a.whole for a in answers] == [True] * size
            return asyncio.get_running_loop().time()

        return await asyncio.gather(batch(3), batch(1))

    assert on_fleet(work) == [0.036, 0.068]


def test_a_batch_deployment_can_be_called_alone() -> None:
    """`open` is a batch of one; more than the endpoint takes is refused."""

    async def work(backend: SimulatedBackend) -> float:
        [(end, piece)] = await timed(backend.open(attempt("scorer")))
        assert piece.usage == Usage(100, 40)
        with pytest.raises(Refused):
            await backend.run_batch((attempt("scorer"),) * 5)
        return end

    assert on_fleet(work) == 0.032


def test_telemetry_is_as_old_as_the_lag() -> None:
    """Polled at 0.0, 0.1, ... and delivered 0.2 s later: at 0.35 s one sees how it was at 0.1 s."""

    async def work(backend: SimulatedBackend) -> None:
        assert await backend.poll() == ()
        task = asyncio.create_task(timed(backend.open(attempt())))
        await asyncio.sleep(0.35)
        load = backend.telemetry("one")
        assert load is not None
        assert (load.observed, load.running, load.waiting) == (0.1, 1, 0)
        assert load.kv_ratio == pytest.approx((100 + 9) / 1000)
        assert [load.deployment for load in await backend.poll()] == ["one", "scorer"]
        await task

    on_fleet(work)


PROGRAM = """
import asyncio, hashlib, random
from router.backends.simulated import SimulatedAnswer, SimulatedBackend
from router.backends.simulated_fleet import deployments, read_fleet
from router.domain.errors import BackendError
from router.domain.outcome import Attempt
from router.domain.request import Prompt, Request
from router.sim.clock import run_virtual

FLEET = read_fleet('''
deployments:
  - name: one
    model: m
    tier: small
    replicas: 2
    step_ms: {base: 10, per_sequence: 1, per_context_token: 0.001, per_prefill_token: 0.01}
    kv_tokens: 3000
    background: {requests_per_s: 3}
events:
  - {at_s: 2, until_s: 4, deployment: one, throttle_ratio: 0.5}
  - {at_s: 5, until_s: 6, deployment: one-1, down: true}
''')
rng = random.Random(5)
log = []

class Truth:
    def answer(self, request, model):
        return SimulatedAnswer(1 + int(request.id) % 90)

async def call(backend, n, deployment):
    loop = asyncio.get_running_loop()
    request = Request(id=str(n), arrived=loop.time(), at=0.0, prompt=Prompt(""), input_tokens=50 + n)
    attempt = Attempt(id="a", decision_id="d", request=request, deployment=deployment, number=1,
                      started=loop.time(), deadline=None, stream=True)
    try:
        async with asyncio.timeout(3):
            async for piece in backend.open(attempt):
                log.append((n, loop.time(), piece.tokens))
    except (BackendError, TimeoutError) as error:
        log.append((n, loop.time(), str(error)))

async def main():
    backend = SimulatedBackend(FLEET, Truth(), origin_s=0.0, seed=3)
    async with asyncio.TaskGroup() as group:
        for n in range(300):
            await asyncio.sleep(rng.expovariate(30))
            group.create_task(call(backend, n, rng.choice(deployments(FLEET))))
            log.append(backend.telemetry("one-0"))
    await backend.close()

run_virtual(main())
print(hashlib.sha256(repr(log).encode()).hexdigest())
"""


def test_a_run_is_the_same_for_every_hash_seed() -> None:
    """Throttles, an outage, timeouts and background load: one log, whatever PYTHONHASHSEED is."""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "77")
    }
    assert len(outputs) == 1
    assert len(outputs.pop().strip()) == 64
