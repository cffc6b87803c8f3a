"""What would be decided, for people; and beside it what was decided then."""

from __future__ import annotations

import json

from msgspec import to_builtins
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.cli.decision_view import evidence_tables, excluded_table, seconds, utc
from router.cli.explained import Explained
from router.domain.decision import Candidate, Decision
from router.domain.reasons import because, evidence, latencies
from router.domain.slo import Indicator, Objective, RequestClass
from router.policy.schema.values import duration_text, ratio_text

_LONGEST_VALUE = 60


def explained_json(one: Explained) -> dict[str, object]:
    """The same for another program; of the class only its name, with the conditions that were asked."""
    return {
        "outcome": one.outcome,
        "message": one.message,
        "class": one.request_class.name,
        "arm": one.arm,
        "asked": to_builtins(one.asked),
        "use_case": one.use_case,
        "complexity": one.complexity,
        "input_tokens": one.input_tokens,
        "policy": one.policy,
        "learned": to_builtins(one.learned),
        "filled_in": dict(one.filled_in),
        "p_adequate_low": dict(one.lows),
        "limits": dict(one.limits),
        "excluded": to_builtins(one.excluded),
        "decision": None if one.decision is None else evidence(one.decision),
    }


def view(one: Explained) -> RenderableType:
    """The whole explanation for a terminal."""
    lines = [
        _verdict(one),
        *_class_lines(one),
        f"  use case {one.use_case}, complexity {one.complexity:.3f}, {one.input_tokens} input tokens",
        f"  promised: {_promised(one.request_class)}",
        f"  filled in: {', '.join(f'{k} {_value(v)}' for k, v in one.filled_in.items()) or 'nothing'}",
        *_judged(one.request_class),
        *_limits(one),
        f"  policy {one.policy}; {_learned(one)}",
    ]
    parts: list[RenderableType] = [Text("\n".join(lines) + "\n")]
    if one.decision is not None:
        parts.append(evidence_tables(one.decision, one.lows, shed=one.outcome == "shed"))
    elif one.excluded:
        parts.append(excluded_table(one.excluded))
    return Group(*parts)


def _verdict(one: Explained) -> str:
    decision = one.decision
    if one.outcome == "refused":
        return f"refused: {one.message}"
    if decision is None:
        return "would wait in the queue: nobody may take it at the moment"
    if one.outcome == "shed":
        best = max(decision.candidates, key=lambda c: c.score)
        return (
            f"would be shed: class {one.request_class.name} may be, and the best score,"
            f" {best.score:.4g} of {best.deployment}, is not above 0"
        )
    return f"goes to {decision.chosen}, decided by {decision.binding}\n  because {because(decision)}"


def _class_lines(one: Explained) -> list[str]:
    *passed, found = one.asked
    arm = f" (side {one.arm} of its rollout)" if one.arm else ""
    lines = [f"  class {found.name}{arm}: {found.why}"]
    return lines + [f"    not {other.name}: {other.why}" for other in passed]


def _promised(request_class: RequestClass) -> str:
    promises = [_promise(objective) for objective in request_class.objectives.each()]
    floor = request_class.floor
    if floor is not None:
        beside = f" beside {floor.reference}" if floor.reference else ""
        promises.append(f"{ratio_text(floor.ratio)} adequate{beside} (under overload: {floor.under_overload})")
    return ", ".join(promises) or "nothing"


def _limits(one: Explained) -> list[str]:
    told = ", ".join(f"{name} {limit}" for name, limit in one.limits.items())
    return [f"  calls at once: {told}"] if told else []


def _judged(request_class: RequestClass) -> list[str]:
    judge = request_class.judge
    if judge is None:
        return []
    text = f"  judged: {ratio_text(judge.share_ratio)} of the answers, by {judge.deployment}"
    return [f"{text}, for at most USD {judge.usd_per_day:g} a day"]


def _promise(objective: Objective) -> str:
    if objective.indicator is Indicator.AVAILABILITY:
        return f"{ratio_text(objective.target)} answered"
    return f"{objective.indicator} {duration_text(objective.threshold_s)} for {ratio_text(objective.target)}"


def _learned(one: Explained) -> str:
    learned = one.learned
    if learned.saved_at is None:
        return f"nothing learned yet (no {learned.file}): priors, and nothing in flight"
    other = "" if learned.policy == one.policy else f" under policy {learned.policy}"
    return f"predictions as learned until {utc(learned.saved_at)}{other} ({learned.file}), nothing in flight"


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def then_and_now(then: Decision, now: Decision) -> RenderableType:
    """Candidate by candidate, what is otherwise than it was."""
    columns = ("then -> now", "score", "P(SLO)", "P(adequate)", "ttft", "$")
    table = Table(*columns, box=None, pad_edge=False)
    before, after = ({c.deployment: c for c in d.candidates} for d in (then, now))
    for name in dict.fromkeys((*after, *before)):
        chosen = f"{'*' if name == then.chosen else ' '}{'*' if name == now.chosen else ' '} "
        pairs = zip(_figures(before.get(name)), _figures(after.get(name)), strict=True)
        table.add_row(Text(chosen + name), *(Text(f"{a} -> {b}") for a, b in pairs))
    parts: list[RenderableType] = [Text(), table]
    if then.request_class != now.request_class:
        parts.append(Text(f"class: {then.request_class} -> {now.request_class}"))
    if then.policy != now.policy:
        parts.append(Text(f"policy: {then.policy} -> {now.policy}"))
    return Group(*parts)


def _figures(candidate: Candidate | None) -> tuple[str, ...]:
    if candidate is None:
        return ("out",) * 5
    terms, known = candidate.terms, latencies(candidate)
    ttft_s = terms.ttft_s if known is None else known.ttft_s.p50
    shares = (f"{x:.3f}" for x in (candidate.score, terms.p_slo, terms.p_adequate))
    return (*shares, seconds(ttft_s), f"{terms.cost_usd:.6f}")
