"""Where does a request fall while edits are on their way?

Every canary says by its own hash whether a request is in; the request is then placed in the one snapshot that holds
exactly those edits. So what one edit does never depends on what becomes of another. A shadow moves nobody: it is
compared with where the request fell.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from msgspec.structs import replace

from router.core.rollouts.experiment import Experiment
from router.core.rollouts.placed import Placed, Shadow
from router.core.rollouts.table import Table, place_of
from router.core.rollouts.trial import CANARY, STABLE, Trial
from router.domain.errors import RequestError
from router.domain.request import Request
from router.domain.slo import RequestClass
from router.policy.compile import digest
from router.policy.policy import Policy


class Tables:
    """The snapshots of one moment: `stable` are the classes in force, in the order written."""

    def __init__(
        self,
        written: Policy,
        stable: Mapping[str, RequestClass],
        trials: Mapping[str, Trial],
        experiments: Mapping[str, Experiment],
    ) -> None:
        self._written, self._stable, self._experiments = written, stable, experiments
        self._canaries = {n: t for n, t in trials.items() if t.is_canary}
        self._shadows = {n: t for n, t in trials.items() if t.is_shadow}
        self._by_edits: dict[frozenset[str], Table] = {}
        self.in_force = self._table(frozenset())
        self._all = self._table(frozenset(self._canaries))
        self._compared = self._with(self._shadows) if self._shadows else None

    def _table(self, edits: frozenset[str]) -> Table:
        if edits not in self._by_edits:
            self._by_edits[edits] = self._with({name: self._canaries[name] for name in edits})
        return self._by_edits[edits]

    def _with(self, trials: Mapping[str, Trial]) -> Table:
        """The snapshot with these edits; classes that are not edited are the same objects in every snapshot."""
        classes = (trials[c.name].new if c.name in trials else self._stable.get(c.name) for c in self._written.classes)
        held = tuple(c for c in classes if c is not None)
        if held == self._written.classes:
            return Table(self._written)
        mixed = replace(self._written, classes=held, digest="")
        return Table(replace(mixed, digest=digest(mixed)))

    def proposed(self, trial: Trial) -> Policy:
        """What is in force, with this edit."""
        return self._with({trial.name: trial}).policy

    def place(self, request: Request, use_case: str) -> Placed:
        """Where a request falls; raises `RequestError` (unknown_class)."""
        placed = self._among_canaries(request, use_case) if self._canaries else None
        if placed is None:
            placed = self._in_force(self.in_force, request, use_case)
        if self._compared is None:
            return placed
        return self._beside(self._compared, placed, request, use_case)

    def _in_force(self, table: Table, request: Request, use_case: str) -> Placed:
        request_class = table.classify(request, use_case)
        experiment = self._experiments.get(request_class.name)
        if experiment is None or request_class is not experiment.request_class:
            return Placed(table.policy, request_class)
        side, evidence = experiment.side(request)
        return Placed(table.policy, side, evidence.name, evidence)

    def _among_canaries(self, request: Request, use_case: str) -> Placed | None:
        """`None` where no edit on its way would place the request otherwise."""
        edits = frozenset(n for n, t in self._canaries.items() if _is_in(t, request))
        table = self._table(edits)
        old, new = _class(self.in_force, request, use_case), _class(self._all, request, use_case)
        if new is old:
            return None
        names = [c.name for c in (new, old) if c is not None]
        trial = next((self._canaries[n] for n in names if n in self._canaries), None)
        if trial is None:
            return None
        if old is None and trial.old is None and request.request_class == trial.name:
            edits, table = edits | {trial.name}, self._table(edits | {trial.name})
        placed = self._in_force(table, request, use_case)
        if placed.arm:
            return placed
        if trial.name in edits:
            return Placed(placed.policy, placed.request_class, CANARY, trial.evidence)
        return Placed(placed.policy, placed.request_class, STABLE, trial.stable)

    def _beside(self, compared: Table, placed: Placed, request: Request, use_case: str) -> Placed:
        """With the shadow that would place the request otherwise, if there is one."""
        shadow, old = _class(compared, request, use_case), _class(self.in_force, request, use_case)
        if shadow is None or old is None or shadow is old:
            return placed
        trial = next((self._shadows[n] for n in (shadow.name, old.name) if n in self._shadows), None)
        if trial is None:
            return placed
        return replace(placed, shadow=Shadow(Placed(compared.policy, shadow), trial.version))

    def classes(self) -> list[tuple[str, RequestClass]]:
        """Every class that a request may be decided under: in force, on its way, and under each arm; under its name, or
        its name and its side."""
        arms = ((f"{n}/{arm}", c) for n, e in self._experiments.items() for arm, c in e.sides())
        edits = ((f"{n}/{CANARY}", t.new) for n, t in self._canaries.items())
        return list(chain(((c.name, c) for c in self.in_force.policy.classes), edits, arms))


def _is_in(trial: Trial, request: Request) -> bool:
    return place_of(request, trial.new.rollout.by, f"{trial.name}/{trial.version}") < trial.ratio


def _class(table: Table, request: Request, use_case: str) -> RequestClass | None:
    try:
        return table.classify(request, use_case)
    except RequestError:
        return None
