"""All rollouts of a policy: what becomes of each edit, and which snapshots follow from it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from router.core.rollouts.evidence import Evidence, all_judged
from router.core.rollouts.experiment import Experiment
from router.core.rollouts.gate import Asked, Verdict
from router.core.rollouts.placed import Placed
from router.core.rollouts.saved import SavedRollouts
from router.core.rollouts.table import version_of
from router.core.rollouts.tables import Tables
from router.core.rollouts.trial import Trial
from router.domain.events import Event, RolloutChanged
from router.domain.request import Request
from router.domain.rollout import RolloutMode
from router.domain.slo import Match, RequestClass
from router.policy.policy import Policy
from router.routing.filters import serves

_BY_STEPS = (RolloutMode.CANARY, RolloutMode.SHADOW)


class Rollouts:
    """Begins with a policy that is in force as a whole."""

    def __init__(self, policy: Policy) -> None:
        self.written = policy
        self._stable: dict[str, RequestClass] = {c.name: c for c in policy.classes}
        self.trials: dict[str, Trial] = {}
        self.experiments: dict[str, Experiment] = {}
        self._start_experiments(0.0)

    def take_up(self, policy: Policy, *, now: float, at: float) -> list[Event]:
        """An edit of the directory: classes change at once, or begin their rollouts. Says what became of which."""
        events: list[Event] = []
        trials: dict[str, Trial] = {}
        stable: dict[str, RequestClass] = {}
        for new in policy.classes:
            trial, told = self._trial(new, policy, now=now, at=at)
            events += told
            if trial is None:
                stable[new.name] = new
                continue
            trials[new.name] = trial
            if trial.old is not None:
                stable[new.name] = replace(trial.old, rollout=new.rollout)
        gone = (t for n, t in self.trials.items() if n not in trials and n not in stable)
        events += [trial.told("superseded", "the class was removed", at=at) for trial in gone]
        self.written, self._stable, self.trials = _with_profiles(policy, self.written), stable, trials
        return [*events, *self._start_experiments(at)]

    def _trial(self, new: RequestClass, policy: Policy, *, now: float, at: float) -> tuple[Trial | None, list[Event]]:
        """The trial of a class as it is written now, or `None` where that is in force."""
        version, old, trial = version_of(new), self._stable.get(new.name), self.trials.get(new.name)
        by_steps = new.rollout.mode in _BY_STEPS
        if trial is not None and trial.version == version:
            if by_steps and _is_served(trial.old, policy):
                told = trial.adopt(new, now=now, at=at)
                return trial, [] if told is None else [told]
            why = "nothing is left that could serve it as it was" if by_steps else f"its mode is {new.rollout.mode} now"
            return None, [trial.told("promoted", why, at=at)]
        events: list[Event] = []
        if trial is not None:
            events.append(trial.told("superseded", "it was edited", at=at))
        if not by_steps or (old is not None and version_of(old) == version) or _is_first_catch_all(old, new):
            return None, events
        reason = None
        if old is not None and (old.match == Match()) is not (new.match == Match()):
            reason = "what takes everything else cannot change by steps"
        elif not _is_served(old, policy):
            reason = "nothing is left that could serve it as it was"
        if reason is not None:
            return None, [*events, RolloutChanged(new.name, "promoted", 1.0, version, reason, at)]
        begun = Trial(old, new, now=now)
        return begun, [*events, begun.told(begun.state, "the class was edited", at=at)]

    def _start_experiments(self, at: float) -> list[Event]:
        """Those of the classes in force; then the snapshots of the moment."""
        events: list[Event] = []
        running: dict[str, Experiment] = {}
        for name, request_class in self._stable.items():
            if request_class.rollout.mode is not RolloutMode.AB or name in self.trials:
                continue
            fresh, old = Experiment(request_class), self.experiments.get(name)
            if old is not None and old.version == fresh.version:
                running[name] = old
                continue
            running[name] = fresh
            events.append(fresh.told("ab", f"{len(request_class.rollout.arms)} arms begin", at=at))
        over = (e for n, e in self.experiments.items() if n not in running)
        events += [e.told("superseded", "the experiment was ended by an edit", at=at) for e in over]
        self.experiments = running
        self._arrange()
        return events

    def _arrange(self) -> None:
        self._tables = Tables(self.written, self._stable, self.trials, self.experiments)

    @property
    def policy(self) -> Policy:
        """The snapshot in force: what was written, with the old side of every class whose edit is on its way."""
        return self._tables.in_force.policy

    def classes(self) -> Sequence[tuple[str, RequestClass]]:
        """Every class that a request may be decided under, by name, or by name and side."""
        return self._tables.classes()

    def place(self, request: Request, use_case: str) -> Placed:
        """Where a request falls; raises `RequestError` (unknown_class)."""
        return self._tables.place(request, use_case)

    def tick(self, *, now: float, at: float) -> list[Event]:
        """Whatever goes on or back; a transition changes the snapshots."""
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

    def asked(self) -> list[Asked]:
        """Every edit that waits for a word on the decision log."""
        waiting = (t for t in self.trials.values() if t.is_gated and not t.taken_back)
        return [
            Asked(t.name, t.version, require, self.policy, self._tables.proposed(t))
            for t in waiting
            if (require := t.new.rollout.require) is not None
        ]

    def hear(self, asked: Asked, verdict: Verdict, *, now: float, at: float) -> list[Event]:
        """The word on an edit, unless it has been edited meanwhile."""
        trial = self.trials.get(asked.request_class)
        if trial is None or (trial.version, trial.new.rollout.require) != (asked.version, asked.require):
            return []
        change = trial.hear(verdict, now=now, at=at)
        self._arrange()
        return [] if change is None else [change]

    def observed(self) -> list[Event]:
        """What is told of every side that runs."""
        canaries = (t for t in self.trials.values() if t.is_canary)
        groups: list[tuple[str, tuple[Evidence, ...]]] = [(t.name, (t.evidence, t.stable)) for t in canaries]
        groups += [(name, e.all_evidence()) for name, e in self.experiments.items()]
        return [event for name, sides in groups for e in sides for event in e.observed(name, told=all_judged(sides))]

    def saved(self, *, now: float) -> SavedRollouts:
        """What a restart must not forget."""
        return SavedRollouts(
            tuple(self._stable.values()),
            tuple(t.saved(now=now) for t in self.trials.values()),
            tuple(e.saved() for e in self.experiments.values()),
        )

    def resume(self, saved: SavedRollouts, *, now: float, at: float) -> list[Event]:
        """Go on where an earlier life of the process was: what was in force then is in force now, and an edit made
        meanwhile begins its rollout."""
        known = {(t.request_class, t.version): t for t in saved.trials}
        decided = {(e.request_class, e.version): e for e in saved.experiments}
        self._stable = {c.name: c for c in saved.classes}
        events = self.take_up(self.written, now=now, at=at)
        old_news: set[str] = set()
        for trial in self.trials.values():
            earlier = known.get((trial.name, trial.version))
            if earlier is not None:
                trial.resume(earlier, now=now)
                old_news.add(trial.version)
        for name, experiment in self.experiments.items():
            found = decided.get((name, experiment.version))
            if found is not None:
                experiment.resume(found)
                old_news.add(experiment.version)
        self._arrange()
        return [e for e in events if not (isinstance(e, RolloutChanged) and e.version in old_news)]


def _is_served(old: RequestClass | None, policy: Policy) -> bool:
    """Whether the class as it was could go on beside the edit; a new class has nothing to go on with."""
    return old is None or any(serves(old, d) for d in policy.deployments)


def _is_first_catch_all(old: RequestClass | None, new: RequestClass) -> bool:
    return old is None and new.match == Match()


def _with_profiles(policy: Policy, before: Policy) -> Policy:
    """With the parameter profiles that only the classes as they were may still name."""
    names = {name for name, _ in policy.profiles}
    used = {c.profile for c in before.classes}
    kept = tuple((name, p) for name, p in before.profiles if name not in names and name in used)
    return replace(policy, profiles=(*policy.profiles, *kept)) if kept else policy
