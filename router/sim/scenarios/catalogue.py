"""The eight scenarios. One small and one large server; rates, lengths and bursts of public traces (see `traffic`).

The servers are an 8B model on one H100 and a 70B model on four: step times fitted to ML.ENERGY's measurements of vLLM
(decode) and to vidur's profiles (prefill). Prices are those of Amazon Bedrock for the Llama 3.1 models, on demand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from router.backends.simulated_fleet import Background, DeploymentSpec, FleetSpec, StepMs, TokenPrices
from router.domain.deployment import Tier
from router.sim.scenarios.scenario import Phase, Scenario
from router.sim.scenarios.traffic import CODE_BURSTS

FLEET: Final = FleetSpec(
    (
        DeploymentSpec(
            "small",
            "llama-3.1-8b",
            Tier.SMALL,
            price_usd_per_mtok=TokenPrices(0.22, 0.22),
            step_ms=StepMs(6.6746, 0.058176, 0.000032, 0.0209),
            kv_tokens=427_000,
        ),
        DeploymentSpec(
            "large",
            "llama-3.1-70b",
            Tier.LARGE,
            price_usd_per_mtok=TokenPrices(0.99, 0.99),
            step_ms=StepMs(16.4034, 0.080096, 0.000023, 0.0650),
            kv_tokens=448_000,
        ),
    )
)

_POLICY = """\
class:
  name: all
  objectives: {{ttft: 500ms, tpot: 50ms}}
  floor: {{ratio: 0.90, under_overload: {gives}}}
  goal: useful
  sheddable: true
"""
KEPT: Final = _POLICY.format(gives="shed")
GIVES: Final = _POLICY.format(gives="degrade")

_ALL = (
    Scenario(
        "step",
        "Load x3 and back",
        "How fast are limits, spilling and shedding right again when the load triples, and when it falls back?",
        (Phase("start", 60.0), Phase("load x3", 120.0, load=3.0), Phase("load x1", 90.0)),
        KEPT,
    ),
    Scenario(
        "slo-halved",
        "Objectives halved by an edit",
        "What happens to requests when an edit of the policy halves both latency objectives while it runs?",
        (Phase("start", 60.0), Phase("objectives / 2", 90.0, objectives=0.5), Phase("objectives restored", 75.0)),
        GIVES,
        per_s=8.0,
    ),
    Scenario(
        "slowdown",
        "The large deployment twice as slow, then recovered",
        "How fast is a slowdown noticed that nobody announces, and how fast is the server used again?",
        (
            Phase("start", 60.0),
            Phase("large 2x slower", 90.0, slowdown=((Tier.LARGE, 2.0),)),
            Phase("large recovered", 90.0),
        ),
        GIVES,
        per_s=8.0,
    ),
    Scenario(
        "mix-drift",
        "Prompts become harder and longer",
        "Is the floor kept when more prompts are hard than the estimator was calibrated on? 30 % of outcomes are told.",
        (
            Phase("start", 75.0, hard_ratio=(0.3, 0.3)),
            Phase("drift", 120.0, hard_ratio=(0.3, 0.55), longer=(1.0, 1.3)),
            Phase("new mix", 105.0, hard_ratio=(0.55, 0.55), longer=(1.3, 1.3)),
        ),
        KEPT,
        feedback_ratio=0.3,
    ),
    Scenario(
        "stale-telemetry",
        "Telemetry 0.2 to 15 s old",
        "How much is lost as the servers' own figures age, while others load both servers unseen, on and off?",
        tuple(Phase(f"{lag:g} s old", 75.0, telemetry_lag_s=lag) for lag in (0.2, 1.0, 5.0, 15.0)),
        GIVES,
        per_s=8.0,
        background=Background(8.0, 1000, 150, on_s=15.0, off_s=15.0),
    ),
    Scenario(
        "lost",
        "One deployment lost, then the other",
        "What is saved when a deployment goes down with all it holds, and how soon is it used when it is back?",
        (
            Phase("start", 60.0),
            Phase("large lost", 60.0, down=Tier.LARGE),
            Phase("large back", 75.0),
            Phase("small lost", 60.0, down=Tier.SMALL),
            Phase("small back", 75.0),
        ),
        GIVES,
    ),
    Scenario(
        "bursts",
        "On-off bursts",
        "Does control hold when the same mean load comes in bursts, 8.5 s on and 20.5 s off?",
        (Phase("start", 60.0), Phase("on-off bursts", 145.0, bursts=CODE_BURSTS), Phase("even again", 60.0)),
        GIVES,
    ),
    Scenario(
        "flood",
        "One tenant floods",
        "What is left for the other tenants while one sends four times as much as all of them together?",
        (Phase("start", 60.0), Phase("flood", 75.0, flood_per_s=22.0), Phase("flood over", 75.0)),
        GIVES,
    ),
)
SCENARIOS: Final[Mapping[str, Scenario]] = {scenario.name: scenario for scenario in _ALL}
