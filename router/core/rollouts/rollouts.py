"""All rollouts of a policy: who is placed where, and what becomes of each edit."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from router.core.rollouts.evidence import Evidence
from router.core.rollouts.experiment import Experiment, SavedExperiment
from router.core.rollouts.placed import Placed, Shadow
from router.core.rollouts.table import Table, place_of, version_of
from router.core.rollouts.trial import CANARY, STABLE, SavedTrial, Trial
from router.domain.errors import RequestError
from router.domain.events import Event, RolloutChanged
from router.domain.request import Request
from router.domain.rollout import RolloutMode
from router.domain.slo import Match, RequestClass
from router.policy.compile import digest
from router.policy.policy import Policy
from router.routing.filters import serves


class SavedRollouts(Struct, frozen=True):
    """What a checkpoint keeps: the classes in force, the edits on their way or taken back, and experiments."""

    classes: tuple[RequestClass, ...] = ()
    trials: tuple[SavedTrial, ...] = ()
    experiments: tuple[SavedExperiment, ...] = ()


class Rollouts:
    """Begins with a policy that is in force as a whole."""

    def __init__(self, policy: Policy) -> None:
        self.written = policy
        self._stable: dict[str, RequestClass] = {c.name: c for c in policy.classes}
        self.trials: dict[str, Trial] = {}
        self.experiments: dict[str, Experiment] = {}
        self._arrange()
        self._start_experiments(0.0)

    def take_up(self, policy: Policy, *, now: float, at: float) -> list[Event]:
        """An edit of the directory: classes change at once, or begin their rollouts. Says what became of which."""
        events: list[Event] = []
        trials: dict[str, Trial] = {}
        stable: dict[str, RequestClass] = {}
        for new in policy.classes:
            old, trial = self._stable.get(new.name), self.trials.get(new.name)
            begun = self._begin(old, new, trial, events, now=now, at=at)
            if begun is not None and old is not None and not any(serves(old, d) for d in policy.deployments):
                events.append(begun.told("promoted", "nothing is left that could serve it as it was", at=at))
                begun = None
            if begun is not None:
                trials[new.name] = begun
            if begun is None:
                stable[new.name] = new
            elif old is not None:
                stable[new.name] = replace(old, rollout=new.rollout)
        for name, gone in self.trials.items():
            if name not in trials and name not in stable:
                events.append(gone.told("superseded", "the class was removed", at=at))
        self.written, self._stable, self.trials = policy, stable, trials
        self._arrange()
        events += self._start_experiments(at)
        return events

    def _begin(
        self,
        old: RequestClass | None,
        new: RequestClass,
        trial: Trial | None,
        events: list[Event],
        *,
        now: float,
        at: float,
    ) -> Trial | None:
        """The trial of an edit, or `None` where it is (or already was) in force."""
        version, terms = version_of(new), new.rollout
        if trial is not None and trial.version == version and terms.mode in (RolloutMode.CANARY, RolloutMode.SHADOW):
            trial.adopt(new)
            return trial
        if trial is not None:
            state, why = (
                ("promoted", "its mode is live now") if trial.version == version else ("superseded", "it was edited")
            )
            events.append(trial.told(state, why, at=at))
        if terms.mode not in (RolloutMode.CANARY, RolloutMode.SHADOW):
            return None
        is_catch_all = new.match == Match()
        if (old is not None and version_of(old) == version) or (old is None and is_catch_all):
            return None
        if old is not None and (old.match == Match()) is not is_catch_all:
            reason = "what takes everything else cannot change by steps: in force at once"
            events.append(RolloutChanged(new.name, "promoted", 1.0, version, reason, at))
            return None
        begun = Trial(old, new, now=now, at=at)
        events.append(begun.told(terms.mode.value, "the class was edited", at=at))
        return begun

    def _start_experiments(self, at: float) -> list[Event]:
        events: list[Event] = []
        running: dict[str, Experiment] = {}
        for request_class in self.policy.classes:
            if request_class.rollout.mode is not RolloutMode.AB or request_class.name in self.trials:
                continue
            fresh, old = Experiment(request_class), self.experiments.get(request_class.name)
            if old is not None and old.version == fresh.version:
                running[request_class.name] = old
                continue
            running[request_class.name] = fresh
            events.append(fresh.told("ab", f"{len(request_class.rollout.arms)} arms begin", at=at))
        self.experiments = running
        return events

    def _arrange(self) -> None:
        """The two tables. Classes without a trial are one object in both."""
        written = self.written.classes
        stable = tuple(self._stable[c.name] for c in written if c.name in self._stable)
        self._table = Table(_with(self.written, stable))
        self._edited: Table | None = None
        open_trials = {n: t for n, t in self.trials.items() if not t.taken_back}
        if open_trials:
            edited = (open_trials[c.name].new if c.name in open_trials else self._stable.get(c.name) for c in written)
            self._edited = Table(_with(self.written, tuple(c for c in edited if c is not None)))

    @property
    def policy(self) -> Policy:
        """The snapshot in force: what was written, with the old side of every class whose edit is on its way."""
        return self._table.policy

    def classes(self) -> Sequence[RequestClass]:
        """Every class that a request may be decided under: in force, on its way, and under each arm."""
        edits = [t.new for t in self.trials.values() if not t.taken_back]
        return [*self.policy.classes, *edits, *(c for e in self.experiments.values() for c in e.sides())]

    def place(self, request: Request, use_case: str) -> Placed:
        """Where a request falls; raises `RequestError` (unknown_class)."""
        if self._edited is None and not self.experiments:
            return Placed(self._table.policy, self._table.classify(request, use_case))
        if self._edited is not None:
            placed = self._between(self._edited, request, use_case)
            if placed is not None:
                return placed
        request_class = self._table.classify(request, use_case)
        experiment = self.experiments.get(request_class.name)
        if experiment is None:
            return Placed(self._table.policy, request_class)
        side, evidence = experiment.side(request)
        return Placed(self._table.policy, side, evidence.name, evidence)

    def _between(self, edited: Table, request: Request, use_case: str) -> Placed | None:
        """The side of a request that the two tables would place differently, or `None` where they agree."""
        try:
            new = edited.classify(request, use_case)
        except RequestError:
            return None
        try:
            old = self._table.classify(request, use_case)
        except RequestError:  # it asks by name for a class that only the edit has
            asked = self.trials[new.name]
            if asked.is_shadow:
                raise
            return Placed(edited.policy, new, CANARY, asked.evidence)
        trial = self.trials.get(new.name) or self.trials.get(old.name)
        if new is old or trial is None or trial.taken_back:
            return None
        if trial.is_shadow:
            return Placed(self._table.policy, old, shadow=Shadow(Placed(edited.policy, new), trial.version))
        salt = f"{trial.name}/{trial.version}"
        if place_of(request, trial.new.rollout.by, salt) < trial.ratio:
            return Placed(edited.policy, new, CANARY, trial.evidence)
        return Placed(self._table.policy, old, STABLE, trial.stable)

    def evidence(self, request_class: str, arm: str) -> Evidence | None:
        """Where late quality counts."""
        trial, experiment = self.trials.get(request_class), self.experiments.get(request_class)
        if trial is not None:
            return {CANARY: trial.evidence, STABLE: trial.stable}.get(arm)
        return None if experiment is None else experiment.evidence(arm)

    def tick(self, *, now: float, at: float) -> list[Event]:
        """Whatever goes on or back; a transition changes the tables."""
        events: list[Event] = []
        for trial in list(self.trials.values()):
            change = trial.look(now=now, at=at)
            if change is None:
                continue
            events.append(change)
            if change.state == "promoted":
                self._stable[trial.name] = trial.new
                del self.trials[trial.name]
        decided = (experiment.look(at=at) for experiment in self.experiments.values())
        events += [change for change in decided if change is not None]
        if events:
            self._arrange()
        return events

    def observed(self) -> list[Event]:
        """What is told of every side that runs."""
        sides = [(t.name, e) for t in self.trials.values() if not t.taken_back for e in (t.evidence, t.stable)]
        for name, experiment in self.experiments.items():
            sides += [(name, e) for e in experiment.all_evidence()]
        return [event for name, evidence in sides for event in evidence.observed(name)]

    def saved(self) -> SavedRollouts:
        """What a checkpoint keeps."""
        return SavedRollouts(
            tuple(self._stable.values()),
            tuple(t.saved() for t in self.trials.values()),
            tuple(e.saved() for e in self.experiments.values()),
        )

    def resume(self, saved: SavedRollouts, *, now: float, at: float) -> list[Event]:
        """Go on where an earlier life of the process was: what was in force then is in force now, and an edit made
        meanwhile begins its rollout."""
        if not saved.classes:
            return []
        known = {t.version: t for t in saved.trials}
        self._stable = {c.name: c for c in saved.classes}
        events = self.take_up(self.written, now=now, at=at)
        for trial in self.trials.values():
            earlier = known.get(trial.version)
            if earlier is not None and earlier.request_class == trial.name:
                trial.resume(earlier)
        decided = {(e.request_class, e.version): e for e in saved.experiments}
        for name, experiment in self.experiments.items():
            found = decided.get((name, experiment.version))
            if found is not None:
                experiment.resume(found)
        resumed = {t.version for t in self.trials.values()} & known.keys()
        resumed |= {e.version for e in self.experiments.values()} & {e.version for e in saved.experiments}
        self._arrange()
        return [e for e in events if not (isinstance(e, RolloutChanged) and e.version in resumed)]


def _with(policy: Policy, classes: tuple[RequestClass, ...]) -> Policy:
    """The policy with these classes, under a digest of its own where they differ."""
    if classes == policy.classes:
        return policy
    mixed = replace(policy, classes=classes, digest="")
    return replace(mixed, digest=digest(mixed))
