"""Whatever stands in a file, the compiler answers with a policy or with places and words."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.policy.compile import compile_policy
from router.policy.parse import PolicyErrors
from router.policy.policy import Policy

FLEET = """\
deployments:
  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated}
  - {name: large, model: llama-3.1-70b, tier: large, backend: simulated}
prices:
  models:
    llama-3.1-8b: {input: 0.22, output: 0.22}
    llama-3.1-70b: {input: 0.99, output: 0.99}
"""


def compiles(text: str) -> Policy | None:
    try:
        return compile_policy([("fleet.yaml", FLEET), ("x.yaml", text)])
    except PolicyErrors as error:
        problems = error.problems
    assert problems
    assert all(p.file and p.line >= 1 and p.column >= 1 and p.problem for p in problems)
    return None


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
        "budget",
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
TOP = st.sampled_from(["defaults", "deployments", "fleet", "prices", "classes", "class", "bounds"])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(TOP, VALUES, max_size=3))
def test_any_document_of_the_right_words_gives_a_policy_or_a_located_error(document: dict[str, str]) -> None:
    """Field names in the wrong places, values of the wrong kind: still a policy or a located error."""
    compiles("".join(f"{key}: {value}\n" for key, value in document.items()))
