"""What an edit of the fleet or of the bounds changes, and what drains for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from router.domain.deployment import Address, Deployment, Mode
from router.policy.diff import value_text
from router.policy.meaning.aws import aws_moves, same_place
from router.policy.meaning.change import Direction, Kind, Move
from router.policy.meaning.rule import Rule, moves, share

MODE_ADVISE = "what the controller finds is said and changes nothing"
MODE_ACT = "what the controller finds is put in force"
_TIGHT, _LOOSE = Direction.TIGHTENED, Direction.LOOSENED
_FLEET, _MONEY, _LIMITS, _ROUTES = Kind.FLEET, Kind.MONEY, Kind.LIMITS, Kind.ROUTES

DEPLOYMENT = (
    Rule("group", _ROUTES, "name"),
    Rule("model", _FLEET),
    Rule("tier", _ROUTES),
    Rule("kind", _FLEET),
    Rule("lane", _FLEET),
    Rule("max_in_flight", _LIMITS, less=_TIGHT),
    Rule("max_items", _LIMITS, less=_TIGHT),
    Rule("context_tokens", _ROUTES, less=_TIGHT),
    Rule("capabilities", _ROUTES, less=_TIGHT),
    Rule("tags", _ROUTES, less=_TIGHT),
    Rule("takes", _FLEET),
    Rule("mode", _LIMITS, says={Mode.ADVISE: MODE_ADVISE, Mode.ACT: MODE_ACT}),
    Rule("derived_from", _FLEET, says={str: "its estimates start where those of that model are"}),
    Rule("optimizations", _FLEET),
    Rule("served_prices", _MONEY),
)
ADDRESS = tuple(Rule(field, _FLEET) for field in Address.__struct_fields__ if field != "aws")
PARTS = {
    "step": (
        *(
            Rule(f"{field}_s", _FLEET, f"step_ms.{field}")
            for field in ("base", "per_sequence", "per_context_token", "per_prefill_token", "first")
        ),
        Rule("step_token_budget", _FLEET),
        Rule("source", _FLEET, "step_ms.source"),
    ),
    "limit": (
        Rule("kind", _LIMITS, "limit.kind"),
        Rule("requests", _LIMITS, "limit.requests", less=_TIGHT),
        Rule("tokens", _LIMITS, "limit.tokens", less=_TIGHT),
    ),
    "job": (
        Rule("s3", _FLEET, "job.s3"),
        Rule("role_arn", _FLEET, "job.role_arn"),
        Rule("min_records", _LIMITS, "job.min_records"),
        Rule("max_records", _LIMITS, "job.max_records", less=_TIGHT),
        Rule("collect_s", _LIMITS, "job.collect_for"),
        Rule("typical_s", _FLEET, "job.typical"),
        Rule("timeout_s", _LIMITS, "job.timeout"),
        Rule("margin_s", _LIMITS, "job.margin"),
    ),
    "telemetry": (
        Rule("url", _FLEET, "telemetry.url"),
        Rule("every_s", _FLEET, "telemetry.every"),
        Rule("timeout_s", _FLEET, "telemetry.timeout"),
        Rule("api_key_env", _FLEET, "telemetry.api_key_env"),
        Rule("api_key_file", _FLEET, "telemetry.api_key_file"),
    ),
    "batch": (Rule("base_s", _FLEET, "batch_ms.base"), Rule("per_item_s", _FLEET, "batch_ms.per_item")),
    "quota": (
        Rule("input_tokens_per_min", _LIMITS, "tokens_per_min.input", less=_TIGHT),
        Rule("output_tokens_per_min", _LIMITS, "tokens_per_min.output", less=_TIGHT),
    ),
}
"""Parts of a deployment that it may not have."""
PRICE = (
    "input_usd_per_mtok",
    "output_usd_per_mtok",
    "hourly_usd",
    "cache_read_usd_per_mtok",
    "cache_write_usd_per_mtok",
)
SOURCE = (Rule("source", _MONEY, "price.source"),)
BOUNDS = (
    Rule("limit_min", _LIMITS, less=_LOOSE),
    Rule("limit_max", _LIMITS, less=_TIGHT),
    Rule("queue_requests", _LIMITS, less=_TIGHT),
    Rule("queue_wait_s", _LIMITS, "queue_wait", less=_TIGHT),
    Rule("tenant_queue_ratio", _LIMITS, "tenant_queue", less=_TIGHT),
    Rule("floor_price_max", _LIMITS, less=_TIGHT),
    Rule("capacity_price_max", _LIMITS, less=_TIGHT),
    Rule("batch_items_max", _LIMITS, less=_TIGHT),
    Rule("window_s", _LIMITS, "window", says={0.0: "each request is decided as it comes"}),
    Rule("fanout_parts", _LIMITS, less=_TIGHT),
    Rule("fanout_parallel", _LIMITS, less=_TIGHT),
)


def keeps_learned(old: Deployment, new: Deployment) -> bool:
    """Whether what was learned of a deployment still holds: the same model at the same address, driven the same way."""
    return (
        same_place(old.address, new.address)
        and old.model == new.model
        and old.kind == new.kind
        and old.step == new.step
        and old.lane == new.lane
    )


def new_environment(old: Iterable[Deployment], new: Iterable[Deployment]) -> tuple[str, ...]:
    """Environment variables that keys are read from and that nobody read before: a process has those it began with."""
    before, after = (
        {terms.api_key_env for d in fleet for terms in (d.address, d.telemetry) if terms is not None}
        for fleet in (old, new)
    )
    return tuple(sorted(name for name in after - before if name))


def deployment_moves(old: Deployment, new: Deployment) -> Iterator[Move]:
    """What differs between two deployments of one name."""
    yield from moves(DEPLOYMENT, old, new)
    yield from moves(ADDRESS, old.address, new.address)
    yield from aws_moves(old.address.aws, new.address.aws)
    yield from _price(old, new)
    for part, rules in PARTS.items():
        before, after = getattr(old, part), getattr(new, part)
        if before is not None and after is not None:
            yield from moves(rules, before, after)
        elif before is not after:
            name = rules[0].name.partition(".")[0]
            yield Move(name, value_text(part, before), value_text(part, after), rules[0].kind)


def _price(old: Deployment, new: Deployment) -> Iterator[Move]:
    """Dearer or cheaper: that is neither tighter nor looser."""
    for field in PRICE:
        before, after = getattr(old.price, field), getattr(new.price, field)
        if before != after:
            texts = value_text(field, before), value_text(field, after)
            was, now = (old.price.input_usd_per_mtok if before is None else before), after
            now = new.price.input_usd_per_mtok if now is None else now
            word = "dearer" if now > was else "cheaper" if now < was else "as dear"
            note = f"{word} ({by})" if now != was and (by := share(was, now)) else word
            yield Move(field, *texts, _MONEY, None, note)
    yield from moves(SOURCE, old.price, new.price)
