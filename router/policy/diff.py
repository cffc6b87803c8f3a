"""What changes in meaning between two policies: one line for each thing that differs, none where text moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

from msgspec import Struct

from router.domain.deployment import ServedPrice
from router.domain.rollout import Arm
from router.domain.slo import Indicator, Objective, QualityFloor, RequestClass
from router.policy.policy import Policy
from router.policy.schema.values import duration_text, ratio_text

_RATIOS = frozenset({"target", "ratio", "steps", "threshold", "quality_low", "slo_low"})
_UNITS: tuple[tuple[str, str], ...] = (
    ("_usd_per_mtok", "USD/Mtok"),
    ("hourly_usd", "USD/h"),
    ("usd_per_request", "USD"),
    ("usd_per_day", "USD"),
)


def difference(old: Policy, new: Policy) -> tuple[str, ...]:
    """One line each for what `new` does otherwise than `old`."""
    return tuple(_lines(old, new))


def _lines(old: Policy, new: Policy) -> Iterator[str]:
    yield from _named("class", {c.name: c for c in old.classes}, {c.name: c for c in new.classes})
    yield from _order(old.classes, new.classes)
    yield from _named("deployment", {d.name: d for d in old.deployments}, {d.name: d for d in new.deployments})
    yield from _named("profile", dict(old.profiles), dict(new.profiles))
    yield from _fields("bounds", old.bounds, new.bounds)
    for tenant in dict.fromkeys((*old.tenants, *new.tenants)):
        before, after = (policy.tenants.get(tenant, 1.0) for policy in (old, new))
        if before != after:
            yield f"tenant {tenant}: weight {before:g} -> {after:g}"
    if old.usd_per_useful != new.usd_per_useful:
        yield f"a useful answer is worth: {old.usd_per_useful:g} USD -> {new.usd_per_useful:g} USD"


def _named(what: str, old: Mapping[str, Struct], new: Mapping[str, Struct]) -> Iterator[str]:
    yield from (f"{what} {name}: removed" for name in old if name not in new)
    for name, value in new.items():
        if name in old:
            yield from _fields(f"{what} {name}", old[name], value)
        else:
            yield f"{what} {name}: added"


def _order(old: tuple[RequestClass, ...], new: tuple[RequestClass, ...]) -> Iterator[str]:
    """Only where classes that stay are tried in another order."""
    before, after = [c.name for c in old], [c.name for c in new]
    kept = [n for n in before if n in after]
    moved = [n for n in after if n in before]
    if kept != moved:
        yield f"classes are tried in another order: {', '.join(kept)} -> {', '.join(moved)}"


def _fields(subject: str, old: Struct, new: Struct, prefix: str = "") -> Iterator[str]:
    for field in new.__struct_fields__:
        before, after = getattr(old, field), getattr(new, field)
        if before == after:
            continue
        if _is_group(before) and _is_group(after):
            yield from _fields(subject, before, after, f"{prefix}{field}.")
        else:
            yield f"{subject}: {prefix}{field} {value_text(field, before)} -> {value_text(field, after)}"


def _is_group(value: object) -> bool:
    """Whether a value is told field by field instead of as a whole."""
    return isinstance(value, Struct) and not isinstance(value, Objective | QualityFloor)


def value_text(field: str, value: object) -> str:
    """One value as people write it."""
    if value is None:
        return "none"
    if isinstance(value, Objective):
        return _promise(value)
    if isinstance(value, Arm):
        said = (f"{f} {value_text(f, v)}" for f in value.__struct_fields__[2:] if (v := getattr(value, f)) is not None)
        return f"{value.name} {ratio_text(value.share_ratio)}" + "".join(f", {part}" for part in said)
    if isinstance(value, QualityFloor):
        reference = f" of {value.reference}" if value.reference else ""
        return f"{ratio_text(value.ratio)}{reference} ({value.under_overload})"
    if isinstance(value, ServedPrice):
        return f"{value.served} at {value.price.input_usd_per_mtok:g}/{value.price.output_usd_per_mtok:g} USD/Mtok"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float):
        return _number(field, value)
    if isinstance(value, tuple | frozenset):
        return f"[{', '.join(_items(field, value))}]"
    if isinstance(value, Struct):
        shown = ", ".join(f"{f} {value_text(f, getattr(value, f))}" for f in value.__struct_fields__)
        return f"({shown})"
    return str(value)


def _items(field: str, values: tuple[object, ...] | frozenset[object]) -> list[str]:
    texts = ["=".join(v) if isinstance(v, tuple) else value_text(field, v) for v in values]
    return sorted(texts) if isinstance(values, frozenset) else texts


def _number(field: str, value: float) -> str:
    if field in _RATIOS or field.endswith("_ratio"):
        return ratio_text(value)
    if field.endswith("_s"):
        return duration_text(value)
    unit = next((u for suffix, u in _UNITS if field.endswith(suffix)), "")
    return f"{value:g} {unit}".rstrip()


def _promise(objective: Objective) -> str:
    over = f"for {ratio_text(objective.target)} over {duration_text(objective.window_s)}"
    if objective.indicator is Indicator.AVAILABILITY:
        return over
    return f"<= {duration_text(objective.threshold_s)} {over}"
