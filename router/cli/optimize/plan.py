"""`router optimize plan`: what would be asked of SageMaker, as a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from router.backends.aws.control.optimization_plan import OptimizationPlan, environment_of, write_plan
from router.cli.optimize.fragment import base_of, optimized_name
from router.cli.report.write import save, today
from router.domain.deployment import Deployment
from router.domain.errors import RouterError
from router.learning.variants.effects import Kind, is_done
from router.runtime.reload import load_directory
from router.settings import load_settings


def plan(
    deployment: Annotated[str, typer.Argument(help="Deployment of the policy whose model is optimised.")],
    *,
    technique: Annotated[Kind, typer.Option(help="What is done to it.")],
    source: Annotated[str, typer.Option(help="s3://bucket/folder/ of the model, or the name of a SageMaker model.")],
    output: Annotated[str, typer.Option(help="s3://bucket/folder/ for the result.")],
    role_arn: Annotated[str, typer.Option(help="Role that the job takes on.")],
    instance_type: Annotated[
        str, typer.Option(help="Instance to host the result on: with GPUs, or ml.inf2 and ml.trn1 to compile for.")
    ],
    out: Annotated[Path, typer.Option(help="File for the plan.")],
    environment: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for the job's container; may be repeated.")
    ] = None,
    training_data: Annotated[
        str | None, typer.Option(help="s3://bucket/folder/ of prompts for the draft of speculative decoding.")
    ] = None,
    accept_eula: Annotated[bool, typer.Option("--accept-eula", help="The model's licence was read.")] = False,
    policies: Annotated[Path | None, typer.Option(help="Policy directory; else ROUTER_POLICIES or ./policies.")] = None,
) -> None:
    """Write the plan of an optimisation job. Nothing is submitted.

    Quantisation is AWQ unless --environment says otherwise. A job is named after its plan, so that the same plan is
    never submitted twice.

    Examples:

        router optimize plan llama --technique quantization --source s3://models/llama-3-70b/ --output s3://models/awq/
        --role-arn arn:aws:iam::123456789012:role/sagemaker --instance-type ml.g5.12xlarge --out plan.yaml
    """
    if not out.parent.is_dir():
        raise RouterError(f"{out}: there is no directory {out.parent}")
    base = base_of(load_directory(policies or load_settings().policies), deployment)
    if is_done(technique, base.optimizations):
        raise RouterError(f"`{deployment}` has its {technique} already: name the deployment that it derives from")
    given = _pairs(environment or ())
    found = _checked(
        base,
        technique=technique.value,
        source=source,
        output=output,
        role_arn=role_arn,
        instance_type=instance_type,
        environment=environment_of(technique.value, given),
        training_data=training_data,
        accept_eula=accept_eula,
    )
    save(out, write_plan(found))
    typer.echo(f"job {found.job}: {base.model} as {optimized_name(found)}; plan in {out}. Nothing was submitted.")


def _checked(base: Deployment, **told: Any) -> OptimizationPlan:
    try:
        return OptimizationPlan(
            kind="optimization-plan",
            version=1,
            made_on=today(),
            deployment=base.group,
            model=base.model,
            region=base.address.region,
            **told,
        )
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
        raise RouterError(f"this would be no job: {wrong}") from None


def _pairs(given: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for one in given:
        key, is_pair, value = one.partition("=")
        if not is_pair or not key:
            raise RouterError(f"--environment {one}: write KEY=VALUE")
        pairs[key] = value
    return pairs
