"""`router aws-double` as a process of its own."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from router.cli.aws.double import double
from router.domain.errors import SettingsError
from router.doubles.aws.console.config import read_world
from tests.integration.aws_far_side import client, turn

HAIKU = "anthropic.claude-3-5-haiku-20241022-v1:0"
CONFIG = f"""
models:
- id: {HAIKU}
  text: Paris is the capital of France.
  prices: {{input: 1000, output: 5000}}
  quota: {{requests_per_min: 1}}
guardrails:
  gr1: {{words: [secret], message: No.}}
endpoints:
- {{name: llama, variants: [{{name: plain}}, {{name: awq, speed: {{output_token_s: 0.005}}}}]}}
"""


async def test_the_command(tmp_path: Path) -> None:
    """It prints the environment to set, answers as its file says, and on Ctrl-C shows what was billed and refused."""
    (tmp_path / "double.yaml").write_text(CONFIG)
    arguments = ("aws-double", "--port", "0", "--no-stores", "--config", str(tmp_path / "double.yaml"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "router", *arguments, stdout=asyncio.subprocess.PIPE, env={"COLUMNS": "160"}
    )
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
    found = re.fullmatch(r"export AWS_ENDPOINT_URL=(http://127\.0\.0\.1:\d+)\n", line)
    assert found is not None
    async with client(found[1]) as sdk:
        answer = await sdk.converse(modelId=HAIKU, messages=turn("What is it"))
        assert answer["output"]["message"]["content"][0]["text"] == "Paris is the capital of France."
        with pytest.raises(ClientError, match="ThrottlingException"):
            await sdk.converse(modelId=HAIKU, messages=turn())
    process.send_signal(signal.SIGINT)
    said = (await asyncio.wait_for(process.stdout.read(), 60)).decode()
    assert (await process.wait(), HAIKU in said, "0.033000" in said) == (0, True, True)
    assert "Refused: ThrottlingException 1" in said


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("models: [{id: a, sped: {}}]", "sped"),
        ("models: 3", "models"),
        ("a: [", "double.yaml"),
        ("model: []", "model"),
        ("faults: [{hwo: cut}]", "hwo"),
        ("provisioned: [{arn: a, name: b, model: c}]", "model"),
        ("provisioned: [{arn: a, name: b, model_id: c, unit: 2}]", "unit"),
        ("jobs: {takes: 1}", "takes"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, text: str, complaint: str) -> None:
    """A file that cannot be read is refused with its name and where the mistake is."""
    file = tmp_path / "double.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=complaint):
        read_world(file)


def test_a_port_that_is_taken() -> None:
    """It says that the port is taken, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SettingsError, match="try --port 0"):
        double(taken.getsockname()[1], None, False)
