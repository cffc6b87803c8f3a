"""How many replicas would the offered work need to be served as promised?

**What is offered** to a group is not what it gets: under overload the router goes round it, or refuses. So each request
counts once, when it is first looked at, for whoever would serve it best if all were in time and no capacity were
scarce. It counts with its server seconds: those of its prompt, and those of its place in each of its decode steps.

**What a replica can do.** With B sequences in decode, time per output token is k (a + (b + c ctx) B) / (1 - u), with u
the share of time in prefill. B is output tokens a second times the time per token (Little's law), so that at the
objective tau the work of a second, W = k ((b + c ctx) output/s + e prompt/s), and the base of the steps fill the second
exactly where `W + k a / tau = 1`. A replica thus takes `1 - k a / tau` server seconds of requests a second. Of that
`_TARGET` is planned with: what is left is for bursts, which cost the time to the first token.

Where the operator bounds the calls at once, Little's law gives another number: output tokens a second times tau are
decoding. Where all replicas of a group are scarce though the work should fit, the model of them is wrong, and one more
is wanted. Reserved capacity is bought, not scaled, and has no number here.
"""

from __future__ import annotations

from collections.abc import Collection

from router.control.replicas import Offered, Replicas
from router.core.capacity.promised import Promised
from router.core.fleet import Member
from router.domain.control.capacity import GroupObserved, WantedReplicas
from router.domain.deployment import Kind
from router.domain.events import Event
from router.domain.view import DeploymentView

_TARGET = 0.8
_PACE = 0.9
"""Share of the TPOT objective that is planned with."""
_LEAST_SHARE = 0.05
"""However little the base of the steps leaves of the objective: more replicas do not make it smaller."""
_SCARCE = 0.25
"""Capacity price, in useful answers per typical request, of what is scarce."""
_SCARCE_FOR_S = 30.0
_EVERY_S = 1.0
_NO_REPLICAS = frozenset({Kind.PROVISIONED, Kind.JOB})


class _Group:
    """What is offered to one group: server seconds, and output tokens, a second."""

    __slots__ = ("replicas", "scarce_since", "tokens", "work")

    def __init__(self, listed: int) -> None:
        self.work, self.tokens = Offered(), Offered()
        self.replicas = Replicas(listed)
        self.scarce_since: float | None = None


class Scaling:
    """The wanted replicas of every group."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}
        self._looked: float | None = None

    def offer(self, view: DeploymentView, *, now: float) -> None:
        """A request that would best be served there, were there enough of it."""
        deployment = view.deployment
        if deployment.kind in _NO_REPLICAS:
            return
        group = self._groups.get(deployment.group)
        if group is not None:
            group.work.add(view.work_s, now=now)
            if deployment.max_in_flight is not None:
                group.tokens.add(view.output_tokens, now=now)

    def tick(self, members: Collection[Member], promised: Promised, *, now: float) -> list[Event]:
        """Once a second."""
        if self._looked is not None and now - self._looked < _EVERY_S:
            return []
        self._looked = now
        listed: dict[str, list[Member]] = {}
        for member in members:
            if member.deployment.kind not in _NO_REPLICAS:
                listed.setdefault(member.deployment.group, []).append(member)
        self._groups = {name: self._groups.get(name) or _Group(len(those)) for name, those in listed.items()}
        events: list[Event] = []
        for name, those in listed.items():
            events += self._look(name, those, promised.tpot_s(those[0], now=now), now)
        return events

    def _look(self, name: str, members: list[Member], tpot_s: float | None, now: float) -> list[Event]:
        group, old = self._groups[name], self._groups[name].replicas.value
        work, tokens = group.work.at(now), group.tokens.at(now) or 0.0
        if work is None:
            return [GroupObserved(name, old, 0.0, len(members))]
        offered = _needed(work, tokens, members[0], tpot_s)
        reason = "more work is offered than they can do in time"
        if self._is_scarce(group, members, now) and offered < len(members):
            offered, reason = len(members) + 0.5, "all of them are scarce though the work should fit"
        new = group.replicas.update(offered, now=now)
        events: list[Event] = [GroupObserved(name, new, offered, len(members))]
        if new != old:
            reason = reason if new > old else "fewer would have done for minutes"
            events.append(WantedReplicas(name, old, new, reason))
        return events

    @staticmethod
    def _is_scarce(group: _Group, members: list[Member], now: float) -> bool:
        if min(m.price.integral for m in members) < _SCARCE:
            group.scarce_since = None
            return False
        if group.scarce_since is None:
            group.scarce_since = now
        return now - group.scarce_since >= _SCARCE_FOR_S


def _needed(work: float, tokens: float, member: Member, tpot_s: float | None) -> float:
    """Replicas like this member that this much work a second and output tokens a second need."""
    if member.batch is not None:
        most = member.batch.max_items
        return work * member.batch.expected_s(most) / member.batch.expected_s(1) / _TARGET
    share, pace = 1.0, member.latency.step_s(1.0, 0.0)
    if tpot_s is not None:
        pace = _PACE * tpot_s
        share = max(1.0 - member.latency.step_s(0.0, 0.0) / pace, _LEAST_SHARE)
    needed = work / share
    if member.deployment.max_in_flight is not None:
        needed = max(needed, tokens * pace / member.deployment.max_in_flight)
    return needed / _TARGET
