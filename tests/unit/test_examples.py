"""What the documentation tells people to write is taken as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from router.policy.checks.problem import Problem
from router.policy.checks.warnings import find_warnings
from router.policy.compile import compile_policy
from router.policy.policy import Policy

HERE = Path(__file__).parents[2]
CLASS = ("classes.yaml", "classes: [{name: chat}]\n")
PRICES = ("prices.yaml", (HERE / "policies/prices.yaml").read_text())


def taken(text: str) -> tuple[Policy, tuple[Problem, ...]]:
    documents = [("fleet.yaml", text), CLASS, PRICES]
    policy = compile_policy(documents)
    return policy, find_warnings(documents, policy)


def test_the_fleet_of_the_readme() -> None:
    """The section on AWS begins with a file that is a policy, and nothing in it is doubted."""
    readme = (HERE / "README.md").read_text()
    found = re.search(r"## On AWS\n.*?```yaml\n(.*?)```", readme, re.DOTALL)
    assert found is not None
    policy, doubts = taken(found[1])
    assert {d.address.backend for d in policy.deployments} == {"bedrock", "bedrock_jobs", "sagemaker"}
    assert doubts == ()


def examples() -> list[str]:
    text = (HERE / "policies/fleet.yaml").read_text()
    lines = [line[1:] for line in text.splitlines() if line.startswith("#  ")]
    return [f"  - {one}" for one in "\n".join(lines[lines.index("  - name: small") :]).split("  - ")[1:]]


@pytest.mark.parametrize("example", examples(), ids=lambda e: e.split()[2])
def test_each_commented_deployment(example: str) -> None:
    """Taken out of its comment it is a deployment, and with one to spill to nothing in it is doubted."""
    beside = "  - {name: any, model: llama-3.1-70b, tier: large, backend: simulated}\n"
    _, doubts = taken(f"deployments:\n{example}\n{beside}")
    assert doubts == ()
