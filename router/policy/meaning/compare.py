"""Two policies side by side: every change, how it comes into force, and requests that fall elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from router.domain.deployment import Deployment
from router.domain.rollout import Require, Rollout, RolloutMode
from router.domain.slo import BY_USE_CASE, Match, Parameters, RequestClass
from router.policy.diff import value_text
from router.policy.meaning.change import AT_ONCE, Change, Effect, How, Kind, Move
from router.policy.meaning.classes import class_moves, parameter_moves, rollout_moves
from router.policy.meaning.fleet import BOUNDS, deployment_moves, keeps_learned, new_environment
from router.policy.meaning.probes import Example, examples
from router.policy.meaning.rule import moves, share
from router.policy.policy import Policy
from router.policy.schema.values import duration_text, ratio_text
from router.routing.filters import serves

_ROUTING = frozenset({Kind.ROUTES, Kind.PROMISES, Kind.MONEY, Kind.FLEET})
_TERMS = Effect(How.LIVE, "the terms of its rollout hold at once")
_DRAINS = "what is in flight ends there, nothing new is sent, and what was learned of its speed is forgotten"


class Comparison(Struct, frozen=True):
    """What an edit means. `probes` is how many made-up requests were classified under both, `classes` are those of the
    new policy, and `environment` the variables that a running daemon may not have: it has those that it began with."""

    old: str
    new: str
    classes: tuple[str, ...]
    changes: tuple[Change, ...]
    examples: tuple[Example, ...]
    probes: int
    environment: tuple[str, ...]

    def rerouted(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        """The classes whose requests may be decided otherwise, with the subjects that do it."""
        found: dict[tuple[str, ...], list[str]] = {}
        for change in self.changes:
            if change.move.kind in _ROUTING and change.classes:
                found.setdefault(change.classes, []).append(change.subject)
        return {classes: tuple(dict.fromkeys(subjects)) for classes, subjects in found.items()}


def compare(old: Policy, new: Policy) -> Comparison:
    """Everything that `new` does otherwise than `old`."""
    moved, probes = examples(old.classes, new.classes)
    return Comparison(
        old.digest,
        new.digest,
        tuple(c.name for c in new.classes),
        changes(old, new),
        moved,
        probes,
        new_environment(old.deployments, new.deployments),
    )


def changes(old: Policy, new: Policy) -> tuple[Change, ...]:
    """Every change, classes first."""
    return (
        *_classes(old, new),
        *_order(old.classes, new.classes),
        *_deployments(old, new),
        *_profiles(old, new),
        *_everywhere(old, new),
    )


def _classes(old: Policy, new: Policy) -> Iterator[Change]:
    before, after = ({c.name: c for c in policy.classes} for policy in (old, new))
    for name, gone in before.items():
        if name not in after:
            move = Move("", _summary(gone), "none", Kind.ROUTES, None, "removed: its requests fall in other classes")
            yield Change(f"class {name}", move, AT_ONCE, ())
    for name, request_class in after.items():
        was = before.get(name)
        effect = _taken_up(was, request_class, new.deployments)
        if was is None:
            move = Move("", "none", _summary(request_class), Kind.ROUTES, None, "a new class")
            yield Change(f"class {name}", move, effect, (name,))
            continue
        for move in class_moves(was, request_class):
            yield Change(f"class {name}", move, effect, (name,))
        for move in rollout_moves(was, request_class):
            yield Change(f"class {name}", move, _TERMS, (name,))


def _summary(request_class: RequestClass) -> str:
    match = request_class.match
    stated = [f for f in match.__struct_fields__ if getattr(match, f) not in ((), None)]
    return ", ".join(f"{f} {value_text(f, getattr(match, f))}" for f in stated) or "everything"


def _taken_up(old: RequestClass | None, new: RequestClass, deployments: Sequence[Deployment]) -> Effect:
    """How an edit of a class comes into force, by the terms of its own rollout."""
    terms, takes_all = new.rollout, new.match == Match()
    if terms.mode is RolloutMode.AB:
        return Effect(How.LIVE, "at once; the experiment begins anew")
    if terms.mode is RolloutMode.LIVE:
        return AT_ONCE
    if old is None and takes_all:
        return AT_ONCE
    if old is not None and (old.match == Match()) is not takes_all:
        return Effect(How.LIVE, "at once: what takes everything else cannot change by steps")
    if old is not None and not any(serves(old, d) for d in deployments):
        return Effect(How.LIVE, "at once: nothing is left that could serve it as it was")
    if terms.mode is RolloutMode.SHADOW:
        return Effect(How.SHADOW, "in the shadow only: compared with what is in force, never in force by itself")
    return Effect(How.CANARY, _steps(terms))


def _steps(terms: Rollout) -> str:
    steps = " -> ".join(ratio_text(s) for s in (*terms.steps, 1.0))
    asked = "" if terms.require is None else f"once the decision log shows {_required(terms.require)}, "
    return (
        f"{asked}by canary: {steps} of its requests (by {terms.by}), at least {duration_text(terms.step_s)} and"
        f" {terms.min_requests} requests on each step, taken back at a burn rate of {terms.fast_burn:g}"
    )


def _required(require: Require) -> str:
    least = ((require.quality_low, "adequate"), (require.slo_low, "within objectives"))
    shown = [f"{ratio_text(low)} {what}" for low, what in least if low is not None]
    if require.usd_per_request is not None:
        shown.append(f"{require.usd_per_request:g} USD a request")
    return f"surely {' and '.join(shown)}"


def _order(old: Sequence[RequestClass], new: Sequence[RequestClass]) -> Iterator[Change]:
    """Only where classes that stay are tried in another order."""
    before, after = [c.name for c in old], [c.name for c in new]
    kept, moved = [n for n in before if n in after], [n for n in after if n in before]
    if kept != moved:
        move = Move("order", ", ".join(kept), ", ".join(moved), Kind.ROUTES, None, "the first that matches wins")
        touched = tuple(name for name, other in zip(moved, kept, strict=True) if name != other)
        yield Change("classes", move, AT_ONCE, touched)


def _deployments(old: Policy, new: Policy) -> Iterator[Change]:
    before, after = ({d.name: d for d in policy.deployments} for policy in (old, new))
    for name, gone in before.items():
        if name not in after:
            move = Move("", gone.model, "none", Kind.FLEET, None, "removed")
            yield Change(f"deployment {name}", move, Effect(How.DRAIN, f"drains: {_DRAINS}"), _users(new, gone))
    for name, deployment in after.items():
        was = before.get(name)
        if was is None:
            move = Move("", "none", deployment.model, Kind.FLEET, None, "new: explored and learned from the start")
            yield Change(f"deployment {name}", move, AT_ONCE, _users(new, deployment))
            continue
        effect = AT_ONCE
        if not keeps_learned(was, deployment):
            effect = Effect(How.DRAIN, f"replaced: on the old one {_DRAINS}")
        touched = _users(new, was, deployment)
        yield from (Change(f"deployment {name}", m, effect, touched) for m in deployment_moves(was, deployment))


def _users(policy: Policy, *deployments: Deployment) -> tuple[str, ...]:
    """The classes that may be served by one of these."""
    return tuple(c.name for c in policy.classes if any(serves(c, d) for d in deployments))


def _profiles(old: Policy, new: Policy) -> Iterator[Change]:
    before, after = dict(old.profiles), dict(new.profiles)
    for name in dict.fromkeys((*before, *after)):
        was, now = before.get(name, Parameters()), after.get(name, Parameters())
        touched = tuple(c.name for c in new.classes if c.profile in (name, BY_USE_CASE))
        yield from (Change(f"profile {name}", m, AT_ONCE, touched) for m in parameter_moves(was, now))


def _everywhere(old: Policy, new: Policy) -> Iterator[Change]:
    touched = tuple(c.name for c in new.classes)
    yield from (Change("bounds", move, AT_ONCE, touched) for move in moves(BOUNDS, old.bounds, new.bounds))
    for tenant in dict.fromkeys((*old.tenants, *new.tenants)):
        was, now = old.tenants.get(tenant, 1.0), new.tenants.get(tenant, 1.0)
        if was != now:
            move = Move("", f"{was:g}", f"{now:g}", Kind.LIMITS, None, f"{share(was, now)} of what others get")
            yield Change(f"tenant {tenant}", move, AT_ONCE, touched)
    before, after = old.usd_per_useful, new.usd_per_useful
    if before != after:
        note = f"{'pays more for' if after > before else 'pays less for'} a better answer ({share(before, after)})"
        texts = (f"{before:g} USD", f"{after:g} USD")
        yield Change("prices", Move("usd_per_useful", *texts, Kind.MONEY, None, note), AT_ONCE, touched)


def effects(changes: Iterable[Change]) -> dict[Effect, tuple[str, ...]]:
    """The subjects by how they come into force."""
    found: dict[Effect, list[str]] = {}
    for change in changes:
        found.setdefault(change.effect, []).append(change.subject)
    return {effect: tuple(dict.fromkeys(subjects)) for effect, subjects in found.items()}
