"""What an edit of one request class changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from msgspec import Struct

from router.domain.deployment import Mode
from router.domain.rollout import Rollout
from router.domain.slo import (
    CacheTerms,
    Cascade,
    FloorUnderOverload,
    Goal,
    Judge,
    Objective,
    Objectives,
    Parameters,
    PastDeadline,
    QualityFloor,
    RequestClass,
    Style,
    WhenSpent,
)
from router.policy.diff import value_text
from router.policy.meaning.change import Direction, Kind, Move
from router.policy.meaning.fleet import MODE_ACT, MODE_ADVISE
from router.policy.meaning.rule import Rule, moves

_TIGHT, _LOOSE = Direction.TIGHTENED, Direction.LOOSENED
_ROUTES, _PROMISES, _PARAMETERS = Kind.ROUTES, Kind.PROMISES, Kind.PARAMETERS
_MONEY, _LIMITS, _ROLLOUT = Kind.MONEY, Kind.LIMITS, Kind.ROLLOUT
T = TypeVar("T", bound=Struct)

MATCH = (
    Rule("classes", _ROUTES),
    *(Rule(field, _ROUTES, empty_is_any=True) for field in ("topics", "tenants", "models", "use_cases")),
    Rule("attributes", _ROUTES),
    Rule("min_input_tokens", _ROUTES, "input_tokens.min"),
    Rule("max_input_tokens", _ROUTES, "input_tokens.max"),
)
OBJECTIVE = (
    Rule("threshold_s", _PROMISES, "threshold", less=_TIGHT),
    Rule("target", _PROMISES, less=_LOOSE),
    Rule("window_s", _PROMISES, "timeWindow"),
)
FLOOR = (
    Rule("ratio", _PROMISES, less=_LOOSE, absent=0.0),
    Rule("reference", _PROMISES, says={None: "adequate is a quality of 0.5 or more", str: "adequate is as good as it"}),
    Rule(
        "under_overload",
        _PROMISES,
        says={
            FloorUnderOverload.SHED: "under overload what cannot be answered well is refused",
            FloorUnderOverload.DEGRADE: "under overload the floor gives",
        },
    ),
)
CLASS = (
    Rule(
        "goal",
        _ROUTES,
        says={
            Goal.USEFUL: "buys better answers as far as they are worth it",
            Goal.COST: "the cheapest that keeps the promises",
        },
    ),
    Rule("deadline_s", _PROMISES, "deadline", less=_TIGHT),
    Rule(
        "past_deadline",
        _PROMISES,
        says={
            PastDeadline.FAIL: "given up when the deadline passes before the first token",
            PastDeadline.ANSWER_LATE: "answered even when it is late",
        },
    ),
    Rule("priority", _ROUTES),
    Rule(
        "sheddable",
        _ROUTES,
        less=_TIGHT,
        says={True: "may be refused under overload so that others keep their promises", False: "is not refused first"},
    ),
    Rule("deployments", _ROUTES, less=_TIGHT, empty_is_any=True),
    Rule("forced", _ROUTES, says={None: "chosen for each request again", str: "serves whatever the sender asks for"}),
    Rule("residency", _ROUTES, less=_LOOSE),
    Rule("fallback", _ROUTES),
    Rule("profile", _PARAMETERS, "parameters.profile"),
    Rule("style", _PARAMETERS, says={Style.CONCISE: "asked to be brief", Style.AS_ASKED: "not asked to be brief"}),
    Rule("input_budget_tokens", _PARAMETERS, "input_budget", less=_TIGHT),
    Rule("exploration_ratio", _LIMITS, "exploration", less=_TIGHT),
    Rule("max_retries", _LIMITS, less=_TIGHT),
    Rule("hedge_after_s", _LIMITS, "hedge_after", less=_LOOSE),
    Rule(
        "batch_wait_s",
        _LIMITS,
        "batch_wait",
        less=_TIGHT,
        says={None: "waits to fill a batch as long as the promise leaves room"},
    ),
    Rule("patience_s", _LIMITS, "patience", less=_TIGHT),
    Rule("mode", _LIMITS, says={Mode.ADVISE: MODE_ADVISE, Mode.ACT: MODE_ACT}),
)
BUDGET = (
    Rule("usd_per_request", _MONEY, less=_TIGHT),
    Rule("mean_usd_per_request", _MONEY, less=_TIGHT),
    Rule("usd_per_day", _MONEY, less=_TIGHT),
    Rule(
        "when_spent",
        _MONEY,
        says={
            WhenSpent.REJECT: "refused once the day's budget is spent",
            WhenSpent.CHEAPEST: "only the cheapest deployment once the day's budget is spent",
            WhenSpent.QUEUE: "waits for the next day once the day's budget is spent",
        },
    ),
)
CACHE = (
    Rule("ttl_s", _PARAMETERS, "ttl"),
    Rule("always", _PARAMETERS, "when", says={True: "whatever the temperature", False: "only at temperature 0"}),
    Rule("max_entries", _PARAMETERS),
)
PARAMETERS = (
    Rule("temperature", _PARAMETERS),
    Rule("top_p", _PARAMETERS),
    Rule("top_k", _PARAMETERS),
)
CASCADE = (
    Rule("checks", _PARAMETERS, less=_LOOSE),
    Rule(
        "stream", _PARAMETERS, says={True: "streams may be held back to be checked", False: "streams are not checked"}
    ),
    Rule("max_wait_s", _PARAMETERS, "max_wait"),
    Rule("threshold", _PARAMETERS, says={None: "made again where the expected gain is worth its price"}),
)
JUDGE = (
    Rule("share_ratio", _MONEY, "share", less=_TIGHT),
    Rule("usd_per_day", _MONEY, less=_TIGHT),
    Rule("deployment", _LIMITS),
    Rule("rubric", _LIMITS, says={None: "judged by the usual rubric", str: "judged by a rubric of its own"}),
    Rule("reference", _LIMITS),
    Rule("wait_s", _LIMITS, "wait"),
)
_RENAMED = {"step_s": "step", "confidence_ratio": "confidence"}
ROLLOUT = tuple(Rule(field, _ROLLOUT, _RENAMED.get(field, "")) for field in Rollout.__struct_fields__)
WHOLE = ("name", "match", "objectives", "floor", "parameters", "budget", "cache", "cascade", "judge", "rollout")
"""Fields of a class that are structs of their own, and its name."""


def class_moves(old: RequestClass, new: RequestClass) -> Iterator[Move]:
    """What the class does otherwise; how edits of it come into force is told by `rollout_moves`."""
    yield from moves(MATCH, old.match, new.match, "match.")
    yield from _objectives(old.objectives, new.objectives)
    yield from _optional(FLOOR, old.floor, new.floor, QualityFloor(0.0), "floor")
    yield from moves(CLASS, old, new)
    comparable = old.profile == new.profile
    yield from parameter_moves(old.parameters, new.parameters, "parameters.", comparable=comparable)
    yield from moves(BUDGET, old.budget, new.budget, "budget.")
    yield from _optional(CACHE, old.cache, new.cache, CacheTerms(0.0), "cache")
    yield from _optional(CASCADE, old.cascade, new.cascade, Cascade(()), "cascade")
    yield from _optional(JUDGE, old.judge, new.judge, Judge("", 0.0, 0.0), "judge")


def rollout_moves(old: RequestClass, new: RequestClass) -> Iterator[Move]:
    """Other terms for edits to come, or another experiment."""
    yield from moves(ROLLOUT, old.rollout, new.rollout, "rollout.")


def parameter_moves(old: Parameters, new: Parameters, prefix: str = "", *, comparable: bool = True) -> Iterator[Move]:
    """Sampling parameters; a fixed and a learned ceiling are one field, as they are in a document. They cannot be
    weighed against each other where another profile fills in what they leave open."""
    yield from moves(PARAMETERS, old, new, prefix)
    if (old.max_tokens, old.ceiling) != (new.max_tokens, new.ceiling):
        most_before, most_after = _most(old), _most(new)
        direction = None
        if comparable and most_before != most_after:
            direction = _TIGHT if most_after < most_before else _LOOSE
        yield Move(f"{prefix}max_tokens", _ceiling(old), _ceiling(new), _PARAMETERS, direction)


def _most(parameters: Parameters) -> float:
    if parameters.ceiling is not None:
        return parameters.ceiling.most_tokens
    return float("inf") if parameters.max_tokens is None else parameters.max_tokens


def _ceiling(parameters: Parameters) -> str:
    c = parameters.ceiling
    if c is None:
        return value_text("max_tokens", parameters.max_tokens)
    cut = value_text("truncated_ratio", c.truncated_ratio)
    return f"learned from {c.start_tokens}, {c.least_tokens} to {c.most_tokens}, at most {cut} cut"


def _objectives(old: Objectives, new: Objectives) -> Iterator[Move]:
    for indicator in old.__struct_fields__:
        before, after = getattr(old, indicator), getattr(new, indicator)
        name = f"objectives.{indicator}"
        if isinstance(before, Objective) and isinstance(after, Objective):
            yield from moves(OBJECTIVE, before, after, f"{name}.")
        elif before != after:
            direction, note = (_TIGHT, "a new promise") if before is None else (_LOOSE, "no longer promised")
            yield Move(name, value_text(name, before), value_text(name, after), _PROMISES, direction, note)


def _optional(rules: tuple[Rule, ...], old: T | None, new: T | None, empty: T, name: str) -> Iterator[Move]:
    """A part of a class that may be absent: told as a whole where it comes or goes, else field by field."""
    if old is not None and new is not None:
        yield from moves(rules, old, new, f"{name}.")
    elif old is not new:
        kind = rules[0].kind
        first = next(moves(rules[:1], old or empty, new or empty), None)
        direction = None if first is None else first.direction
        note = "there was none" if old is None else "there is none any more"
        yield Move(name, value_text(name, old), value_text(name, new), kind, direction, note)
