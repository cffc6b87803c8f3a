"""A log under a new policy, estimated: quality, promises kept, useful answers and cost, with how sure each is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from msgspec import Struct

from router.domain.decision import Decision
from router.domain.errors import RequestError
from router.learning.off_policy import Choice, Evidence, Reward, Support, as_logged, doubly_robust, ips, snips, support
from router.policy.policy import Policy
from router.sim.beside.resample import Blocks, Floats, Indexes
from router.sim.off_policy.cases import Case, Cases
from router.sim.off_policy.caveats import Flow, caveats
from router.sim.off_policy.conclusion import LEAST_REPLAYED, Needed, needed, refusal
from router.sim.off_policy.in_time import Unreplayable
from router.sim.off_policy.intervals import Estimate, Intervals
from router.sim.off_policy.rewards import (
    METRICS,
    Judged,
    Metric,
    Stratum,
    as_it_was,
    as_promised,
    told_shares,
    untold,
)
from router.sim.replay import WAITS, Chances, Replaying
from router.storage.decision_records import Logged

_STILL_OPEN = "its end is not in the log: it was under way, or a crash cut it off"
_WAITS = "every deployment that the new policy allows was full, and how long it would have waited is not known"


class Figure(Struct, frozen=True):
    """One quantity. `logged` is what the policy that logged did earn; `difference` is of `dr` to the same estimate of
    what that policy earns on average, so that the luck of its exploration counts on neither side. `refused` says why
    nothing can be concluded; `clear` is better, worse, or empty."""

    logged: Estimate | None
    ips: Estimate | None
    snips: Estimate | None
    dr: Estimate | None
    difference: Estimate | None
    support: Support
    refused: str
    clear: str


class Estimated(Struct, frozen=True):
    """The requests of one class of the new policy, or all."""

    requests: int
    figures: dict[str, Figure]
    needed: tuple[Needed, ...]

    @property
    def is_refused(self) -> bool:
        """Whether any figure is."""
        return any(figure.refused for figure in self.figures.values())


class Evaluation(Struct, frozen=True):
    """A log under a new policy. `skipped` are reasons by how often; `refused` is why the whole says nothing."""

    requests: int
    evaluated: int
    refused: str
    blocks: Blocks
    overall: Estimated
    by_class: dict[str, Estimated]
    flows: tuple[Flow, ...]
    skipped: dict[str, int]
    caveats: tuple[str, ...]

    @property
    def is_refused(self) -> bool:
        """Whether the whole or any figure of it is."""
        return bool(self.refused) or self.overall.is_refused


class _Row(Struct, frozen=True):
    """A request that can be estimated: what it was, what it would be, both judged."""

    case: Case
    chances: Chances
    was: Judged
    would: Judged

    @property
    def stratum(self) -> Stratum:
        return self.case.decision.request_class, str(self.case.decision.chosen)


def evaluate(logged: Iterable[Logged], old: Policy, new: Policy, *, only: str | None = None) -> Evaluation:
    """Estimate what `new` would have earned on what was logged; `old` is the policy in force then. `only` names one
    class of the new policy."""
    if only is not None and only not in {c.name for c in new.classes}:
        raise RequestError(f"the new policy has no class `{only}`; it has {', '.join(c.name for c in new.classes)}")
    rows, skipped = _rows(logged, old, new, only)
    intervals = Intervals([row.case.decision.at - row.case.decision.waited_s for row in rows])
    by_class: defaultdict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        by_class[row.chances.request_class.name].append(index)
    everything = len(rows) + skipped.total()
    flows, heard = _flows(rows), _heard(rows)
    return Evaluation(
        requests=everything,
        evaluated=len(rows),
        refused=_refused(len(rows), everything),
        blocks=intervals.told,
        overall=_estimated(rows, range(len(rows)), intervals),
        by_class={name: _estimated(rows, by_class[name], intervals) for name in sorted(by_class)},
        flows=flows,
        skipped=dict(skipped.most_common()),
        caveats=tuple(caveats(old, new, flows, heard)),
    )


def _refused(evaluated: int, requests: int) -> str:
    if not requests:
        return "the log holds no decision"
    if evaluated < LEAST_REPLAYED * requests:
        return f"only {evaluated / requests:.1%} of the requests can be replayed (at least {LEAST_REPLAYED:.0%})"
    return ""


def _rows(logged: Iterable[Logged], old: Policy, new: Policy, only: str | None) -> tuple[list[_Row], Counter[str]]:
    """What can be estimated, and why the rest cannot."""
    replaying, cases = Replaying(old, new), Cases(logged)
    before, after = ({str(d.name): d for d in policy.deployments} for policy in (old, new))
    rows: list[_Row] = []
    skipped: Counter[str] = Counter()
    for case in cases:
        try:
            chances = replaying.chances(case.decision)
        except Unreplayable as why:
            skipped[str(why)] += 1
            continue
        if only is not None and chances.request_class.name != only:
            continue
        if chances.without == WAITS:
            skipped[_WAITS] += 1
            continue
        answered_by = case.outcome.deployment
        prices = before.get(answered_by), after.get(answered_by)
        rows.append(_Row(case, chances, as_it_was(case), as_promised(case, chances.request_class, *prices)))
    if cases.open:
        skipped[_STILL_OPEN] += cases.open
    return rows, skipped


def _estimated(rows: Sequence[_Row], members: Sequence[int], intervals: Intervals) -> Estimated:
    """Every figure of some of the rows."""
    chosen = [rows[i] for i in members]
    which: Indexes = np.asarray(members, dtype=np.intp)
    figures = {metric.name: _figure(metric, chosen, which, intervals) for metric in METRICS}
    thinnest = min(figures.values(), key=lambda f: (f.support.moved_effective, f.support.told)).support
    width = sum(len(row.case.decision.candidates) for row in chosen) / max(len(chosen), 1)
    is_thin = any(figure.refused for figure in figures.values())
    return Estimated(len(chosen), figures, needed(thinnest, deployments=width) if is_thin else ())


def _figure(metric: Metric, rows: Sequence[_Row], which: Indexes, intervals: Intervals) -> Figure:
    """One quantity under both policies."""
    choices, would, was = _evidence(metric, rows)
    told, before = Evidence(choices, would), Evidence([_stay(c) for c in choices], was)
    stands = support(told)
    wholes: Floats = np.round(told.served) if metric.of_served else np.ones(len(rows))
    most = metric.most
    wide = most or float(np.abs(told.residual).max(initial=0.0))
    robust = doubly_robust(told, wholes, most=most, widest=wide)
    own = as_logged(before, most=most, widest=most or float(np.abs(before.residual).max(initial=0.0)))
    largest = most or float(told.observed.max(initial=0.0))
    size = stands.effective
    refused = refusal(stands, rests_on="" if metric.hangs is None else "feedback")
    stayed = Evidence([_average(row.case.decision, c) for row, c in zip(rows, choices, strict=True)], was)
    average = doubly_robust(stayed, np.ones(len(rows)), most=most, widest=wide)
    difference = intervals.difference(robust, average, which, effective=size)
    return Figure(
        logged=intervals.of(own, which, effective=support(before).effective, most=most),
        ips=intervals.of(ips(told, wholes, most=most, widest=largest), which, effective=size),
        snips=intervals.of(snips(told, wholes, most=most, widest=largest), which, effective=size, most=most),
        dr=intervals.of(robust, which, effective=size, most=most),
        difference=difference,
        support=stands,
        refused=refused,
        clear="" if refused or difference is None else _verdict(difference, metric.gain),
    )


def _evidence(metric: Metric, rows: Sequence[_Row]) -> tuple[list[Choice], list[Reward], list[Reward]]:
    """The choices, and the rewards by the promises of the new and of the old policy."""
    strata = [row.stratum for row in rows]
    would, was = [row.would for row in rows], [row.was for row in rows]
    unheard = untold(metric, would, strata)
    choices, after, before = [], [], []
    shares = told_shares(metric, would, strata), told_shares(metric, was, strata)
    for row, now, then in zip(rows, *shares, strict=True):
        decision = row.case.decision
        again = {c.deployment: c for c in row.chances.candidates}
        known, ahead = [], []
        for candidate in decision.candidates:
            changed = again.get(candidate.deployment, candidate)
            known.append(metric.predicted(candidate.terms))
            ahead.append(metric.predicted(changed.terms))
        choices.append(_choice(decision, row.chances, unheard))
        after.append(Reward(tuple(ahead), metric.observed(row.would), now))
        before.append(Reward(tuple(known), metric.observed(row.was), then))
    return choices, after, before


def _choice(decision: Decision, chances: Chances, unheard: frozenset[Stratum]) -> Choice:
    """What nothing can be heard of has no support."""
    target = {c.deployment: c.propensity for c in chances.candidates}
    names = [c.deployment for c in decision.candidates]
    logged = (
        0.0 if (decision.request_class, str(c.deployment)) in unheard else c.propensity for c in decision.candidates
    )
    return Choice(tuple(target.get(n, 0.0) for n in names), tuple(logged), names.index(decision.chosen))


def _stay(choice: Choice) -> Choice:
    """The pick as it was, for certain; what nothing is heard of stays without support."""
    picked = tuple(float(i == choice.pick) for i in range(len(choice.target)))
    heard = tuple(p if q > 0.0 else 0.0 for p, q in zip(picked, choice.logged, strict=True))
    return Choice(picked, heard, choice.pick)


def _average(decision: Decision, choice: Choice) -> Choice:
    """The policy that logged, as it picks on average."""
    return Choice(tuple(c.propensity for c in decision.candidates), choice.logged, choice.pick)


def _verdict(difference: Estimate, gain: int) -> str:
    if difference.low <= 0.0 <= difference.high:
        return ""
    return "better" if difference.value * gain > 0.0 else "worse"


def _flows(rows: Sequence[_Row]) -> tuple[Flow, ...]:
    """The share of each deployment under both policies; what goes nowhere is told by its reason."""
    then: Counter[str] = Counter(str(row.case.decision.chosen) for row in rows)
    now: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        if row.chances.without:
            now[row.chances.without] += 1.0
        for candidate in row.chances.candidates:
            now[str(candidate.deployment)] += candidate.propensity
    names = sorted({*then, *(name for name, mass in now.items() if mass > 0.0)})
    return tuple(Flow(name, then[name] / len(rows), now[name] / len(rows)) for name in names)


def _heard(rows: Sequence[_Row]) -> Mapping[str, float]:
    """The share of answers that feedback came of, by deployment."""
    answered: Counter[str] = Counter(str(row.case.decision.chosen) for row in rows if row.was.answered)
    told: Counter[str] = Counter(str(row.case.decision.chosen) for row in rows if row.was.told is not None)
    return {name: told[name] / count for name, count in answered.items()}
