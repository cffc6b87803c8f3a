"""What does one decision cost? `python -m bench.decide`

The whole of it: views of every candidate, filters, utility, pick, evidence, ledger permit, with calls in flight. With
and without the complexity estimate of a prompt of about 500 tokens; and of requests that come 32 at a time, one by one
and as a window of them is decided. Microseconds on this machine, and the ratio to
bare dictionary work measured in the same run, which is what travels.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from random import Random

from router.complexity.estimator import Estimator, Scored
from router.complexity.registry import default_estimator
from router.core.controller import Controller
from router.core.evidence import Hold
from router.core.feedback import Feedback
from router.core.ledger import Permit
from router.core.ticket import Ticket
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.outcome import Attempt, Ending, Outcome
from router.domain.request import Prompt, Request, RequestId
from router.domain.slo import Indicator, Objective, Objectives, QualityFloor, RequestClass
from router.policy.policy import Policy

TEXT = (
    "A customer writes that the parcel arrived on Tuesday with a torn corner, that two of the six glasses were "
    "broken, and asks whether the remaining four may be kept at a lower price. Answer politely, offer either a "
    "replacement or a refund of one third, explain in two sentences how to send photographs, and list what is needed "
    "as bullet points. "
) * 5

WINDOW = 32


def percentile(values: list[float], q: float) -> float:
    return sorted(values)[int(q * (len(values) - 1))]


def fleet(size: int) -> tuple[Deployment, ...]:
    def one(i: int) -> Deployment:
        small = i % 2 == 0
        return Deployment(
            name=DeploymentName(f"d{i}"),
            group=f"d{i}",
            model="llama-3.1-8b" if small else "llama-3.1-70b",
            tier=Tier.SMALL if small else Tier.LARGE,
            kind=Kind.CONTINUOUS,
            address=Address("simulated", f"d{i}"),
            price=Price(0.22, 0.22) if small else Price(0.99, 0.99),
        )

    return tuple(one(i) for i in range(size))


class Known:
    """An estimator that costs nothing, to time the decision alone."""

    def __init__(self, scored: Scored) -> None:
        self._scored = scored

    def estimate(self, request: Request) -> Scored:
        return self._scored


def request(number: int, now: float) -> Request:
    prompt = Prompt(last_user=TEXT, chars=len(TEXT))
    return Request(RequestId(str(number)), now, now, prompt, 500, stream=True)


def measure(size: int, rounds: int, *, with_estimate: bool) -> dict[str, float]:
    estimator: Estimator = default_estimator()
    if not with_estimate:
        estimator = Known(estimator.estimate(request(0, 0.0)))
    controller = Controller(policy(size), estimator, rng=Random(0))
    feedback = Feedback(controller)
    open_calls, spent = [], []
    for number in range(rounds):
        now = number * 0.01
        asked = request(number, now)
        if not with_estimate:
            ticket = controller.admit(asked, now=now)
        started = time.perf_counter()
        if with_estimate:
            ticket = controller.admit(asked, now=now)
        opened = decided(controller, ticket, now)
        spent.append(time.perf_counter() - started)
        open_calls.append(opened)
        if len(open_calls) > 20 * size:
            end(feedback, *open_calls.pop(0), now)
    return {"p50_us": percentile(spent, 0.5) * 1e6, "p99_us": percentile(spent, 0.99) * 1e6}


def measure_window(size: int, windows: int, *, together: bool) -> dict[str, float]:
    """Of requests that come 32 at a time: ordered and decided `together`, or one by one as they come. Processor
    time, as a mean over 32 would count every pause that the machine makes."""
    controller = Controller(policy(size), Known(default_estimator().estimate(request(0, 0.0))), rng=Random(0))
    feedback = Feedback(controller)
    spent, open_calls = [], []
    for number in range(windows):
        now = number * 0.32
        tickets = [controller.admit(request(number * WINDOW + i, now), now=now) for i in range(WINDOW)]
        started = time.thread_time()
        if together:
            with controller.window.still():
                made = [decided(controller, ticket, now) for ticket in controller.window.order(tickets)]
        else:
            made = [decided(controller, ticket, now + 1e-5 * i) for i, ticket in enumerate(tickets)]
        spent.append((time.thread_time() - started) / WINDOW)
        open_calls += made
        while len(open_calls) > 20 * size:
            end(feedback, *open_calls.pop(0), now)
    return {"p50_us": percentile(spent, 0.5) * 1e6, "p99_us": percentile(spent, 0.99) * 1e6}


Opened = tuple[Ticket, Attempt, Permit]


def decided(controller: Controller, ticket: Ticket, now: float) -> Opened:
    """Decide, and open the permit."""
    decision = controller.decide(ticket, now=now)
    assert not isinstance(decision, Hold)
    return ticket, *controller.start(ticket, now=now)


def end(feedback: Feedback, ticket: Ticket, attempt: Attempt, permit: Permit, now: float) -> None:
    """The call has ended well."""
    feedback.on_first_token(ticket, permit, now=now)
    done = Outcome(attempt, Ending.COMPLETED, now + 0.001, now, 500, 150, 0.001, finish_reason="stop")
    feedback.on_outcome(ticket, permit, done)


def policy(size: int) -> Policy:
    """One class with promises, a floor and exploration."""
    promise = Objectives(ttft=Objective(Indicator.TTFT, 0.5), tpot=Objective(Indicator.TPOT, 0.05))
    request_class = RequestClass("chat", objectives=promise, floor=QualityFloor(0.9), exploration_ratio=0.02)
    return Policy("bench", (request_class,), fleet(size))


def yardstick(rounds: int) -> float:
    """Microseconds of a thousand dictionary updates: how fast this interpreter is on this machine, now."""

    def work() -> None:
        table: dict[int, int] = {}
        for i in range(1000):
            table[i & 255] = table.get(i & 255, 0) + 1

    return percentile([timed(work) for _ in range(rounds)], 0.5) * 1e6


def timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=20_000)
    arguments.add_argument("--json", help="write the figures here")
    given = arguments.parse_args()
    unit = yardstick(500)
    print(f"yardstick: 1000 dictionary updates take {unit:.0f} us")
    figures: dict[str, object] = {"yardstick_us": unit}
    for size in (2, 4, 16):
        for with_estimate in (False, True):
            found = measure(size, given.rounds, with_estimate=with_estimate)
            label = f"{size:2} deployments, {'with' if with_estimate else 'without'} the complexity estimate"
            figures[label] = found
            print(
                f"{label:52} p50 {found['p50_us']:6.1f} us  p99 {found['p99_us']:6.1f} us  "
                f"(p50 {found['p50_us'] / unit:.2f} yardsticks)"
            )
    for size in (4, 16):
        alone, together = (measure_window(size, given.rounds // WINDOW, together=t) for t in (False, True))
        figures[f"{size:2} deployments, {WINDOW} at once"] = {"one by one": alone, "together": together}
        ratio = together["p50_us"] / alone["p50_us"]
        print(
            f"{size:2} deployments, {WINDOW} requests at once, for each: one by one {alone['p50_us']:.1f} us, "
            f"together {together['p50_us']:.1f} us (ratio {ratio:.2f})"
        )
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
