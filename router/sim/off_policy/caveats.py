"""What can no log of decisions tell? One sentence each, and only where it applies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from router.domain.deployment import Deployment
from router.domain.slo import RequestClass
from router.policy.policy import Policy

_BUSIER = 1.25
_LEAST_SHARE = 0.02
_OTHERWISE: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("parameters", "profile", "style", "input_budget_tokens"),
        "the answers of then were made under other parameters, so their quality, length and cost may differ",
    ),
    (
        ("max_retries", "hedge_after_s", "fallback", "cascade"),
        "what is called after a first call is taken as it was logged, not as the edit has it",
    ),
    (("cache",), "requests answered from the cache have no decision, so a cache is worth nothing here"),
    (
        ("batch_wait_s", "patience_s", "deadline_s", "past_deadline", "priority"),
        "waiting, queueing and giving up are as logged",
    ),
    (("exploration_ratio",), "the edit explores by what was surely adequate then, and in time"),
)


class Flow(Struct, frozen=True):
    """The share of decisions that a deployment gets."""

    deployment: str
    then: float
    now: float


def caveats(old: Policy, new: Policy, flows: Sequence[Flow], shares: Mapping[str, float]) -> Iterator[str]:
    """`shares` is the share of answers that feedback came of, by deployment."""
    yield "what was shed, refused or given up before a decision is not in the log, under neither policy"
    yield "the dual prices are as recorded: a new promise would move them only as it is broken"
    for flow in flows:
        if flow.now >= _LEAST_SHARE and flow.now > _BUSIER * flow.then:
            yield (
                f"{flow.deployment} would get {flow.now:.1%} in place of {flow.then:.1%} of the requests: how much"
                " slower that makes it is not estimated"
            )
    if any(flow.now < _LEAST_SHARE <= flow.then or flow.then < _LEAST_SHARE <= flow.now for flow in flows):
        yield (
            "what was learned of speed, length and quality is as recorded: who is called hardly ever, or was, is known"
            " less well, and may be chosen otherwise"
        )
    yield from _by_class(old.classes, new.classes)
    checked = [c.name for c in new.classes if c.cascade is not None]
    if checked:
        yield f"class {', '.join(checked)}: what it is worth that an answer is checked is as it was expected then"
    yield from _paced(old.classes, new.classes)
    yield from _by_price(old.deployments, new.deployments)
    if shares:
        told = ", ".join(f"{share:.0%} of {name}" for name, share in sorted(shares.items()))
        yield (
            f"feedback came of so many answers: {told}; within a class and deployment it is taken to come as often of"
            " good answers as of bad ones"
        )


def _by_class(old: Sequence[RequestClass], new: Sequence[RequestClass]) -> Iterator[str]:
    before = {c.name: c for c in old}
    for fields, sentence in _OTHERWISE:
        names = [
            c.name
            for c in new
            if c.name in before and any(getattr(c, field) != getattr(before[c.name], field) for field in fields)
        ]
        if names:
            yield f"class {', '.join(names)}: {sentence}"


def _paced(old: Sequence[RequestClass], new: Sequence[RequestClass]) -> Iterator[str]:
    before = {c.name: c.budget.mean_usd_per_request for c in old}
    means = {c.name: c.budget.mean_usd_per_request for c in new}
    names = [name for name, mean in means.items() if mean != before.get(name)]
    if names:
        yield f"class {', '.join(names)}: its mean budget is in no figure, for its price moves with the requests"


def _by_price(old: Sequence[Deployment], new: Sequence[Deployment]) -> Iterator[str]:
    before = {d.name: d for d in old}
    hourly = [str(d.name) for d in new if d.name not in before or d.price.hourly_usd != before[d.name].price.hourly_usd]
    if hourly:
        yield f"{', '.join(hourly)}: capacity paid by the hour is in no figure"
