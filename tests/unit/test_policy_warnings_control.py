"""Waits, limits and batches that a bound cuts short are told, and the policy is taken up all the same."""

from __future__ import annotations

import pytest

from router.policy.checks.problem import Problem, Severity
from router.policy.checks.warnings import find_warnings
from router.policy.compile import compile_policy
from tests.unit.policy_mistakes import FLEET, Mistake

LARGE = "  - {name: more, model: llama-3.1-70b, tier: large, backend: simulated, "
ON_AWS = "  - {name: more, model: llama-3.1-70b, tier: large, backend: bedrock, "
BATCH = "kind: batch, batch_ms: {base: 30, per_item: 2}, "


def warnings_of(*texts: str) -> tuple[Problem, ...]:
    documents = [(f"{i}.yaml", text) for i, text in enumerate(texts)]
    return find_warnings(documents, compile_policy(documents))


DOUBTS = {
    "patience_unused": Mistake(
        "class:\n  name: a\n  sheddable: true\n  ▸patience: 5s\n",
        "class.patience",
        "a request of a `sheddable` class is never kept",
    ),
    "patience_past_queue_wait": Mistake(
        "class:\n  name: a\n  patience: ▸2m\nbounds: {queue_wait: 30s}\n",
        "class.patience",
        "the queue keeps none for over 30s (`queue_wait` of `bounds`)",
    ),
    "batch_wait_past_e2e": Mistake(
        "class:\n  name: a\n  objectives: {e2e: 10s}\n  batch_wait: ▸10s\n",
        "class.batch_wait",
        "waiting for a batch alone may miss e2e 10s",
    ),
    "limit_past_bounds": Mistake(
        f"deployments:\n{LARGE}limit: {{kind: fixed, requests: ▸65}}}}\nbounds: {{limit_max: 64}}\n",
        "deployments[0].limit.requests",
        "it never has so many: `limit_max` of `bounds` allows 64",
    ),
    "batch_past_bounds": Mistake(
        f"deployments:\n{LARGE}{BATCH}max_items: ▸33}}\nbounds: {{batch_items_max: 32}}\n",
        "deployments[0].max_items",
        "no batch is so large: `batch_items_max` of `bounds` allows 32",
    ),
    "reserved_unused": Mistake(
        f"deployments:\n{ON_AWS}kind: provisioned, hourly_usd: 9, target: ▸meta.llama3-1-70b-instruct-v1:0}}\n",
        "deployments[0].target",
        "this model is called on demand",
    ),
    "optimization_unknown": Mistake(
        f"deployments:\n{ON_AWS}target: m, optimizations: [speculative-decoding, ▸awq]}}\n",
        "deployments[0].optimizations[1]",
        "`awq` names no technique",
    ),
}


@pytest.mark.parametrize("code", DOUBTS)
def test_what_a_bound_cuts_short_is_told_at_its_place(code: str) -> None:
    """One warning, with file, line, column, path, a stable code and the bound."""
    doubt = DOUBTS[code]
    (found,) = warnings_of(FLEET, doubt.document())
    assert (found.file, found.line, found.column) == ("1.yaml", *doubt.place()), str(found)
    assert (found.path, found.severity, found.code) == (doubt.path, Severity.WARNING, code)
    assert doubt.says in found.message, str(found)


def test_a_limit_begins_inside_the_bounds_but_a_fixed_one_may_be_less() -> None:
    """What is tuned never goes below `limit_min`; what is fixed is left where it is written."""
    bounds = "bounds: {limit_min: 8}"
    (found,) = warnings_of(FLEET, f"deployments:\n{LARGE}limit: {{kind: aimd, requests: 4}}}}\n{bounds}")
    assert (found.code, found.path) == ("limit_past_bounds", "deployments[0].limit.requests")
    assert "`limit_min` of `bounds` asks for 8" in found.message
    assert warnings_of(FLEET, f"deployments:\n{LARGE}limit: {{kind: fixed, requests: 4}}}}\n{bounds}") == ()


@pytest.mark.parametrize(
    "text",
    [
        "class: {name: a, patience: 30s}\nbounds: {queue_wait: 30s}",
        "class: {name: a, sheddable: true}",
        "class: {name: a, objectives: {e2e: 10s}, batch_wait: 9s}",
        f"deployments:\n{LARGE}limit: {{kind: fixed, requests: 64}}}}\nbounds: {{limit_max: 64}}",
        f"deployments:\n{LARGE}{BATCH}max_items: 32}}\nbounds: {{batch_items_max: 32}}",
        f"deployments:\n{ON_AWS}lane: reserved, kind: provisioned, hourly_usd: 9, target: meta.llama3-70b}}",
        f"deployments:\n{ON_AWS}kind: provisioned, hourly_usd: 9, target: house-units}}",
        f"deployments:\n{ON_AWS}target: m, optimizations: [speculative-decoding-eagle, compilation]}}",
    ],
)
def test_what_just_fits_is_not_doubted(text: str) -> None:
    """At the bound there is no warning."""
    assert warnings_of(FLEET, text) == ()
