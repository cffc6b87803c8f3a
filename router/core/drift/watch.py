"""Asks of every request and every answer that was told whether something drifts, and does something about it."""

from __future__ import annotations

from collections import deque

from router.core.drift.freeze import Freeze
from router.core.evidence import Remembered
from router.core.ticket import Ticket
from router.domain.drift import DriftDetected
from router.domain.events import SENDER, Event
from router.learning.drift.residuals import Residual, Residuals, Run
from router.learning.drift.stream import Features, Move
from router.learning.quality import QualityModel

_CLASS_ALARM, _SOURCE_ALARM = 20.0, 16.0
"""Sums of standard deviations. Where nothing moves the lower one is reached once in some 20,000 answers (Siegmund's
approximation). The class waits longer: what is a model's or a source's is told as theirs."""
_SETTLING = 100
"""Answers in which what is predicted is set right at first, or after all of it was opened again."""
_LATELY = 128
"""Answers among which a model is heard that has eight."""
_HEARD = 8
_IDLE_S = 900.0
_LONGEST_DOUBLINGS = 4
_SINGLE = ("novelty", "complexity", "input_tokens")
_DONE = {
    "fell": "its lower bound counts and the exploration share goes to it",
    "rose": "it counts as it did before it fell",
    "settled": "it is taken for what it is now",
    "retried": "nothing was told of it for long: it is tried as it was",
    "novelty": "what was learned counts for less on prompts more novel than those it was learned on",
    "share": "beliefs change with answers, not with time",
}


