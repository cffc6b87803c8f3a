"""What an edit of the policy means: which way each term moves, who falls in another class, how it comes into force."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.domain.deployment import Deployment
from router.domain.slo import (
    Budget,
    CacheTerms,
    Cascade,
    Judge,
    Match,
    Objective,
    Parameters,
    QualityFloor,
    RequestClass,
)
from router.policy.compile import compile_policy
from router.policy.meaning.classes import (
    BUDGET,
    CACHE,
    CASCADE,
    CLASS,
    FLOOR,
    JUDGE,
    MATCH,
    OBJECTIVE,
    PARAMETERS,
    WHOLE,
)
from router.policy.meaning.compare import Comparison, changes, compare
from router.policy.meaning.fleet import BOUNDS, DEPLOYMENT, PARTS, PRICE, SOURCE
from router.policy.policy import Bounds, Policy
from tests.unit.policy_fleet import FLEET


def policy(classes: str = "[]", rest: str = "", fleet: str = FLEET) -> Policy:
    return compile_policy([("fleet.yaml", fleet), ("rest.yaml", f"classes: {classes}\n{rest}")])


def one(terms: str) -> Policy:
    return policy(f"[{{name: a, match: {{tenants: t}}, {terms}}}]")


def moved(old: Policy, new: Policy) -> list[tuple[str, str, str | None, str]]:
    """Subject, field, direction and how of every change."""
    return [(c.subject, c.move.field, c.move.direction, c.effect.how) for c in changes(old, new)]


def fields(old: str, new: str) -> dict[str, str | None]:
    """Field and direction of what one class does otherwise."""
    return {c.move.field: c.move.direction for c in changes(one(old), one(new))}


def elsewhere(old: Policy, new: Policy) -> set[tuple[str, str, str]]:
    return {(e.request, e.old, e.new) for e in compare(old, new).examples}


def test_the_same_meaning_has_no_change() -> None:
    """Spelling does not count, and no request falls elsewhere."""
    found = compare(policy(), policy(rest="bounds: {queue_wait: 1m}"))
    assert (found.changes, found.examples, found.old == found.new) == ((), (), True)


@pytest.mark.parametrize(
    ("field", "loose", "tight"),
    [
        ("objectives.ttft.threshold", "objectives: {ttft: 500ms}", "objectives: {ttft: 400ms}"),
        (
            "objectives.ttft.target",
            "objectives: {ttft: {threshold: 1s}}",
            "objectives: {ttft: {threshold: 1s, target: 99.9%}}",
        ),
        ("objectives.tpot", "priority: 0", "objectives: {tpot: 50ms}"),
        ("floor.ratio", "floor: 90%", "floor: 95%"),
        ("floor", "priority: 0", "floor: 90%"),
        ("deadline", "deadline: 2m", "deadline: 1m"),
        ("deadline", "priority: 0", "deadline: 1m"),
        ("budget.usd_per_day", "budget: {usd_per_day: 9}", "budget: {usd_per_day: 8}"),
        (
            "budget.mean_usd_per_request",
            "budget: {mean_usd_per_request: 0.009}",
            "budget: {mean_usd_per_request: 0.008}",
        ),
        ("judge.share", "judge: {deployment: large, share: 5%}", "judge: {deployment: large, share: 1%}"),
        ("judge", "judge: {deployment: large}", "priority: 0"),
        ("budget.usd_per_request", "priority: 0", "budget: {usd_per_request: 1}"),
        ("exploration", "exploration: 5%", "exploration: 2%"),
        ("max_retries", "max_retries: 3", "max_retries: 1"),
        ("hedge_after", "hedge_after: 1s", "hedge_after: 2s"),
        ("input_budget", "priority: 0", "input_budget: 1000"),
        ("deployments", "priority: 0", "deployments: [small]"),
        ("deployments", "deployments: [small, large]", "deployments: [large]"),
        ("residency", "residency: []", "residency: [eu]"),
        ("sheddable", "sheddable: true", "sheddable: false"),
        ("parameters.max_tokens", "parameters: {max_tokens: 200}", "parameters: {max_tokens: 100}"),
    ],
)
def test_which_way_a_term_moved(field: str, loose: str, tight: str) -> None:
    """Tightened one way, loosened the other."""
    assert fields(loose, tight) == {field: "tightened"}
    assert fields(tight, loose) == {field: "loosened"}


def test_both_ways_at_once_are_two_changes() -> None:
    """A tighter threshold does not hide a looser target."""
    old, new = "objectives: {ttft: 500ms}", "objectives: {ttft: {threshold: 400ms, target: 90%, timeWindow: 7d}}"
    assert fields(old, new) == {
        "objectives.ttft.threshold": "tightened",
        "objectives.ttft.target": "loosened",
        "objectives.ttft.timeWindow": None,
    }


def test_bounds_tighten_towards_each_other() -> None:
    """A higher least and a lower most both leave the controller less room."""
    found = moved(policy(), policy(rest="bounds: {limit_min: 2, limit_max: 512, queue_wait: 2m}"))
    assert found == [
        ("bounds", "limit_min", "tightened", "live"),
        ("bounds", "limit_max", "tightened", "live"),
        ("bounds", "queue_wait", "loosened", "live"),
    ]


def test_requests_that_fall_in_another_class_are_shown() -> None:
    """The plainest request for each move; wildcards are filled in."""
    old = policy('[{name: batch, match: {topics: ["+/requests/batch/#", "+/requests/slow/#"]}}]')
    new = policy('[{name: batch, match: {topics: ["+/requests/slow/#"]}}]')
    assert elsewhere(old, new) == {("topic router/requests/batch/x", "batch", "default")}


def test_order_is_shown_by_a_request_of_both() -> None:
    """Nothing but order differs: the example meets both classes."""
    a, b = "{name: a, match: {tenants: t}}", "{name: b, match: {use_cases: code}}"
    old, new = policy(f"[{a}, {b}]"), policy(f"[{b}, {a}]")
    assert elsewhere(old, new) == {("tenant t, use case code", "a", "b")}
    assert moved(old, new) == [("classes", "order", None, "live")]


def test_the_ends_of_a_range_are_tried() -> None:
    """One token more or less decides."""
    old = policy("[{name: long, match: {input_tokens: {min: 1000}}}]")
    new = policy("[{name: long, match: {input_tokens: {min: 2000}}}]")
    assert elsewhere(old, new) == {
        ("input tokens 1000", "long", "default"),
        ("input tokens 1999", "long", "default"),
    }


def test_a_class_that_is_gone_refuses_who_names_it() -> None:
    """Requests that ask for a removed class are told so."""
    assert ("class a", "a", "refused") in elsewhere(policy("[{name: a, match: {topics: x}}]"), policy())
    assert ("class a, tenant t", "a", "refused") in elsewhere(one("priority: 0"), policy())


def test_properties_and_tenants_are_tried_together() -> None:
    """A class with two conditions is met by a request that has both."""
    old = policy("[{name: a, match: {tenants: acme-*, attributes: {app: 'we[bx]'}}}]")
    new = policy("[{name: a, match: {tenants: acme-*, attributes: {app: mobile}}}]")
    assert elsewhere(old, new) == {
        ("property app web, tenant acme-x", "a", "default"),
        ("property app mobile, tenant acme-x", "default", "a"),
    }


CANARY = "rollout: {mode: canary, steps: [10, 50], step: 1h}"


def test_an_edit_goes_by_the_rollout_of_the_new_text() -> None:
    """Steps of the edited class; its rollout terms themselves hold at once."""
    found = changes(one("priority: 0"), one(f"priority: 1, {CANARY}"))
    assert [(c.move.field, c.effect.how) for c in found] == [
        ("priority", "canary"),
        ("rollout.mode", "live"),
        ("rollout.steps", "live"),
        ("rollout.step", "live"),
    ]
    assert "10% -> 50% -> 100%" in found[0].effect.text
    assert "at least 1h" in found[0].effect.text


def test_how_a_class_comes_into_force() -> None:
    """New classes go by steps too, shadows never do, and what takes everything changes at once."""
    assert moved(policy(), one(CANARY)) == [("class a", "", None, "canary")]
    assert moved(one("priority: 0"), policy()) == [("class a", "", None, "live")]
    shadow = moved(one("priority: 0"), one("priority: 1, rollout: {mode: shadow}"))
    assert shadow[0] == ("class a", "priority", None, "shadow")
    taken = moved(policy("[{name: a}]"), policy(f"[{{name: a, match: {{tenants: t}}, {CANARY}}}]"))
    assert taken[0] == ("class a", "match.tenants", None, "live")


def test_what_drains() -> None:
    """A deployment that is removed, or is another thing under the same name; a price or a bound is adopted."""
    gone = FLEET.replace("  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated, tags: [eu]}\n", "")
    assert moved(policy(), policy(fleet=gone)) == [("deployment small", "", None, "drain")]
    other = FLEET.replace("tier: large, backend: simulated", "tier: large, backend: bedrock, target: m")
    assert {how for *_, how in moved(policy(), policy(fleet=other))} == {"drain"}
    dearer = FLEET.replace("input: 0.99", "input: 1.98").replace("tier: small, ", "tier: small, max_in_flight: 4, ")
    assert moved(policy(), policy(fleet=dearer)) == [
        ("deployment small", "max_in_flight", "tightened", "live"),
        ("deployment large", "input_usd_per_mtok", None, "live"),
    ]


def test_which_classes_a_deployment_touches() -> None:
    """Only those that it may serve."""
    fleet = FLEET.replace("input: 0.99", "input: 1.98")
    classes = "[{name: a, match: {tenants: t}, deployments: small}]"
    found = compare(policy(classes), policy(classes, fleet=fleet))
    assert found.rerouted() == {("default",): ("deployment large",)}


def test_a_key_from_a_new_variable_needs_a_restart() -> None:
    """A process has the environment that it began with."""
    fleet = FLEET.replace(
        "backend: simulated}\nprices", "backend: openai_http, url: http://h/v1, api_key_env: K}\nprices"
    )
    assert compare(policy(), policy(fleet=fleet)).environment == ("K",)
    assert compare(policy(fleet=fleet), policy(fleet=fleet.replace("http://h", "http://i"))).environment == ()


def test_a_profile_touches_the_classes_that_use_it() -> None:
    """By name, and those that look it up by use case."""
    classes = "[{name: a, match: {tenants: t}, parameters: {profile: terse}}, {name: b, match: {tenants: u}}]"
    old, new = (policy(classes, f"profiles: {{terse: {{temperature: {t}}}}}") for t in (0.1, 0.2))
    assert [(c.subject, c.move.field, c.classes) for c in changes(old, new)] == [
        ("profile terse", "temperature", ("a",))
    ]


def test_every_field_of_a_policy_is_known() -> None:
    """A field that is added to a struct must be weighed, or this fails."""

    def named(rules: object) -> set[str]:
        return {rule.field for rule in rules}  # type: ignore[attr-defined]

    assert named(CLASS) | set(WHOLE) == set(RequestClass.__struct_fields__)
    assert named(MATCH) == set(Match.__struct_fields__)
    assert named(OBJECTIVE) | {"indicator"} == set(Objective.__struct_fields__)
    assert named(FLOOR) == set(QualityFloor.__struct_fields__)
    assert named(BUDGET) == set(Budget.__struct_fields__)
    assert named(CACHE) == set(CacheTerms.__struct_fields__)
    assert named(CASCADE) == set(Cascade.__struct_fields__)
    assert named(JUDGE) == set(Judge.__struct_fields__)
    assert named(PARAMETERS) | {"max_tokens", "ceiling"} == set(Parameters.__struct_fields__)
    assert named(BOUNDS) == set(Bounds.__struct_fields__)
    parts = {"name", "address", "price", *PARTS}
    assert named(DEPLOYMENT) | parts == set(Deployment.__struct_fields__)
    deployment = policy().deployments[0]
    assert set(PRICE) | named(SOURCE) == set(deployment.price.__struct_fields__)
    assert {"digest", "classes", "deployments", "bounds", "usd_per_useful", "profiles", "tenants"} == set(
        Policy.__struct_fields__
    )


TERMS = st.fixed_dictionaries(
    {},
    optional={
        "floor": st.sampled_from([0.8, 0.9]),
        "goal": st.sampled_from(["useful", "cost"]),
        "deadline": st.sampled_from(["10s", "20s"]),
        "priority": st.integers(-2, 2),
        "deployments": st.sampled_from([["small"], ["large"], ["small", "large"]]),
        "parameters": st.sampled_from([{"max_tokens": 5}, {"max_tokens": "long"}, {"temperature": 1}]),
        "cache": st.sampled_from([{"ttl": "1m"}, {"ttl": "2m", "when": "always"}]),
        "budget": st.sampled_from([{"usd_per_day": 1}, {"usd_per_day": 2, "when_spent": "queue"}]),
        "match": st.sampled_from([{"tenants": ["x"]}, {"topics": ["a/#"], "input_tokens": {"max": 9}}]),
        "rollout": st.sampled_from([{"mode": "canary"}, {"mode": "shadow"}]),
    },
)


@settings(max_examples=60, deadline=None)
@given(TERMS, TERMS)
def test_policies_differ_if_and_only_if_there_is_a_change(some: dict[str, object], others: dict[str, object]) -> None:
    """The digest and the comparison agree, whatever is edited."""
    old, new = (policy(json.dumps([{"name": "a", **terms}])) for terms in (some, others))
    found = compare(old, new)
    assert bool(found.changes) == (old.digest != new.digest)
    assert isinstance(found, Comparison)
    assert compare(old, new) == found
