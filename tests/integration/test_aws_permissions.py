"""The IAM policies that ship allow what our clients call, and nothing else."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.session import get_session

from router.backends.aws.sessions import OVERLAY

HERE = Path(__file__).parents[2]
CALLERS = (*(HERE / "router/backends/aws").rglob("*.py"), HERE / "router/wire/aws/exchange.py")
BUYERS = frozenset({"provisioned.py", "optimization.py"})
"""What only `router capacity` and `router optimize` call, but for one."""
WATCHED = frozenset({"bedrock:GetProvisionedModelThroughput"})
BESIDES = frozenset({"iam:PassRole", "bedrock:ApplyGuardrail"})
"""Asked of the caller for what a call names: a service role, a guardrail."""
ACTIONS = {
    "Converse": "InvokeModel",
    "ConverseStream": "InvokeModelWithResponseStream",
    "ListObjectsV2": "ListBucket",
}
PREFIXES = {"bedrock-runtime": "bedrock", "sagemaker-runtime": "sagemaker"}
SERVICES = ("bedrock-runtime", "bedrock", "sagemaker-runtime", "sagemaker", "s3", "cloudwatch")


@cache
def actions() -> dict[str, str]:
    """Name of a client's method -> the IAM action that it needs."""
    session = get_session()
    session.get_component("data_loader").search_paths.insert(0, OVERLAY)
    return {
        xform_name(operation): f"{PREFIXES.get(service, service)}:{ACTIONS.get(operation, operation)}"
        for service in reversed(SERVICES)
        for operation in session.get_service_model(service).operation_names
    }


def called(files: tuple[Path, ...]) -> set[str]:
    """The actions behind every method of a client that these files call, or name to call it."""
    text = "\n".join(file.read_text() for file in files)
    names = set(re.findall(r"\.([a-z][a-z0-9_]+)\(", text)) | set(re.findall(r'"([a-z][a-z0-9_]+)"', text))
    return {actions()[name] for name in names if name in actions()}


def allowed(file: str) -> set[str]:
    document: dict[str, Any] = json.loads((HERE / "deploy" / file).read_text())
    assert document["Version"] == "2012-10-17"
    assert all(one["Effect"] == "Allow" and one["Resource"] for one in document["Statement"])
    assert all(re.fullmatch("[A-Za-z0-9]+", one["Sid"]) for one in document["Statement"])
    named = [one["Action"] for one in document["Statement"]]
    return {action for one in named for action in ([one] if isinstance(one, str) else one)} - BESIDES


@pytest.mark.parametrize(
    ("file", "buys", "besides"),
    [
        ("aws-iam-policy.json", False, WATCHED | {"sts:AssumeRole"}),
        ("aws-iam-operator-policy.json", True, frozenset()),
    ],
    ids=["daemon", "operator"],
)
def test_each_policy_allows_what_is_called(file: str, buys: bool, besides: frozenset[str]) -> None:
    """Every operation that our clients call is allowed, and what is allowed is called."""
    assert allowed(file) == called(tuple(f for f in CALLERS if (f.name in BUYERS) is buys)) | besides
