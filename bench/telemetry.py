"""What telemetry costs a request: `python -m bench.telemetry`. Ratios travel, absolute figures do not.

One request is what the dispatcher emits for it: received, decided (three candidates), called, ended, replied; the
policy has 8 classes and 4 deployments. Each line is CPU time for one subscriber alone, best of a few rounds.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import prometheus_client
from prometheus_client import CollectorRegistry

from bench.traffic import policy, request_events
from router.domain.events import Event
from router.storage.decision_log import DecisionLog
from router.telemetry.logs import configure
from router.telemetry.metrics import Metrics, render
from router.telemetry.series import Histogram
from router.telemetry.sink import Sink, Subscriber

REQUESTS = 2_000
ROUNDS = 3
EDGES = [0.01 * i for i in range(20)]


def best(work: Callable[[], object], times: int = 1) -> float:
    """Seconds of CPU for one of `times`, the best of a few rounds."""
    found = float("inf")
    for _ in range(ROUNDS):
        started = time.thread_time()
        work()
        found = min(found, (time.thread_time() - started) / times)
    return found


def repeated(call: Callable[[], object], times: int = 20_000) -> float:
    """Microseconds of one short call."""

    def work() -> None:
        for _ in range(times):
            call()

    return best(work, times) * 1e6


def told(stream: Sequence[Event], subscribers: Sequence[Subscriber]) -> float:
    """Microseconds a request for emitting the stream and draining it to these subscribers."""

    def tell() -> None:
        sink = Sink(subscribers)
        for event in stream:
            sink.emit(event)
        sink.drain_all()

    return best(tell, REQUESTS) * 1e6


def logged(stream: Sequence[Event]) -> tuple[float, float, float]:
    """Decision log: microseconds a request on the loop, on its own thread, and bytes a request."""
    with tempfile.TemporaryDirectory() as folder:
        log = DecisionLog(Path(folder))
        process, loop = time.process_time(), time.thread_time()
        on_loop = told(stream, [log])
        log.close()
        loop = time.thread_time() - loop
        on_thread = (time.process_time() - process - loop) / (REQUESTS * ROUNDS) * 1e6
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / (REQUESTS * ROUNDS)
    return on_loop, on_thread, size


def main() -> None:
    """Print the table."""
    rng, of = Random(1), policy()
    stream = [event for number in range(REQUESTS) for event in request_events(number, rng, of)]
    registry = CollectorRegistry()
    metrics = Metrics(of, registry)
    print(f"{'emit and drain to nobody':44} {told(stream, []):8.2f} us")
    for group in metrics.subscribers:
        print(f"{group.name:44} {told(stream, [group]):8.2f} us")
    print(f"{'all metrics':44} {told(stream, metrics.subscribers):8.2f} us")
    print(f"{'two log lines (decision, request_ended)':44} {told(stream, [configure(io.StringIO())]):8.2f} us")
    on_loop, on_thread, size = logged(stream)
    print(f"{'decision log, on the loop':44} {on_loop:8.2f} us")
    print(f"{'decision log, on its own thread':44} {on_thread:8.2f} us, {size:.0f} bytes")
    text, _ = render(registry)
    print(f"{'one scrape':44} {best(lambda: render(registry)) * 1e3:8.2f} ms, {len(text)} bytes")

    ours = Histogram(CollectorRegistry(), "a", "a", ("x",), edges=EDGES)
    theirs = prometheus_client.Histogram("a", "a", ["x"], buckets=EDGES, registry=CollectorRegistry()).labels("1")
    print(f"{'one observation, ours':44} {repeated(lambda: ours.observe(('1',), 0.11)):8.2f} us")
    print(f"{'one observation, theirs':44} {repeated(lambda: theirs.observe(0.11)):8.2f} us")


if __name__ == "__main__":
    main()
