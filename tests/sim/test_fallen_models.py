"""A model degrades in the middle third of a stream and recovers: seen by the daemon's controller, on the virtual clock.

Feedback is right or wrong, so telling .75 from .93 takes some dozens of answers whoever looks; what of the requests is
told, and what the class explores, bound how soon they are there.
"""

from __future__ import annotations

from functools import cache
from random import Random
from statistics import median

import pytest
from msgspec import Struct

from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.estimator import Scored
from router.domain.deployment import Tier
from router.domain.drift import DriftDetected
from router.domain.events import DecisionMade, Event
from router.domain.request import Request
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.policy.policy import Policy
from router.sim.clock import run_virtual
from router.sim.run import Setting, World
from router.sim.workload import Arrival, Workload

FIRST, SECOND = "first-70b", "second-70b"
GOOD, NEXT, BAD = 0.93, 0.85, 0.75
FLEET = read_fleet("""
deployments:
  - {name: first, model: first-70b, tier: large, price_usd_per_mtok: {input: 0.2, output: 0.2},
     step_ms: {base: 7, per_sequence: 0.06, per_context_token: 0.00003, per_prefill_token: 0.02}}
  - {name: second, model: second-70b, tier: large, price_usd_per_mtok: {input: 0.3, output: 0.3},
     step_ms: {base: 7, per_sequence: 0.06, per_context_token: 0.00003, per_prefill_token: 0.02}}
""")


class Told:
    """What is expected of both, whatever is asked."""

    def estimate(self, request: Request) -> Scored:
        return Scored(0.1, "chat", {FIRST: GOOD, SECOND: NEXT}, {Tier.SMALL: GOOD, Tier.LARGE: GOOD})


class Run(Struct):
    """Whether `first` was picked, by request; and what was told of drift, by requests answered until then."""

    picks: list[bool]
    told: list[tuple[int, DriftDetected]]
    explored: int

    def share(self, begin: int, end: int) -> float:
        return sum(self.picks[begin:end]) / (end - begin)

    def until(self, begin: int, *, below: float = 1.0, above: float = 0.0) -> int:
        """Requests from `begin` to the first fifty whose share is below and above these."""
        starts = range(begin, len(self.picks) - 50)
        return next((s - begin for s in starts if above <= self.share(s, s + 50) < below), len(self.picks))


class Watched(World):
    """A run that keeps what was told of drift."""

    def begin(self) -> None:
        self.told: list[tuple[int, DriftDetected]] = []
        self.explored = 0

    def emit(self, event: Event) -> None:
        super().emit(event)
        if isinstance(event, DriftDetected):
            self.told.append((len(self.served), event))
        elif isinstance(event, DecisionMade):
            self.explored += event.decision.binding == "explored"


@cache
def play(seed: int, third: int, feedback_ratio: float, exploration_ratio: float, is_both: bool = False) -> Run:
    """Three thirds of requests; in the middle one `first` is at .75 (with `is_both` both models lose as much)."""
    rng, now, rows = Random(seed), 0.0, []
    for number in range(3 * third):
        is_down = third <= number < 2 * third
        first, second = rng.random(), rng.random()
        quality = {
            FIRST: float(first < (BAD if is_down else GOOD)),
            SECOND: float(second < (NEXT - 0.25 if is_down and is_both else NEXT)),
        }
        rows.append(Arrival(now, rng.randint(100, 300), rng.randint(10, 30), quality=quality))
        now += rng.expovariate(5.0)
    promise = Objectives(ttft=Objective(Indicator.TTFT, 0.5))
    request_class = RequestClass("all", objectives=promise, exploration_ratio=exploration_ratio)
    policy = Policy("drift", (request_class,), deployments(FLEET))
    setting = Setting(Workload(tuple(rows)), FLEET, policy, Told(), seed=seed, feedback_ratio=feedback_ratio)

    async def scene() -> Watched:
        world = Watched(setting, None, None)
        world.begin()
        await world.run()
        return world

    world = run_virtual(scene())
    picks = [False] * len(rows)
    for served in world.served:
        picks[int(served.request_id)] = served.deployment == "first"
    return Run(picks, world.told, world.explored)


def test_a_model_that_fell_is_left_within_150_requests_and_taken_up_within_300_of_its_recovery() -> None:
    """With all answers told and 10 % explored, in the median of six seeds; a false alarm more or less is a seed's."""
    third, runs = 600, [play(seed, 600, 1.0, 0.1) for seed in range(6)]
    before = median(run.share(200, third) for run in runs)
    assert before > 0.8
    assert median(run.until(third, below=0.15) for run in runs) <= 150
    assert median(run.share(third + 150, 2 * third) for run in runs) < 0.2
    assert median(run.until(2 * third, above=0.8 * before) for run in runs) <= 300
    assert all({"fell", "rose"} <= {e.direction for _, e in run.told if e.what == "model"} for run in runs)
    assert not any(e.subject == SECOND for run in runs for _, e in run.told)


def test_with_a_fifth_told_it_takes_as_many_answers_and_so_more_requests() -> None:
    """Left within 600 requests and taken up again within 1,500, in the median of three seeds."""
    third, runs = 2000, [play(seed, 2000, 0.2, 0.1) for seed in range(3)]
    assert median(run.until(third, below=0.15) for run in runs) <= 600
    assert median(run.until(2 * third, above=0.7) for run in runs) <= 1500


def test_exploration_stays_within_its_share_though_a_model_is_probed() -> None:
    """Over whole runs, fallen or not, no more requests are explored than the class permits."""
    for seed in range(3):
        run = play(seed, 600, 1.0, 0.1)
        assert run.explored <= 0.1 * 1800 + 4 * (0.1 * 0.9 * 1800) ** 0.5


def test_a_class_that_forbids_exploration_probes_nobody() -> None:
    """No pick but the best; the model is left all the same."""
    run = play(0, 600, 1.0, 0.0)
    fell = next(count for count, event in run.told if event.direction == "fell")
    assert run.explored == 0
    assert run.share(fell + 50, fell + 250) == pytest.approx(0.0, abs=0.05)


def test_a_yardstick_that_moves_for_all_freezes_the_beliefs_instead() -> None:
    """When all models lose as much at once it is told as feedback, and the beliefs are open again when it stays."""
    told = [event for _, event in play(1, 600, 1.0, 0.3, True).told]
    assert [e.direction for e in told if e.kind == "feedback" and e.what == "quality"][:2] == ["down", "stayed"]
