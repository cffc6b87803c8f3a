"""`router profile` as a process of its own, against real doubles on loopback ports."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.ports import free_port
from router.doubles.aws.models import Model, Prices, Quota, Speed
from router.doubles.aws.sagemaker_runtime.endpoint import Endpoint, Variant
from router.doubles.aws.server import aws_double
from router.doubles.aws.world import World
from router.doubles.openai_answers import Answer, Refusal, Script
from router.doubles.openai_server import openai_server

HAIKU = "anthropic.claude-3-5-haiku-20241022-v1:0"
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("ROUTER_", "AWS_"))},
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "NO_PROXY": "127.0.0.1",
    "COLUMNS": "160",
}
PATIENCE_S = 180.0


def fleet(place: Path, *deployments: str) -> None:
    """A policy of these deployments."""
    (place / "policies").mkdir()
    (place / "policies" / "fleet.yaml").write_text("deployments:\n" + "".join(f"  - {one}\n" for one in deployments))


def vllm(url: str, **more: Any) -> str:
    told = {"name": "vllm", "model": "m", "tier": "small", "backend": "openai_http", "url": url}
    return json.dumps({**told, "price_usd_per_mtok": {"input": 1, "output": 10}, **more})


async def start(place: Path, *arguments: object) -> asyncio.subprocess.Process:
    words = [sys.executable, "-m", "router", "profile", *map(str, arguments)]
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*words, cwd=place, env=ENVIRONMENT, stdout=pipe, stderr=pipe)


async def run(place: Path, *arguments: object, status: int = 0) -> str:
    """What it says; it must end with this status."""
    process = await start(place, *arguments)
    said, complained = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == status, (said + complained).decode()
    return (said + complained).decode()


def figures(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(path.read_text())
    return told


async def test_a_server_that_speaks_openai(tmp_path: Path) -> None:
    """Metrics by their names, a page that stands alone, figures kept, and lines that a policy takes."""
    pieces = tuple(f"w{i} " for i in range(20))
    script = Script(answer=Answer(pieces, input_tokens=64, output_tokens=20), first_token_s=0.02, gap_s=0.002)
    async with openai_server(script) as double:
        fleet(tmp_path, vllm(double.url))
        arguments = ("vllm", "--concurrency", "1,2,4", "--requests", 12, "--input-tokens", 60, "--output-tokens", 20)
        outputs = ("--json", "out.json", "--report", "out.html", "--store")
        said = await run(tmp_path, *arguments, *outputs)
    assert len(script.calls) == 3 * 12 + 7
    assert all(call.body["stream"] is True for call in script.calls)
    bounds = {call.body["max_tokens"] for call in script.calls}
    assert len(bounds) > 3
    assert min(bounds) >= 10
    assert max(bounds) <= 30
    for name in (
        "Time to first token (ms), p50",
        "Client invocation errors (count)",
        "Price per million output tokens",
    ):
        assert name in said
    told = figures(tmp_path / "out.json")
    assert [one["concurrency"] for one in told["levels"]] == [1, 2, 4]
    one = told["levels"][0]
    assert one["client_invocations"] == 12
    assert one["time_to_first_token_ms"]["p50"] > 20.0
    assert one["inter_token_latency_ms"]["p50"] > 0.0
    assert one["client_latency_ms"]["p50"] > 20.0 + 19 * 2.0
    assert "p99" not in one["client_latency_ms"]
    assert one["price_per_million_output_tokens"] == pytest.approx(10.0)
    assert not any("tokenizer" in name for name in one)
    assert told["spent"]["usd"] == pytest.approx(43 * (64 * 1 + 20 * 10) * 1e-6)
    page = (tmp_path / "out.html").read_text()
    assert "<svg" in page
    assert not re.search(r"<script|src=|@import|url\(", page)
    stored = tmp_path / "state" / "profiles"
    assert figures(stored / "vllm.json")["levels"] == told["levels"]
    lines = yaml.safe_load((stored / "vllm.yaml").read_text())
    (tmp_path / "policies" / "fleet.yaml").write_text(f"deployments:\n  - {vllm(double.url, **lines)}\n")
    assert set(lines["step_ms"]) == {"base", "per_sequence", "per_context_token", "per_prefill_token", "first"}
    assert "Spent" in await run(tmp_path, "vllm", "--requests", 1, "--concurrency", 1, status=1)


async def test_a_model_on_bedrock(tmp_path: Path) -> None:
    """Through the real SDK: what the double was set to is what is measured and billed."""
    speed = Speed(first_token_s=0.05, output_token_s=0.003)
    world = World({HAIKU: Model(HAIKU, speed=speed, prices=Prices(0.8, 4.0), answer_tokens=30)})
    async with aws_double(world) as double:
        bedrock = {"name": "haiku", "model": "haiku", "tier": "small", "backend": "bedrock", "target": HAIKU}
        price = {"price_usd_per_mtok": {"input": 0.8, "output": 4}}
        fleet(tmp_path, json.dumps({**bedrock, **price, "url": double.url, "region": "us-east-1"}))
        await run(tmp_path, "haiku", "--concurrency", "1,4", "--requests", 10, "--json", "out.json")
    told = figures(tmp_path / "out.json")
    assert told["spent"]["usd"] == pytest.approx(sum(bill.usd for bill in world.bills))
    assert len(world.bills) == 2 * 10 + 5
    assert world.drift == []
    one = told["levels"][0]
    assert one["time_to_first_token_ms"]["p50"] >= 50.0
    assert one["client_latency_ms"]["p50"] >= 50.0 + 29 * 3.0
    ours, theirs = yaml.safe_load(told["policy"])["step_ms"], told["step"]["step"]
    assert [ours["base"], ours["first"]] == pytest.approx([theirs["base_s"] * 1e3, theirs["first_s"] * 1e3], rel=1e-3)


async def test_throttles_are_counted_and_end_a_level(tmp_path: Path) -> None:
    """An account of six requests a minute: six answers, then a level that ends early and says why."""
    world = World({HAIKU: Model(HAIKU, quota=Quota(requests_per_min=6))})
    async with aws_double(world) as double:
        bedrock = {"name": "haiku", "model": "haiku", "tier": "small", "backend": "bedrock", "target": HAIKU}
        price = {"price_usd_per_mtok": {"input": 0.8, "output": 4}}
        fleet(tmp_path, json.dumps({**bedrock, **price, "url": double.url, "region": "us-east-1"}))
        said = await run(tmp_path, "haiku", "--concurrency", 4, "--requests", 40, "--json", "out.json")
    told = figures(tmp_path / "out.json")["levels"][0]
    assert 0 < told["errors"]["throttled"] < 40
    assert "failed, the last with throttled" in told["stopped"]
    assert "Too many requests" in said


async def test_an_endpoint_on_sagemaker_is_paid_by_the_hour(tmp_path: Path) -> None:
    """A token costs what the hour costs over the tokens that are made in one: less, the more users share it."""
    variant = Variant(speed=Speed(first_token_s=0.05, output_token_s=0.01), answer_tokens=20)
    world = World(endpoints={"llama": Endpoint("llama", variants=[variant])})
    async with aws_double(world) as double:
        told = {"name": "llama", "model": "m", "tier": "small", "backend": "sagemaker", "target": "llama"}
        price = {"price_usd_per_mtok": {"input": 0, "output": 0}, "hourly_usd": 7.09}
        fleet(tmp_path, json.dumps({**told, **price, "url": double.url, "region": "us-east-1"}))
        await run(tmp_path, "llama", "--concurrency", "1,8", "--requests", 16, "--json", "out.json")
    alone, shared = figures(tmp_path / "out.json")["levels"]
    assert alone["client_invocation_errors"] == shared["client_invocation_errors"] == 0
    for level in (alone, shared):
        per_hour = level["output_tokens_per_sec"] * 3600.0
        assert level["price_per_million_output_tokens"] == pytest.approx(7.09 / per_hour * 1e6, rel=1e-3)


async def test_ctrl_c_shows_what_there_is(tmp_path: Path) -> None:
    """Figures of the calls that had ended, a note, what was spent, and status 130."""
    script = Script(first_token_s=0.01, gap_s=0.001)
    async with openai_server(script) as double:
        fleet(tmp_path, vllm(double.url))
        process = await start(tmp_path, "vllm", "--concurrency", "2", "--requests", 100_000, "--json", "out.json")
        while script.served < 20:
            await asyncio.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said, complained = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 130, (said + complained).decode()
    assert b"cut off" in said
    assert b"Spent USD" in said
    assert figures(tmp_path / "out.json")["levels"][0]["client_invocations"] > 0


async def test_money_bounds_it(tmp_path: Path) -> None:
    """A cent is not passed, and it says what was spent of it."""
    async with openai_server() as double:
        fleet(tmp_path, vllm(double.url))
        said = await run(tmp_path, "vllm", "--requests", 10_000, "--max-usd", 0.01, "--json", "out.json")
    told = figures(tmp_path / "out.json")
    assert 0.0 < told["spent"]["usd"] <= 0.01
    assert "of at most 0.01" in said


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """Errors by their code, with what they say; no figure is made up, and the status is 1."""
    fleet(tmp_path, vllm(f"http://127.0.0.1:{free_port()}/v1"))
    said = await run(tmp_path, "vllm", "--concurrency", 1, "--report", "out.html", status=1)
    assert "unreachable" in said
    assert "No call went well" in (tmp_path / "out.html").read_text()


async def test_a_server_that_forbids(tmp_path: Path) -> None:
    """What it says of why stands below the table."""
    script = Script(refuse=Refusal(401, code="invalid_api_key", message="no such key"))
    async with openai_server(script) as double:
        fleet(tmp_path, vllm(double.url))
        said = await run(tmp_path, "vllm", "--concurrency", 1, status=1)
    assert "no such key" in said
