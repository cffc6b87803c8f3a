"""Which logged decisions would a new policy take otherwise?

Each decision is taken again from its own evidence: the predictions, the spread and the dual prices of its moment, under
the classes, promises, floors, lists, residency, prices and budgets per request of the new policy. What is not in the
log cannot be replayed and is counted with its reason; above all a deployment of which nothing was predicted then, as
the old policy did not allow it. Exploration is left out on both sides. The dual prices are as recorded: a promise that
is new or tighter would raise its price only as it is broken. How the answers would have come out is not told here: that
takes off-policy evaluation.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from router.domain.decision import Candidate, Decision
from router.domain.deployment import Deployment
from router.domain.errors import RequestError
from router.domain.request import Prompt, Request, RequestId
from router.domain.slo import Goal, RequestClass
from router.domain.view import DeploymentView, Load
from router.policy.match import ClassMatcher
from router.policy.policy import Policy
from router.routing.filters import PASSING, affordable, bar
from router.routing.need import Need
from router.routing.pickers import Best
from router.routing.scorers import utility
from router.sim.off_policy.in_time import Unreplayable, p_in_time

SHED, REFUSED, WAITS = "(shed)", "(refused)", "(waits)"
_BY_POLICY = frozenset({"not_allowed", "wrong_residency", "too_dear"})
"""Why a policy kept a deployment out; every other reason is a fact of the moment, and stays one."""
_IDLE = Load(0, 0, 0, 0.0)


class Means(Struct, frozen=True):
    """Of the picks of some decisions: what was predicted of them, and USD per 1,000."""

    p_slo: float
    p_adequate: float
    cost_per_1k_usd: float


class Moved(Struct, frozen=True):
    """From and to where so many decisions go; `(shed)`, `(refused)` and `(waits)` stand for no deployment."""

    origin: str
    target: str
    decisions: int


class ClassReplay(Struct, frozen=True):
    """The decisions that fall in one class of the new policy. `then` and `now` are of those that go to a deployment
    on both sides, each under its own promises."""

    decisions: int
    moved: int
    routes: tuple[Moved, ...]
    then: Means | None
    now: Means | None


class Replay(Struct, frozen=True):
    """A log under a new policy. `reclassed` are moves from class to class, `skipped` reasons by how often."""

    decisions: int
    replayed: int
    moved: int
    overall: ClassReplay
    by_class: dict[str, ClassReplay]
    reclassed: tuple[Moved, ...]
    skipped: dict[str, int]


class Again(Struct, frozen=True):
    """One decision taken again: `would` is the pick, or why there is none in `target`."""

    request_class: str
    origin: str
    target: str
    was: Candidate
    would: Candidate | None


class Chances(Struct, frozen=True):
    """How likely each candidate is under the new policy, its exploration included: candidates as the new policy scores
    them, `propensity` its own. None where nobody serves the request, and why in `without`."""

    request_class: RequestClass
    candidates: tuple[Candidate, ...]
    without: str = ""


class Replaying:
    """Decisions under a policy; `old` is the policy that was in force, which tells a class that the sender or a user
    property chose from one that the new policy would choose otherwise."""

    def __init__(self, old: Policy, new: Policy) -> None:
        self._old, self._new = old, new
        self._matchers = ClassMatcher(old.classes), ClassMatcher(new.classes)
        self._before = {c.name: c for c in old.classes}
        self._classes = {c.name: c for c in new.classes}
        self._named = frozenset(n for d in new.deployments for n in (d.name, d.group, d.model))

    def again(self, decision: Decision) -> Again:
        """Take a decision again; raises `Unreplayable`."""
        request = _request(decision)
        request_class = self._class_of(decision, request)
        was = max(decision.candidates, key=lambda c: (c.propensity, c.score))
        scored, _, passing = self._scored(decision, self._need(decision, request, request_class))
        if not scored:
            target, would = WAITS if passing else REFUSED, None
        else:
            best = max(scored, key=lambda c: c.score)
            would = None if request_class.sheddable and best.score <= 0.0 else best
            target = SHED if would is None else str(would.deployment)
        return Again(request_class.name, str(was.deployment), target, was, would)

    def chances(self, decision: Decision) -> Chances:
        """With what probability each candidate would be picked; raises `Unreplayable`. In logs without the lower bounds
        of P(adequate), what the new policy would explore is among what the old one could have picked."""
        request = _request(decision)
        request_class = self._class_of(decision, request)
        need = self._need(decision, request, request_class)
        scored, views, passing = self._scored(decision, need)
        if not scored:
            return Chances(request_class, (), WAITS if passing else REFUSED)
        index, probabilities = Best().pick(scored, views, need, rng=Random(0))
        if index is None:
            return Chances(request_class, (), SHED)
        weighed = (replace(c, propensity=p) for c, p in zip(scored, probabilities, strict=True))
        return Chances(request_class, tuple(weighed))

    def _class_of(self, decision: Decision, request: Request) -> RequestClass:
        if not decision.use_case:
            raise Unreplayable("it was logged before use case, topic and model were kept")
        before, after = self._matchers
        if decision.policy == self._old.digest:
            try:
                as_told = before.classify(request, decision.use_case).name
            except RequestError:
                as_told = ""
            if as_told != decision.request_class:
                return self._kept(decision.request_class)
        try:
            return after.classify(request, decision.use_case)
        except RequestError:
            raise Unreplayable(
                f"the new policy has no class `{decision.asked_class}`, which its sender names"
            ) from None

    def _kept(self, name: str) -> RequestClass:
        """The class of a request whose user properties chose it: they are not in the log."""
        if name not in self._classes:
            raise Unreplayable(f"user properties chose its class `{name}`, which the new policy has not")
        return self._classes[name]

    def _forced(self, request: Request, request_class: RequestClass) -> str | None:
        if request_class.forced is not None:
            return request_class.forced
        asked = request.model
        return asked if asked in self._named and asked not in self._classes else None

    def _scored(self, decision: Decision, need: Need) -> tuple[list[Candidate], list[DeploymentView], bool]:
        """Who stands and what each is worth, as it is seen; and whether somebody is kept out by what passes."""
        request_class = need.request_class
        known = {c.deployment: c for c in decision.candidates}
        fallen = {e.deployment: e.code for e in decision.excluded}
        forced = self._forced(need.request, request_class)
        by_policy = _BY_POLICY if self._is_paced_alike(decision, request_class) else _BY_POLICY | {"over_pace"}
        scored: list[Candidate] = []
        views: list[DeploymentView] = []
        passing = False
        for deployment in self._new.deployments:
            if bar(deployment, forced, frozenset(), request_class) is not None:
                continue
            candidate, code = known.get(deployment.name), fallen.get(deployment.name)
            if candidate is None and (code is None or code in by_policy):
                raise Unreplayable(f"nothing was predicted of {deployment.name}, which the new policy allows")
            passing |= code in PASSING
            if candidate is None:
                continue
            view = self._view(decision, candidate, deployment, request_class)
            if affordable(view, need) is None:
                scored.append(_with_check(utility(view, need), candidate, request_class))
                views.append(view)
        return scored, views, passing

    def _need(self, decision: Decision, request: Request, request_class: RequestClass) -> Need:
        usd = 1.0 / self._new.usd_per_useful
        if request_class.goal is Goal.COST:
            dearest = max(c.terms.cost_usd for c in decision.candidates)
            usd = decision.prices.usd if _was_for_cost(decision) else 1.0 / dearest if dearest > 0.0 else usd
        if self._is_paced_alike(decision, request_class):
            usd = max(usd, decision.prices.usd)
        return Need(request, request_class, decision.now, decision.waited_s, decision.prices.floor, usd)

    def _is_paced_alike(self, decision: Decision, request_class: RequestClass) -> bool:
        """Whether the mean budget is what it was: then so is the price of a dollar."""
        before, mean = self._before.get(decision.request_class), request_class.budget.mean_usd_per_request
        return mean is not None and before is not None and before.budget.mean_usd_per_request == mean

    def _view(
        self, decision: Decision, candidate: Candidate, deployment: Deployment, request_class: RequestClass
    ) -> DeploymentView:
        terms = candidate.terms
        before = self._before.get(decision.request_class)
        same = (
            before is not None
            and decision.policy == self._old.digest
            and (before.objectives, before.deadline_s) == (request_class.objectives, request_class.deadline_s)
        )
        return DeploymentView(
            deployment,
            blocked="",
            load=_IDLE,
            limit=None,
            p_adequate=terms.p_adequate,
            p_adequate_low=_low(candidate),
            output_tokens=terms.output_tokens,
            ttft_s=terms.ttft_s,
            tpot_s=terms.tpot_s,
            e2e_s=terms.e2e_s,
            p_slo=terms.p_slo if same else p_in_time(decision, candidate, request_class),
            cost_usd=deployment.price.cost_usd(decision.input_tokens, terms.output_tokens),
            work_s=0.0,
            pressure=0.0,
            capacity_price=terms.capacity,
            quota_ok=True,
            quota_fits=True,
            spread=candidate.spread,
            fallen=candidate.fallen,
        )


def _low(candidate: Candidate) -> float:
    """The lower bound of P(adequate); where it was not kept, what was explored is taken to have been sure enough."""
    low = candidate.terms.p_adequate_low
    return low if low is not None else candidate.terms.p_adequate if candidate.propensity > 0.0 else 0.0


def _with_check(scored: Candidate, candidate: Candidate, request_class: RequestClass) -> Candidate:
    """What a check of the answer was expected to be worth then, where the class still has one."""
    worth = candidate.terms.cascade
    if request_class.cascade is None or not worth:
        return scored
    return replace(scored, score=scored.score + worth, terms=replace(scored.terms, cascade=worth))


def _was_for_cost(decision: Decision) -> bool:
    """Whether the class had the goal `cost`: being in time then counts by itself, beside being useful."""
    terms = max((c.terms for c in decision.candidates), key=lambda t: t.p_slo)
    return terms.useful > terms.p_slo * terms.p_adequate + 0.5 * terms.p_slo


def _request(decision: Decision) -> Request:
    arrived = decision.now - decision.waited_s
    return Request(
        id=RequestId(decision.request_id),
        arrived=arrived,
        at=decision.at - decision.waited_s,
        prompt=Prompt(""),
        input_tokens=decision.input_tokens,
        tenant=decision.tenant,
        topic=decision.topic,
        model=decision.model,
        request_class=decision.asked_class,
        deadline=None if decision.deadline_s is None else arrived + decision.deadline_s,
    )


class _Tally:
    """Decisions that were taken again."""

    def __init__(self) -> None:
        self._routes: Counter[tuple[str, str]] = Counter()
        self._sums = [[0.0] * 3, [0.0] * 3]
        self._served = 0

    def add(self, again: Again) -> None:
        self._routes[again.origin, again.target] += 1
        if again.would is None:
            return
        self._served += 1
        for sums, candidate in zip(self._sums, (again.was, again.would), strict=True):
            terms = candidate.terms
            for i, value in enumerate((terms.p_slo, terms.p_adequate, terms.cost_usd * 1000.0)):
                sums[i] += value

    def total(self) -> ClassReplay:
        routes = tuple(Moved(*route, count) for route, count in self._routes.most_common())
        then, now = (Means(*(x / self._served for x in sums)) if self._served else None for sums in self._sums)
        moved = sum(route.decisions for route in routes if route.origin != route.target)
        return ClassReplay(self._routes.total(), moved, routes, then, now)


def replay(decisions: Iterable[Decision], old: Policy, new: Policy) -> Replay:
    """Take every decision of a log again, under `new`."""
    replaying = Replaying(old, new)
    overall, read = _Tally(), 0
    by_class: defaultdict[str, _Tally] = defaultdict(_Tally)
    reclassed: Counter[tuple[str, str]] = Counter()
    skipped: Counter[str] = Counter()
    for decision in decisions:
        read += 1
        try:
            again = replaying.again(decision)
        except Unreplayable as why:
            skipped[str(why)] += 1
            continue
        overall.add(again)
        by_class[again.request_class].add(again)
        if again.request_class != decision.request_class:
            reclassed[decision.request_class, again.request_class] += 1
    whole = overall.total()
    return Replay(
        decisions=read,
        replayed=whole.decisions,
        moved=whole.moved,
        overall=whole,
        by_class={name: by_class[name].total() for name in sorted(by_class)},
        reclassed=tuple(Moved(*move, count) for move, count in reclassed.most_common()),
        skipped=dict(skipped.most_common()),
    )
