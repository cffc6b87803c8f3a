"""What a call to Bedrock asks for beside its conversation: guardrail, latency, service tier, names for the log.

Converse takes it among its members, InvokeModel in headers; the SDK has an argument for each.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from router.domain.aws.terms import AwsTerms, Latency
from router.domain.deployment import Lane
from router.domain.outcome import Attempt

Json = dict[str, Any]

TIERS = frozenset({Lane.PRIORITY, Lane.FLEX, Lane.RESERVED})
"""Lanes that go out as Bedrock's `serviceTier`; what is not said is `default`."""
NOTHING = AwsTerms()
_NOT_IN_METADATA = re.compile(r"[^a-zA-Z0-9\s:_@$#=/+,.-]", re.ASCII)
_METADATA_CHARS = 256


def terms_of(attempt: Attempt) -> AwsTerms:
    """How its deployment is called."""
    return attempt.deployment.address.aws or NOTHING


def is_optimized(attempt: Attempt) -> bool:
    """Whether it asks for latency-optimised inference."""
    return terms_of(attempt).latency is Latency.OPTIMIZED


def converse_members(attempt: Attempt) -> Json:
    """Further arguments of Converse and ConverseStream."""
    terms, lane = terms_of(attempt), attempt.deployment.lane
    members: Json = {"requestMetadata": _names(attempt)}
    if terms.latency is Latency.OPTIMIZED:
        members["performanceConfig"] = {"latency": terms.latency.value}
    if lane in TIERS:
        members["serviceTier"] = {"type": lane.value}
    if terms.guardrail is not None:
        members["guardrailConfig"] = {
            "guardrailIdentifier": terms.guardrail.id,
            "guardrailVersion": terms.guardrail.version,
            "trace": "enabled" if terms.guardrail.trace else "disabled",
        }
    return members


def invoke_members(attempt: Attempt) -> Json:
    """Further arguments of InvokeModel and InvokeModelWithResponseStream."""
    terms, lane = terms_of(attempt), attempt.deployment.lane
    members: Json = {"contentType": "application/json", "accept": "application/json"}
    members["requestMetadata"] = msgspec.json.encode(_names(attempt)).decode()
    if terms.latency is Latency.OPTIMIZED:
        members["performanceConfigLatency"] = terms.latency.value
    if lane in TIERS:
        members["serviceTier"] = lane.value
    if terms.guardrail is not None:
        members["guardrailIdentifier"] = terms.guardrail.id
        members["guardrailVersion"] = terms.guardrail.version
        members["trace"] = "ENABLED" if terms.guardrail.trace else "DISABLED"
    return members


def _names(attempt: Attempt) -> Json:
    """What finds a call again in Bedrock's invocation log: ids and the class that was asked for, never the prompt."""
    request = attempt.request
    names = {"request_id": request.id, "attempt_id": attempt.id, "request_class": request.request_class}
    return {name: _NOT_IN_METADATA.sub("_", value[:_METADATA_CHARS]) for name, value in names.items() if value}
