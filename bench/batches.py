"""Which batch size, and how long to wait for it? In-SLO share and busy share of one batch endpoint, by who decides.

    python -m bench.batches [--seeds 1] [--seconds 600] [--rows 60 220 "120 slow" "60 half"]

An endpoint of 30 + 2n ms (n <= 128) takes Poisson arrivals at 60 and 220 a second, at 120 with the endpoint twice
slower for the middle third of the run, and at 60 with half the time; the whole answer is promised within 250 ms of
arrival. Each row is run with the router's own tuner (which may refuse what cannot be in time) and with

* fixed 10 / 10 ms: up to ten items, after at most ten milliseconds (Ray Serve's default);
* greedy: all that wait, up to 128, at once (Triton without a delay);
* AIMD: one item more after a batch within the promise, a tenth fewer after one that took longer (Clipper, NSDI '17),
  fed the time of the batch;
* fixed 32 / 100 ms;

which serve everything in order of arrival. Printed: mean share of what was offered that was answered in time, and the
share of the run in which the endpoint had a batch, in brackets, with the range over the seeds.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from random import Random
from statistics import mean

from msgspec import Struct

from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.estimator import Scored
from router.control.batching import BatchTuner
from router.domain.control.batches import Start
from router.domain.deployment import BatchProfile, Tier
from router.domain.request import Request
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.policy.policy import Policy
from router.sim.clock import run_virtual
from router.sim.run import Setting, World
from router.sim.workload import Arrival, Workload

FLEET = """
deployments:
  - name: scorer
    model: scorer
    tier: small
    kind: batch
    price_usd_per_mtok: {input: 0.05, output: 0.05}
    batch_ms: {base: 30, per_item: 2}
    max_items: 128
"""
SLOW = "events: [{{at_s: {from_s}, until_s: {until_s}, deployment: scorer, slowdown: 2.0}}]\n"
PROFILE, MOST = BatchProfile(0.030, 0.002), 128


class Row(Struct, frozen=True):
    """One workload: arrivals a second, the promise, and whether the endpoint slows down in the middle."""

    per_s: float
    slo_s: float = 0.25
    slow: bool = False


ROWS = {"60": Row(60.0), "220": Row(220.0), "120 slow": Row(120.0, slow=True), "60 half": Row(60.0, 0.125)}


class Fixed(BatchTuner):
    """So many items, or what has come when the oldest has waited as long as its class allows."""

    def __init__(self, size: int) -> None:
        super().__init__(PROFILE, max_items=MOST)
        self.size = size

    def start(self, waiting: int, *, due: float | None, span_s: float, until: float, now: float) -> tuple[float, Start]:
        """When full, or when the wait is over."""
        return (now, Start.FULL) if waiting >= self.size else (until, Start.BOUND)

    def cut(self, slacks: Sequence[float], *, now: float) -> tuple[int, int]:
        """Nobody is given up."""
        return 0, self.size


class Aimd(Fixed):
    """Greedy under a cap that moves by what batches take."""

    def __init__(self, slo_s: float) -> None:
        super().__init__(1)
        self._slo_s = slo_s

    def ended(self, seconds: float | None, *, now: float) -> None:
        """One more, or a tenth fewer."""
        super().ended(seconds, now=now)
        if seconds is not None:
            self.size = min(self.size + 1, MOST) if seconds <= self._slo_s else max(int(0.9 * self.size), 1)


class Contestant(Struct, frozen=True):
    """Who decides: `None` makes the router's own tuner. `wait_s` is the longest wait that the class allows."""

    tuner: Callable[[Row], BatchTuner] | None
    wait_s: float | None = 0.0


CONTESTANTS = {
    "fixed 10 / 10 ms": Contestant(lambda row: Fixed(10), 0.01),
    "greedy, cap 128": Contestant(lambda row: Fixed(MOST)),
    "AIMD on batch time": Contestant(lambda row: Aimd(row.slo_s)),
    "fixed 32 / 100 ms": Contestant(lambda row: Fixed(32), 0.1),
    "router": Contestant(None, None),
}


class Adequate:
    """Every answer is expected to do."""

    def estimate(self, request: Request) -> Scored:
        """The same for every request."""
        return Scored(0.1, "score", {}, {Tier.SMALL: 0.9})


def arrivals(per_s: float, seconds: float, seed: int) -> Workload:
    """Poisson arrivals of short prompts."""
    rng = Random(f"batches/{per_s}/{seed}")

    def rows() -> Iterator[Arrival]:
        at_s = rng.expovariate(per_s)
        while at_s < seconds:
            yield Arrival(at_s, 100, 1)
            at_s += rng.expovariate(per_s)

    return Workload(tuple(rows()))


def played(who: Contestant, row: Row, seconds: float, seed: int) -> tuple[float, float]:
    """Share in time and share busy of one run."""
    events = SLOW.format(from_s=seconds / 3, until_s=2 * seconds / 3) if row.slow else ""
    fleet = read_fleet(FLEET + events)
    promise = Objectives(e2e=Objective(Indicator.E2E, row.slo_s))
    terms = RequestClass("all", objectives=promise, sheddable=who.tuner is None, batch_wait_s=who.wait_s)
    policy = Policy("bench", (terms,), deployments(fleet))
    setting = Setting(arrivals(row.per_s, seconds, seed), fleet, policy, Adequate(), seed=seed)

    async def scene() -> tuple[World, float]:
        world = World(setting, None, None)
        if who.tuner is not None:
            (member,) = world.controller.fleet.members.values()
            member.batch = who.tuner(row)
        return world, await world.run()

    world, lasted_s = run_virtual(scene())
    return mean(one.slo_met for one in world.served), sum(world.busy_s.values()) / lasted_s


def told(figures: Sequence[float]) -> str:
    """Mean in percent, with half the range where there is one."""
    low, high = min(figures), max(figures)
    spread = f" ± {50.0 * (high - low):.1f}" if math.isfinite(high) and high - low > 5e-4 else ""
    return f"{100.0 * mean(figures):.1f}{spread}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    options = parser.parse_args()
    print(f"{'':20}" + "".join(f"{name:>22}" for name in options.rows))
    for name, who in CONTESTANTS.items():
        cells = []
        for row in options.rows:
            runs = [played(who, ROWS[row], options.seconds, seed) for seed in range(options.seeds)]
            met, busy = zip(*runs, strict=True)
            cells.append(f"{told(met)} ({told(busy)})")
        print(f"{name:20}" + "".join(f"{cell:>22}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
