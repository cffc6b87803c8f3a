"""Which fixed setting would have been best? A search in hindsight, phase by phase, on the same requests.

Every phase has a setting of its own, and each run tries another one in every phase at once, so that each phase keeps
what served it best. First come settings drawn at random; then one knob after the other is turned through all its
values; then two knobs at a time, drawn at random. Best is most useful answers to whoever is watched; where the floor
may not give, an adequate answer too few weighs more than could be gained by it. What is reported is a last run
under the schedule that was found, which therefore knows when each phase begins: no controller does. It is the best of
its family, not a bound: a router that weighs each prompt can do better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from router.domain.slo import FloorUnderOverload
from router.sim.report import Ended, Served
from router.sim.scenarios.fixed import FixedRun, FixedSetting
from router.sim.scenarios.scenario import FLOODING
from router.sim.scenarios.staging import Stage
from router.sim.workload import Arrival

Progress = Callable[[int, int], None]
KNOBS: Final[Mapping[str, Sequence[float]]] = {
    "small_from": (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3),
    "large_limit": (0, 12, 24, 36, 48, 60, 80, 128),
    "length_weight": (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.9),
    "never_below": (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    "small_limit": (0, 32, 64, 96, 128, 192),
}
_TENANT_KNOB: Final[Mapping[str, Sequence[float]]] = {"tenant_ratio": (1.0, 0.5, 0.25, 0.1)}
SCATTERED: Final = 56
PAIRS: Final = 48
_NEAR_FLOOR = 0.005
"""A share adequate this little under the floor still keeps it: the reference is given the benefit of the doubt."""
_LACKING = 20.0
"""What an adequate answer too few for the floor weighs, in useful answers: more than could be gained by it."""


class Best(Struct, frozen=True):
    """The setting of each phase, and what became of each request under them."""

    settings: tuple[FixedSetting, ...]
    served: tuple[Served, ...]


def runs(stage: Stage) -> int:
    """How many runs a search takes at most."""
    return SCATTERED + sum(len(values) for values in _knobs(stage).values()) + PAIRS + 2


class _Search:
    """The best setting and score of each phase so far."""

    def __init__(self, stage: Stage, run: FixedRun, progress: Progress | None) -> None:
        self._stage, self._run, self._progress = stage, run, progress
        self._done = 0
        self.settings = [FixedSetting()] * len(stage.policies)
        self.scores = [float("-inf")] * len(stage.policies)

    def play(self, settings: Sequence[FixedSetting]) -> tuple[Served, ...]:
        """One run, a setting a phase."""
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, runs(self._stage))
        return self._run.play(list(zip(self._stage.scenario.begins_s, settings, strict=False)))

    def attempt(self, settings: Sequence[FixedSetting]) -> None:
        """Keep what is better."""
        for index, score in enumerate(_scores(self._stage, self.play(settings))):
            if score > self.scores[index]:
                self.scores[index], self.settings[index] = score, settings[index]

    def again(self) -> None:
        """Score what was found in its own company: what a phase leaves behind weighs on the next."""
        self.scores = _scores(self._stage, self.play(self.settings))


def search(stage: Stage, run: FixedRun, progress: Progress | None = None) -> Best:
    """The best settings of a stage."""
    rng = Random(f"{stage.seed}/hindsight")
    knobs, found = _knobs(stage), _Search(stage, run, progress)
    for _ in range(SCATTERED):
        one = replace(FixedSetting(), **{knob: rng.choice(values) for knob, values in knobs.items()})
        found.attempt([one] * len(stage.policies))
    found.again()
    for knob, values in knobs.items():
        for value in values:
            found.attempt([replace(one, **{knob: value}) for one in found.settings])
    for _ in range(PAIRS):
        found.attempt([_turned(one, knobs, rng) for one in found.settings])
    best = Best(tuple(found.settings), found.play(found.settings))
    if progress is not None:
        progress(runs(stage), runs(stage))
    return best


def _turned(setting: FixedSetting, knobs: Mapping[str, Sequence[float]], rng: Random) -> FixedSetting:
    """Two knobs somewhere else."""
    return replace(setting, **{knob: rng.choice(knobs[knob]) for knob in rng.sample(list(knobs), 2)})


def _knobs(stage: Stage) -> Mapping[str, Sequence[float]]:
    """Where the floor may give, nothing is shed for quality's sake."""
    knobs = dict(KNOBS)
    if all(kept_floor(stage, phase) is None for phase in range(len(stage.policies))):
        del knobs["never_below"]
    return {**knobs, **_TENANT_KNOB} if stage.scenario.has_flood else knobs


def _scores(stage: Stage, served: Sequence[Served]) -> list[float]:
    """Of each phase: the useful answers, less what the floor lacks where it must be kept."""
    phases: list[list[Served]] = [[] for _ in stage.policies]
    for one, row in zip(served, stage.workload.arrivals, strict=True):
        if is_watched(row):
            phases[stage.scenario.phase_at(row.at_s)].append(one)
    return [_score(kept_floor(stage, index), inside) for index, inside in enumerate(phases)]


def _score(floor: float | None, served: Sequence[Served]) -> float:
    useful = sum(bool(s.slo_met and s.adequate) for s in served)
    if floor is None:
        return float(useful)
    done = [s for s in served if s.ended is Ended.COMPLETED]
    lacking = (floor - _NEAR_FLOOR) * len(done) - sum(bool(s.adequate) for s in done)
    return useful - _LACKING * max(lacking, 0.0)


def kept_floor(stage: Stage, phase: int) -> float | None:
    """The highest floor of the classes that may not give under overload."""
    floors = (c.floor for c in stage.policies[phase].classes)
    held = [f.ratio for f in floors if f is not None and f.under_overload is FloorUnderOverload.SHED]
    return max(held, default=None)


def is_watched(row: Arrival) -> bool:
    """Whether a request counts: all do but those of whoever floods."""
    return row.tenant != FLOODING