class Drift:
    """One per controller. Names no prompt; keeps a few figures a class, a source and a fallen model."""

    def __init__(self, qualities: QualityModel) -> None:
        self._qualities = qualities
        self._features: dict[str, Features] = {}
        self._classes: dict[str, Residuals] = {}
        self._sources: dict[str, Residuals] = {}
        self._frozen: dict[str, Freeze] = {}
        self._lately: deque[str] = deque(maxlen=_LATELY)
        self._told_at: dict[str, float] = {}
        """When a fallen model was last told of."""
        self._falls: dict[str, int] = {}
        """How often a model fell since it last rose."""
        self._events: list[tuple[str, str, str, str, float, float, str]] = []
        self._now = 0.0

    def see(self, ticket: Ticket) -> None:
        """A request came."""
        name, scored = ticket.request_class.name, ticket.scored
        features = self._features.get(name)
        if features is None:
            features = self._features[name] = Features()
        moves = features.add(scored.novelty, scored.complexity, ticket.request.input_tokens)
        if moves:
            self._on_moves(name, moves)

    @property
    def unheard(self) -> tuple[str, ...]:
        """Sources of feedback that beliefs are frozen for."""
        return tuple(sorted(self._frozen))

    def is_frozen(self, source: str) -> bool:
        """Whether nothing is learned of what this source tells."""
        return source in self._frozen

    def flatters(self, source: str) -> bool:
        """Whether this source is frozen for telling more than it did: that lowers no floor price."""
        freeze = self._frozen.get(source)
        return freeze is not None and freeze.flatters

    def teach(self, known: Remembered, adequate: float, *, source: str = SENDER) -> None:
        """An answer was told: the beliefs learn from it, unless its source is frozen or found to have drifted."""
        qualities = self._qualities
        if known.request_class in self._features:
            self._features[known.request_class].told += 1
        if qualities.frozen:
            return
        p, error = qualities.error(known.estimate, known.model, known.use_case, adequate, common=known.ease)
        if source in self._frozen:
            self._frozen[source].add(p, adequate, error)
            return
        self._lately.append(known.model)
        residual = Residual(p, adequate, error, known.model, known.request_class, known.use_case)
        by_source = self._sources.setdefault(source, Residuals(alarm=_SOURCE_ALARM, settling=_SETTLING))
        run = by_source.add(residual)
        is_shared = None if run is None else run.is_shared()
        if run is not None and is_shared:
            self._freeze(source, run)
            return
        if is_shared is False:
            by_source.reset()
        of_class = self._classes.setdefault(known.request_class, Residuals(alarm=_CLASS_ALARM, settling=_SETTLING))
        told = of_class.add(residual)
        if told is not None and told.is_shared():
            self._reopen(known.request_class, told)
            return
        self._learn(known, residual, source, by_source.down)

    def tick(self, *, now: float, at: float) -> list[Event]:
        """What drifted since the last time; fallen models that are tried again, and sources that are heard again."""
        self._now = now
        for model in [m for m in self._qualities.fallen if self._is_forgotten(m)]:
            if not self._qualities.frozen:
                self._qualities.pardon(model)
                self._say("residual", model, "model", "retried", 0.0, 0.0)
        for source in [s for s, freeze in self._frozen.items() if freeze.is_over(now)]:
            self._thaw(source)
        told, self._events = self._events, []
        return [DriftDetected(*event, at) for event in told]

    def _learn(self, known: Remembered, residual: Residual, source: str, run: Run) -> None:
        qualities, model, adequate = self._qualities, known.model, residual.told
        had_fallen = model in qualities.fallen
        said = qualities.observe(
            known.estimate, model, known.use_case, adequate, common=known.ease, novelty=known.novelty
        )
        has_fallen = model in qualities.fallen
        if has_fallen:
            self._told_at[model] = self._now
        if had_fallen and not has_fallen:
            said = said or "settled"
            self._told_at.pop(model, None)
        if not said:
            return
        now = qualities.error(known.estimate, model, known.use_case, adequate, common=known.ease)[0]
        name = run.only_class()
        of_class = None if name is None else self._classes[name].down
        self._forget_runs()
        if said == "fell" and (run.is_shared() or self._all_fell()):
            self._freeze(source, run)
            return
        if said == "fell" and name is not None and of_class is not None and of_class.count:
            self._reopen(name, of_class)
            return
        old = residual.predicted
        if said == "fell":
            old = run.predicted / run.count if run.count else old
            self._falls[model] = self._falls.get(model, 0) + 1
        else:
            self._falls.pop(model, None)
        self._say("residual", model, "model", said, old, now)

    def _reopen(self, name: str, run: Run) -> None:
        """A class answers otherwise than predicted, whichever model does: that is not to be held against the models."""
        self._qualities.undo()
        self._told_at.clear()
        for kind in run.kinds:
            self._qualities.reopen(kind)
        self._forget_runs()
        done = f"offsets of {len(run.kinds)} use cases are open again"
        self._say("residual", name, "class", _way(run), run.predicted / run.count, run.told / run.count, done)

    def _forget_runs(self) -> None:
        for residuals in (*self._classes.values(), *self._sources.values()):
            residuals.reset()

    def _freeze(self, source: str, run: Run) -> None:
        old, new = (run.predicted / run.count, run.told / run.count) if run.count else (0.0, 0.0)
        self._qualities.undo()
        self._told_at.clear()
        self._forget_runs()
        self._frozen[source] = Freeze(self._now, flatters=new > old)
        done = "all models moved at once: what it told of late is taken back, and beliefs are frozen for it"
        self._say("feedback", source, "quality", _way(run), old, new, done)

    def _thaw(self, source: str) -> None:
        freeze = self._frozen.pop(source)
        is_off = freeze.is_still_off()
        if is_off and not self._qualities.frozen:
            self._qualities.reopen()
            self._classes.clear()
            self._sources.clear()
        done = "beliefs are open again and follow it" if is_off else "it is heard again, nothing was forgotten"
        self._say("feedback", source, "quality", "stayed" if is_off else "passed", *freeze.levels(), done)

    def _on_moves(self, name: str, moves: list[Move]) -> None:
        for move in moves:
            kind = "features" if move.what in _SINGLE else "feedback"
            done = _DONE.get(move.what, "nothing is forgotten: estimates are by prompt")
            self._say(kind, name, move.what, "up" if move.new > move.old else "down", move.old, move.new, done)

    def _all_fell(self) -> bool:
        heard = {m for m in set(self._lately) if self._lately.count(m) >= _HEARD}
        return len(heard) > 1 and heard <= self._qualities.fallen

    def _is_forgotten(self, model: str) -> bool:
        """Whether nothing has been told of a fallen model for so long that it should be tried again."""
        since = self._told_at.setdefault(model, self._now)
        doublings = min(max(self._falls.get(model, 1) - 1, 0), _LONGEST_DOUBLINGS)
        if self._now - since < _IDLE_S * 2.0**doublings:
            return False
        del self._told_at[model]
        return True

    def _say(
        self, kind: str, subject: str, what: str, direction: str, old: float, new: float, done: str | None = None
    ) -> None:
        self._events.append((kind, subject, what, direction, old, new, done or _DONE[direction]))


def _way(run: Run) -> str:
    return "up" if run.told > run.predicted else "down"
