"""What an edit of the `aws` part of a deployment changes."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from router.domain.aws.terms import AwsTerms, CallQuota
from router.domain.deployment import Address
from router.policy.meaning.change import Direction, Kind, Move
from router.policy.meaning.rule import Rule, moves

AWS = (
    *(Rule(field, Kind.FLEET, f"aws.{field}") for field in ("role_arn", "api", "payload", "latency", "guardrail")),
    Rule("count_tokens", Kind.FLEET, "aws.count_tokens", says={True: "prompts near the context limit are counted"}),
    Rule("cache", Kind.FLEET, "aws.cache", says={None: "no cache points are placed"}),
    *(Rule(field, Kind.FLEET, f"aws.{field}") for field in ("variant", "component", "sticky")),
)
QUOTA = (
    Rule("requests_per_min", Kind.LIMITS, "aws.quota.requests_per_min", less=Direction.TIGHTENED),
    Rule("tokens_per_min", Kind.LIMITS, "aws.quota.tokens_per_min", less=Direction.TIGHTENED),
    Rule("output_burndown", Kind.LIMITS, "aws.quota.output_burndown", less=Direction.LOOSENED),
    Rule("max_output_tokens", Kind.LIMITS, "aws.quota.max_output_tokens", less=Direction.LOOSENED),
)
_NONE, _NO_QUOTA = AwsTerms(), CallQuota()


def aws_moves(old: AwsTerms | None, new: AwsTerms | None) -> Iterator[Move]:
    """What differs; a deployment that says nothing is one that says the defaults."""
    before, after = old or _NONE, new or _NONE
    yield from moves(AWS, before, after)
    yield from moves(QUOTA, before.quota or _NO_QUOTA, after.quota or _NO_QUOTA)


def same_place(old: Address, new: Address) -> bool:
    """Whether two addresses reach the same model in the same way: what the account may ask of it is no part of that,
    nor what is kept of prompts."""
    return old == new or _bare(old) == _bare(new)


def _bare(address: Address) -> Address:
    return replace(address, aws=replace(address.aws or _NONE, quota=None, cache=None))
