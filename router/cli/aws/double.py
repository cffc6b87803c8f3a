"""`router aws-double`: Bedrock, SageMaker, S3, SQS and CloudWatch on one loopback port."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer


def double(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Loopback port; 0 takes a free one.")] = 8700,
    config: Annotated[Path | None, typer.Option(help="YAML: models, prices, quotas, faults. None: any model.")] = None,
    stores: Annotated[
        bool | None, typer.Option("--stores/--no-stores", help="Serve S3, SQS and CloudWatch; if moto is installed.")
    ] = None,
) -> None:
    """Stand in for AWS, so that the router and any program with an AWS SDK can be tried without an account.

    Bedrock (runtime and control), SageMaker (runtime and jobs) and STS answer as their service models say: unknown
    parameters are refused, quotas are reserved and settled, prompts are cached, calls are billed. S3, SQS and
    CloudWatch are moto's: pip install 'adaptive-model-router[aws-double]'.

    Examples:

        router aws-double

        router aws-double --port 8700 --config double.yaml

    A file double.yaml (each part may be left out; without `models` any id answers, with it these alone):

        models:
        - id: anthropic.claude-3-5-haiku-20241022-v1:0
          text: Paris is the capital.       # or answer_tokens: 60, made-up words
          speed: {first_token_s: 0.4, output_token_s: 0.01, cold_start_s: 5}
          prices: {input: 0.8, output: 4.0} # USD per million tokens
          quota: {requests_per_min: 100, tokens_per_min: 200000}
          max_tokens: 8192                  # what an unset maxTokens reserves
          optimized: {quota: {requests_per_min: 20}}
        provisioned:
        - {arn: ARN, name: a, model_id: MODEL, units: 2, unit_tokens_per_min: 9000}
        profiles: {ARN: MODEL}              # application inference profiles
        prompt_routers: {ARN: {models: [MODEL, MODEL], long_tokens: 100}}
        guardrails: {gr1: {words: [secret], message: This cannot be answered.}}
        endpoints:
        - {name: llama, payload: openai, variants: [{name: plain}, {name: awq}]}
        jobs: {min_records: 100, takes_s: 60}
        faults:
        - {how: refuse, code: ThrottlingException, operation: Converse, times: 3}

    A quota also has output_burndown: 5, where an output token counts as five. A fault's `how` is refuse, exception (in
    the stream), cut, garbage, silent_end or hang; with `after: 3` a stream fails after three pieces.

    While it runs, look into it and order it about (here: throttle one call):

        curl localhost:8700/_double/state

        curl localhost:8700/_double/state -d '{"faults": [{"times": 1}]}'

    Ctrl-C ends it and shows what was called and billed.
    """
    from router.cli.aws.double_serving import run

    run(config, port, find_spec("moto") is not None if stores is None else stores)
