"""A whole router with provisioned throughput on the double: while it does not serve, others do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from router.backends.aws.control.clients import ControlClients
from router.backends.aws.control.provisioned import Order, create
from router.domain.deployment import Address
from router.doubles.aws.server import AwsDouble, aws_double
from router.doubles.aws.world import World
from router.runtime.reload import load_to_serve
from router.settings import HttpSettings, Settings
from router.wiring import House

MODEL = "anthropic.claude-3-haiku-20240307-v1:0"
WAIT_S = 60.0
POLICY = """\
deployments:
  - {{name: floor, model: haiku, tier: small, kind: provisioned, backend: bedrock, target: "{arn}", url: "{url}",
     region: us-east-1, hourly_usd: 20}}
  - {{name: spill, model: haiku, tier: small, backend: bedrock, target: "{model}", url: "{url}", region: us-east-1}}
prices: {{models: {{haiku: {{input: 0.25, output: 1.25}}}}}}
class: {{name: all}}
"""


@pytest.fixture
async def double(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AwsDouble]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "double")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "double")
    async with aws_double(World(provisioning_s=3600.0)) as running:
        yield running


async def serving(house: House) -> str:
    """Which deployment answers a request."""
    url = f"http://127.0.0.1:{house.http.port}/v1/chat/completions"
    body = {"messages": [{"role": "user", "content": "hello"}]}
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        text = await response.text()
        assert response.status == 200, text
        return response.headers["x-router-deployment"]


async def metrics(house: House) -> str:
    """The page that Prometheus reads."""
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{house.http.port}/metrics") as page:
        return await page.text()


async def test_units_that_are_being_created_get_no_calls_and_get_them_once_they_serve(
    double: AwsDouble, tmp_path: Path
) -> None:
    """The status of AWS takes a deployment out of routing and lets it in; the metrics show both."""
    clients = ControlClients(endpoint_url=double.url)
    bedrock = await clients.client("bedrock", Address("bedrock", "", region="us-east-1"))
    arn = await create(bedrock, Order("floor", MODEL, 1, "token"))
    await clients.close()
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "p.yaml").write_text(POLICY.format(arn=arn, url=double.url, model=MODEL))
    settings = Settings(policies=policies, state_dir=tmp_path / "state", http=HttpSettings(port=0), seed=1)
    house = House(settings, load_to_serve(policies))
    ready = asyncio.Event()
    task = asyncio.create_task(house.run(ready.set))
    await asyncio.wait_for(ready.wait(), WAIT_S)
    try:
        await house.aws.look(house.controller, house.sink.emit)
        assert [await serving(house) for _ in range(3)] == ["spill"] * 3
        house.sink.drain_all()
        assert 'router_provisioned_status{deployment="floor",status="Creating"} 1.0' in await metrics(house)
        double.world.provisioned[arn].status = "InService"
        await house.aws.look(house.controller, house.sink.emit)
        assert "floor" in [await serving(house) for _ in range(3)]
        house.sink.drain_all()
        assert 'router_provisioned_status{deployment="floor",status="InService"} 1.0' in await metrics(house)
    finally:
        house.daemon.stop()
        await asyncio.wait_for(task, WAIT_S)
