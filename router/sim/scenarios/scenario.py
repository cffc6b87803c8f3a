"""What is a scenario? Phases that follow each other; everything that changes, changes between two of them."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from msgspec import Struct

from router.backends.simulated_fleet import Background
from router.domain.deployment import Tier
from router.sim.scenarios.traffic import CONVERSATION, Bursts, Lengths

FLOODING = "flood"
"""The tenant that floods; it is not watched."""


class Phase(Struct, frozen=True):
    """A stretch of time under one set of conditions. Pairs go from the first value to the second, evenly.

    `change` says in a few words what is new when it begins. `load` multiplies the scenario's rate, `objectives` every
    threshold of the policy, `longer` the tokens of prompts and answers. `hard_ratio` is the share of prompts that the
    small model fails. `slowdown` and `down` befall all deployments of a tier. `flood_per_s` come from one tenant more.
    """

    change: str
    lasts_s: float
    load: float = 1.0
    hard_ratio: tuple[float, float] = (0.4, 0.4)
    longer: tuple[float, float] = (1.0, 1.0)
    bursts: Bursts | None = None
    objectives: float = 1.0
    slowdown: tuple[tuple[Tier, float], ...] = ()
    down: Tier | None = None
    telemetry_lag_s: float = 0.0
    flood_per_s: float = 0.0


class Scenario(Struct, frozen=True):
    """One change to be followed, with its fleet's load by others and its policy. `hard_ratio` of the first phase is
    what the estimator was calibrated on."""

    name: str
    title: str
    question: str
    phases: tuple[Phase, ...]
    policy: str
    per_s: float = 5.5
    lengths: Lengths = CONVERSATION
    background: Background = Background()
    feedback_ratio: float = 0.0

    @property
    def begins_s(self) -> tuple[float, ...]:
        """When each phase begins, and at last when the scenario ends."""
        return (0.0, *accumulate(phase.lasts_s for phase in self.phases))

    @property
    def ends_s(self) -> float:
        """When the last request may arrive."""
        return self.begins_s[-1]

    def phase_at(self, at_s: float) -> int:
        """The phase of an instant."""
        return min(bisect_right(self.begins_s, at_s) - 1, len(self.phases) - 1)

    @property
    def has_flood(self) -> bool:
        """Whether somebody floods, so that the others are watched."""
        return any(phase.flood_per_s > 0.0 for phase in self.phases)

    @property
    def has_own_mix(self) -> bool:
        """Whether the prompts themselves change, so that no trace can stand for them."""
        return any(p.hard_ratio != self.phases[0].hard_ratio or p.longer != (1.0, 1.0) for p in self.phases)
