"""`router optimize` against the double: a plan, the job it becomes, and the policy of the variant that comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from router.cli.optimize import optimize
from router.domain.errors import RouterError
from router.doubles.aws.world import World
from router.policy.compile import compile_policy
from tests.integration.aws_in_thread import Running

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"})
POLICY = """
deployments:
  - {name: llama, model: llama-3-70b-instruct, tier: large, backend: sagemaker, target: llama-70b, region: us-east-1,
     tags: [eu], price_usd_per_mtok: {input: 1, output: 2}}
  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated, price_usd_per_mtok: {input: 1, output: 1}}
classes:
  - {name: chat, objectives: {tpot: 30ms}}
  - {name: code, match: {topics: ["code/#"]}, deployments: [llama], objectives: {ttft: 1s}}
"""
ROLE = "arn:aws:iam::123456789012:role/sagemaker"


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "double")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "double")
    with Running(World(optimizing_s=0.3)) as running:
        yield running
        assert running.world.drift == []


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "policy.yaml").write_text(POLICY)
    return folder


def plan(policies: Path, technique: str = "quantization", *more: str, instance: str = "ml.g5.12xlarge") -> Path:
    """Written by the command."""
    out = policies.parent / "plan.yaml"
    flags = ["--source", "s3://models/llama/", "--output", "s3://models/out/", "--role-arn", ROLE]
    flags += ["--instance-type", instance, "--out", str(out), "--policies", str(policies)]
    said = RUNNER.invoke(optimize, ["plan", "llama", "--technique", technique, *flags, *more])
    if said.exception is not None and not isinstance(said.exception, SystemExit):
        raise said.exception
    assert "Nothing was submitted" in said.output
    return out


def apply(double: Running, path: Path, *flags: str) -> Result:
    """Against the double, impatiently."""
    policies = path.parent / "policies"
    where = ["--policies", str(policies), "--endpoint-url", double.url, "--poll-seconds", "0.05"]
    return RUNNER.invoke(optimize, ["apply", str(path), *where, *flags])


def jobs(double: Running) -> list[dict[str, object]]:
    """What CreateOptimizationJob was asked."""
    return [call.params for call in double.world.calls if call.operation == "CreateOptimizationJob"]


def test_without_a_yes_nothing_is_submitted(double: Running, policies: Path) -> None:
    """What would be asked is shown in full."""
    said = apply(double, plan(policies))
    assert said.exit_code == 0
    assert "OPTION_QUANTIZE" in said.output
    assert "add --yes" in said.output
    assert jobs(double) == []


def test_the_variant_is_written_as_policy_that_can_be_read(double: Running, policies: Path) -> None:
    """Derived from its base, with what was done to it; the classes that would send to it are named with their edits."""
    path = plan(policies)
    said = apply(double, path, "--yes")
    assert said.exit_code == 0, said.output
    (asked,) = jobs(double)
    assert asked["OptimizationConfigs"] == [
        {"ModelQuantizationConfig": {"OverrideEnvironment": {"OPTION_QUANTIZE": "awq"}}}
    ]
    text = (path.parent / "llama-quantization-awq.yaml").read_text()
    both = compile_policy([("policy.yaml", POLICY), ("variant.yaml", text)])
    variant = next(d for d in both.deployments if d.name == "llama-quantization-awq")
    assert (variant.derived_from, variant.optimizations) == ("llama-3-70b-instruct", ("quantization-awq",))
    assert (variant.address.backend, variant.address.region, variant.tags) == ("sagemaker", "us-east-1", {"eu"})
    assert "Class chat lists any deployment" in text
    assert "deployments: [llama, llama-quantization-awq]" in text
    assert "rollout: {mode: shadow}" in text


def test_a_plan_is_never_submitted_twice(double: Running, policies: Path) -> None:
    """The second time its job is followed."""
    path = plan(policies)
    apply(double, path, "--yes")
    said = apply(double, path, "--yes")
    assert "followed now" in said.output
    assert said.exit_code == 0
    assert len({str(job["OptimizationJobName"]) for job in jobs(double)}) == 1


def test_speculative_decoding_is_asked_for_though_the_sdk_is_older(double: Running, policies: Path) -> None:
    """With the prompts to train the draft with, and without a price."""
    path = plan(policies, "speculative-decoding", "--training-data", "s3://prompts/chat/")
    said = apply(double, path, "--yes")
    assert said.exit_code == 0, said.output
    assert "asks nothing" in said.output
    (asked,) = jobs(double)
    data = {"S3Uri": "s3://prompts/chat/", "S3DataType": "S3Prefix"}
    config = {"Technique": "EAGLE", "TrainingDataSource": data}
    assert asked["OptimizationConfigs"] == [{"ModelSpeculativeDecodingConfig": config}]


def test_a_job_that_fails_says_why_and_writes_no_policy(double: Running, policies: Path) -> None:
    """AWS's reason is passed on."""
    path = plan(policies)
    path.write_text(path.read_text().replace("deployment: llama", "deployment: fail"))
    fleet = policies / "policy.yaml"
    fleet.write_text(POLICY.replace("name: llama,", "name: fail,").replace("[llama]", "[fail]"))
    said = apply(double, path, "--yes")
    assert isinstance(said.exception, RouterError)
    assert "could not be loaded" in str(said.exception)
    assert list(path.parent.glob("*quantization*")) == []


def test_what_could_be_no_job_is_refused_before_anything_is_written(policies: Path) -> None:
    """Quantisation on Inferentia, prompts for what drafts nothing, and a model that SageMaker does not host."""
    with pytest.raises(RouterError, match="instance with GPUs"):
        plan(policies, instance="ml.inf2.48xlarge")
    with pytest.raises(RouterError, match="training_data"):
        plan(policies, "compilation", "--training-data", "s3://a/b", instance="ml.inf2.48xlarge")
    (policies / "policy.yaml").write_text(POLICY.replace("name: llama,", "name: other,").replace("[llama]", "[other]"))
    with pytest.raises(RouterError, match="on SageMaker there are: other"):
        plan(policies)
