"""The plan of an optimisation job: a file that people read before `router optimize apply` carries it out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from router.domain.errors import PolicyError
from router.policy.parse import PolicyErrors, compose, read_node
from router.policy.schema.aws import ROLE_ARN
from router.policy.schema.json import wording
from router.policy.schema.values import Count, Day, Name, Spec, Text

Technique = Literal["quantization", "speculative-decoding", "compilation"]
_NEURON = ("ml.inf", "ml.trn")
_AWQ = {"OPTION_QUANTIZE": "awq"}
_JOB_CHARS = 63

_HEAD = """\
# An optimisation job of SageMaker, as `router optimize plan` wrote it. Nothing was submitted.
#
# source       where the model is: a folder in S3, or the name of a SageMaker model
# output       folder in S3 for the result
# environment  settings of the job's container, such as OPTION_QUANTIZE: awq
#
# `router optimize apply FILE` shows it, asks, submits it and follows it to its end. Jobs that quantise or compile are
# paid by the hour of their instance; speculative decoding is not.
"""


class OptimizationPlan(Spec):
    """All of a plan file."""

    kind: Literal["optimization-plan"]
    """Says what file this is."""
    version: Literal[1]
    """Of the format."""
    made_on: Day
    """Date."""
    deployment: Name
    """Deployment of the policy whose model is optimised."""
    model: Text
    """Its model."""
    region: Text | None = None
    """Where the job runs."""
    role_arn: Annotated[str, Field(pattern=ROLE_ARN)]
    """Role that the job takes on to read the model and write the result."""
    technique: Technique
    """quantization, speculative-decoding or compilation."""
    source: Text
    """s3://bucket/folder/ of the model, or the name of a SageMaker model."""
    output: Annotated[str, Field(pattern=r"^s3://[^/]+(/.*)?$")]
    """s3://bucket/folder/ for the result."""
    instance_type: Annotated[str, Field(pattern=r"^ml\.[a-z0-9.]+$")]
    """Instance that the result will be hosted on."""
    environment: Annotated[dict[str, str], Field(default_factory=dict)]
    """Settings of the job's container."""
    training_data: Annotated[str, Field(pattern=r"^s3://[^/]+(/.*)?$")] | None = None
    """Prompts to train the draft of speculative decoding with; absent: AWS's own."""
    accept_eula: bool = False
    """Whether the licence of the model was read and is accepted."""
    max_runtime_s: Count = 36_000
    """Seconds after which the job is stopped."""

    @model_validator(mode="after")
    def _right(self) -> OptimizationPlan:
        if self.training_data is not None and self.technique != "speculative-decoding":
            raise PydanticCustomError("technique", "`training_data` is for speculative-decoding only: drop it")
        if self.technique == "quantization" and self.instance_type.startswith(_NEURON):
            raise PydanticCustomError("instance", "quantization needs an instance with GPUs, such as ml.g5.12xlarge")
        return self

    @property
    def optimization(self) -> str:
        """What a deployment's `optimizations` calls it."""
        if self.technique == "quantization":
            return f"quantization-{self.environment.get('OPTION_QUANTIZE', 'awq')}"
        if self.technique == "compilation":
            return "compilation-neuron" if self.instance_type.startswith(_NEURON) else "compilation-tensorrt"
        return "speculative-decoding"

    @property
    def job(self) -> str:
        """Name of its job: the same for the same plan, so that it is never submitted twice."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:10]
        base = re.sub(r"[^a-zA-Z0-9]+", "-", f"{self.deployment}-{self.optimization}").strip("-")
        return f"{base[: _JOB_CHARS - len(digest) - 1]}-{digest}"


def environment_of(technique: Technique, given: Mapping[str, str]) -> dict[str, str]:
    """AWQ is what quantises unless something else is asked for (AWS documents OPTION_QUANTIZE)."""
    return {**_AWQ, **given} if technique == "quantization" else dict(given)


def write_plan(plan: OptimizationPlan) -> str:
    """As a file."""
    document = plan.model_dump(mode="json", exclude_defaults=True)
    body: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
    return _HEAD + body


def read_plan(file: str, text: str) -> OptimizationPlan:
    """A plan out of the text of a file; raises `PolicyErrors` with everything that is wrong, by line."""
    trees = compose(file, text)
    if len(trees) != 1:
        raise PolicyError("a plan is one YAML document", file=file, line=1, column=1)
    plan, problems = read_node(file, trees[0].root, OptimizationPlan.model_validate_json, _wording)
    if plan is None:
        raise PolicyErrors(problems)
    return plan


@cache
def _schema() -> Mapping[str, Any]:
    return OptimizationPlan.model_json_schema()


def _wording(error: ErrorDetails) -> str:
    return wording(error, _schema())
