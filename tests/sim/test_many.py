"""Many runs at once are the same runs."""

from __future__ import annotations

from random import Random

import pytest

from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.estimator import Scored
from router.domain.deployment import Tier
from router.domain.request import Request
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.policy.policy import Policy
from router.sim.beside import many
from router.sim.beside.many import play_many
from router.sim.run import Played, Setting
from router.sim.workload import Arrival, Workload

FLEET = read_fleet(
    """
deployments:
  - name: small
    model: llama-3.1-8b
    tier: small
    kind: continuous
    price_usd_per_mtok: {input: 0.22, output: 0.22}
    step_ms: {base: 6.7, per_sequence: 0.058, per_context_token: 0.000032, per_prefill_token: 0.0209}
    background: {requests_per_s: 2, input_tokens: 500, output_tokens: 100}
""",
    "fleet.yaml",
)


class Estimator:
    """The same for all; at module level, as another process has to find it."""

    def estimate(self, request: Request) -> Scored:
        return Scored(0.5, "chat", {}, {Tier.SMALL: 0.9, Tier.LARGE: 0.95})


def setting(seed: int) -> Setting:
    rng = Random(5)
    arrivals = tuple(Arrival(0.1 * i, rng.randrange(50, 900), rng.randrange(10, 80)) for i in range(60))
    objectives = Objectives(ttft=Objective(Indicator.TTFT, 0.5))
    policy = Policy("p", (RequestClass("all", objectives=objectives),), deployments(FLEET))
    return Setting(Workload(arrivals), FLEET, policy, Estimator(), seed)


def outcomes(played: list[Played]) -> list[object]:
    return [(run.served, run.report["overall"]) for run in played]


def test_runs_come_in_order_and_are_counted() -> None:
    """One after the other: the progress rises to the number of requests of all runs."""
    told: list[tuple[int, int]] = []
    played = play_many([setting(0), setting(1), setting(0)], jobs=1, progress=lambda *x: told.append(x))
    assert told[-1] == (180, 180)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    first, second, third = outcomes(played)
    assert first == third != second


def test_processes_change_nothing_but_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes give, to the last digit, what one gives, in the same order."""
    alone = outcomes(play_many([setting(0), setting(1), setting(2)], jobs=1))
    monkeypatch.setattr(many, "_WORTH_A_PROCESS", 0)
    told: list[tuple[int, int]] = []
    together = play_many([setting(0), setting(1), setting(2)], jobs=2, progress=lambda *x: told.append(x))
    assert outcomes(together) == alone
    assert told[-1] == (180, 180)
