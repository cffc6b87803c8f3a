"""Whatever stands in a file, the compiler answers with a policy or with places and words."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from router.policy.checks.warnings import find_warnings
from router.policy.compile import compile_policy
from router.policy.parse import PolicyErrors
from router.policy.policy import Policy
from router.policy.schema.json import json_schema
from router.policy.schema.openslo import SloObject
from tests.unit.policy_documents import Drawn

FLEET = """\
deployments:
  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated}
  - {name: large, model: llama-3.1-70b, tier: large, backend: simulated}
prices:
  models:
    llama-3.1-8b: {input: 0.22, output: 0.22}
    llama-3.1-70b: {input: 0.99, output: 0.99}
"""


def compiles(*texts: str) -> Policy | None:
    """The policy, whose warnings have places too, or `None` where every error has a place."""
    documents = [("fleet.yaml", FLEET), *((f"x{i}.yaml", text) for i, text in enumerate(texts))]
    policy = None
    try:
        policy = compile_policy(documents)
        problems: Any = find_warnings(documents, policy)
        words = [p.message for p in problems]
    except PolicyErrors as error:
        problems = error.problems
        words = [p.problem for p in problems]
        assert problems
    assert all(p.file and p.line >= 1 and p.column >= 1 for p in problems)
    assert all(words)
    return policy


@given(st.text(max_size=200))
@example("\ufeffbounds: {}")
@example("a: '\udc80'")
@example("bounds: {limit_min: 0b_}")
@example("{name: 1__:2}")
@example("bounds: {limit_min: 0x" + "f" * 6000 + "}")
@example("bounds: {queue_wait: 1.0e+999}")
@example("a: 2024-99-99")
@example("!!binary x")
@example("<<: {a: 1}")
@example("=: =")
@example("%TAG ! x\n---\na")
def test_any_text_gives_a_policy_or_a_located_error(text: str) -> None:
    """No text gets another exception out of the compiler."""
    compiles(text)


WORDS = st.sampled_from(
    [
        "name",
        "match",
        "objectives",
        "ttft",
        "availability",
        "threshold",
        "target",
        "indicator",
        "timeWindow",
        "floor",
        "ratio",
        "reference",
        "deadline",
        "tenants",
        "topics",
        "attributes",
        "deployments",
        "parameters",
        "order",
        "input_tokens",
        "min",
        "max",
        "tier",
        "model",
        "kind",
        "backend",
        "replicas",
        "url",
        "price_usd_per_mtok",
        "input",
        "output",
        "tokens_per_min",
        "hourly_usd",
        "step_ms",
        "base",
        "profile",
        "batch_ms",
        "capabilities",
        "tags",
        "forced",
        "fallback",
        "residency",
        "budget",
        "usd_per_day",
        "when_spent",
        "cache",
        "ttl",
        "rollout",
        "mode",
        "ab",
        "canary",
        "steps",
        "arms",
        "share",
        "slo",
        "style",
        "max_tokens",
        "start",
        "derived_from",
        "models",
        "usd_per_useful",
        "limit_min",
        "queue_wait",
        "default",
        "a-1",
        "small",
        "bedrock",
        "provisioned",
        "batch",
        "simulated",
        "openai_http",
        "tools",
    ]
)
SCALARS = (
    WORDS
    | st.sampled_from(
        ["1", "0", "-1", "0.5", "90%", "500ms", "30d", "null", "true", "no", ".nan", ".inf", "1e400", "~"]
    )
    | st.sampled_from(
        ["http://h-{replica}/v1", "a/#", "'*'", "2024-01-01", "1:30", "0x1F", "9" * 30, "&x 1", "*x", "''"]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda v: f"[{', '.join(v)}]")
        | st.dictionaries(WORDS, inner, max_size=4).map(
            lambda d: "{" + ", ".join(f"{k}: {v}" for k, v in d.items()) + "}"
        )
    ),
    max_leaves=12,
)
TOP = st.sampled_from(["defaults", "deployments", "fleet", "prices", "classes", "class", "profiles", "bounds"])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(TOP, VALUES, max_size=3))
def test_any_document_of_the_right_words_gives_a_policy_or_a_located_error(document: dict[str, str]) -> None:
    """Field names in the wrong places, values of the wrong kind: still a policy or a located error."""
    compiles("".join(f"{key}: {value}\n" for key, value in document.items()))


POLICY = Drawn(json_schema())
ONE_CLASS = POLICY.of({"$ref": "#/$defs/ClassSpec"})
DOCUMENTS = st.one_of(
    POLICY.whole,
    st.fixed_dictionaries({"class": ONE_CLASS}),
    st.fixed_dictionaries({"classes": st.lists(ONE_CLASS, max_size=3)}),
    st.fixed_dictionaries({"defaults": POLICY.of({"$ref": "#/$defs/ClassTerms"}), "class": ONE_CLASS}),
)
SLO = Drawn(SloObject.model_json_schema(by_alias=True))
SOUND: dict[str, Any] = {
    "indicator": {"metadata": {"name": "i"}, "spec": {}},
    "timeWindow": [{"duration": "4w", "isRolling": True}],
    "budgetingMethod": "Occurrences",
}
THRESHOLD: dict[str, Any] = {"op": "lte", "value": 0.5, "target": 0.9}


@st.composite
def slos(draw: st.DrawFn) -> dict[str, Any]:
    """A sound SLO with up to two fields of it, and of its objective, drawn or left out."""

    def edited(sound: dict[str, Any], definition: str) -> dict[str, Any]:
        drawn = draw(SLO.of({"$ref": f"#/$defs/{definition}"}))
        fields = draw(st.lists(st.sampled_from(sorted({*sound, *drawn})), unique=True, max_size=2))
        result = {name: value for name, value in sound.items() if name not in fields}
        return result | {name: drawn[name] for name in fields if name in drawn}

    spec = edited(SOUND, "SloSpec")
    metadata = draw(SLO.of({"$ref": "#/$defs/Metadata"})) | {"name": "s"}
    spec.setdefault("objectives", [edited(THRESHOLD, "ThresholdSpec")])
    return {"apiVersion": "openslo/v1", "kind": "SLO", "metadata": metadata, "spec": spec}


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
@given(DOCUMENTS)
def test_any_document_that_the_schema_accepts_gives_a_policy_or_located_errors(document: dict[str, Any]) -> None:
    """What an editor does not underline compiles, or is told with its place: never a traceback, nor from warnings."""
    compiles(yaml.safe_dump(document, allow_unicode=True))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
@given(slos(), st.sampled_from(["ttft", "tpot", "e2e", "availability"]))
def test_any_openslo_document_gives_an_objective_or_located_errors(slo: dict[str, Any], indicator: str) -> None:
    """Whatever the format allows in an SLO that a class refers to."""
    text = yaml.safe_dump(slo, allow_unicode=True)
    policy = compiles(text, f"class: {{name: a, objectives: {{{indicator}: {{slo: s}}}}}}")
    assert policy is None or getattr(policy.classes[0].objectives, indicator) is not None
