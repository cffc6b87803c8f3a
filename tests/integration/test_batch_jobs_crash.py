"""A router that is killed with -9 while a batch job runs: `router serve`, MQTT, the AWS double, real seconds.

Requests come by MQTT with a day to answer, and are in a job when the process dies. Its successor must answer all of
them from that job, pay for it once, and make no second one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aioboto3
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bench.http_path import wait_until_ready
from bench.ports import free_port
from router.doubles.aws.models import Answer, Model, Prices
from router.doubles.aws.server import AwsDouble, aws_double
from router.doubles.aws.world import World
from router.doubles.mqtt_broker import Broker

MODEL = "anthropic.claude-3-haiku-20240307-v1:0"
NAMES = tuple(f"night-{number}" for number in range(6))
WAIT_S = 60.0
LOOK_S = 0.05
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
FLEET = """\
deployments:
  - name: jobs
    model: claude
    tier: small
    backend: bedrock
    kind: job
    target: {model}
    region: us-east-1
    url: {url}
    price_usd_per_mtok: {{input: 0.5, output: 2.5}}
    job: {{s3: "s3://jobs/router", role_arn: "arn:aws:iam::123456789012:role/batch", min_records: 6,
          collect_for: 1s, typical: 1h}}
  - {{name: now, model: claude, tier: small, backend: simulated, price_usd_per_mtok: {{input: 1, output: 5}}}}
class: {{name: nightly, goal: cost, deadline: 24h}}
"""


class Served:
    """`router serve` on one state directory, life after life."""

    def __init__(self, folder: Path, broker_port: int, aws_url: str) -> None:
        self._folder, self._port = folder, free_port()
        policies = folder / "policies"
        policies.mkdir()
        policies.joinpath("jobs.yaml").write_text(FLEET.format(model=MODEL, url=aws_url))
        self.url = f"http://127.0.0.1:{self._port}"
        self._environment = {
            **KEYS,
            "PATH": os.environ["PATH"],
            "AWS_ENDPOINT_URL_S3": aws_url,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "NO_PROXY": "127.0.0.1",
            "ROUTER_MQTT__URL": f"mqtt://127.0.0.1:{broker_port}",
            "ROUTER_MQTT__CLIENT_ID": "nightly",
            "ROUTER_HTTP__PORT": str(self._port),
            "ROUTER_POLICIES": str(policies),
            "ROUTER_STATE_DIR": str(folder / "state"),
        }

    async def start(self) -> None:
        command = [sys.executable, "-m", "router", "serve"]
        with (self._folder / "log").open("a") as log:
            self._child = subprocess.Popen(command, env=self._environment, stderr=log, text=True)
        await asyncio.to_thread(wait_until_ready, self.url, self._child)

    def kill(self) -> None:
        self._child.kill()
        assert self._child.wait(60) == -signal.SIGKILL

    async def stop(self) -> None:
        if self._child.poll() is None:
            self._child.terminate()
            await asyncio.to_thread(self._child.wait, 60)

    async def metric(self, name: str) -> float:
        """All series of a counter or gauge together."""

        def page() -> str:
            with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as answer:
                return str(answer.read().decode())

        text = await asyncio.to_thread(page)
        return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE))


class Sender:
    """Plain paho: asks under request ids, and gathers what is said to each."""

    def __init__(self, port: int) -> None:
        self.said: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "sender", protocol=paho.MQTTv5)
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port, clean_start=True)
        self._client.loop_start()
        self._client.subscribe("replies/sender", qos=1)

    def _on_message(self, _client: object, _data: object, message: Any) -> None:
        self.said[message.properties.CorrelationData.decode()].append(json.loads(message.payload))

    def ask(self) -> None:
        for name in NAMES:
            properties = Properties(PacketTypes.PUBLISH)
            properties.ResponseTopic = "replies/sender"
            properties.CorrelationData = name.encode()
            properties.UserProperty = [("request-id", name)]
            body = json.dumps({"messages": [{"role": "user", "content": f"Say {name}"}]}).encode()
            self._client.publish("router/requests/nightly", body, qos=1, properties=properties).wait_for_publish(WAIT_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def echo(call: Any) -> Answer:
    return Answer(pieces=(call.params["messages"][0]["content"][0]["text"],), input_tokens=1000, output_tokens=100)


async def until(what: Callable[[], bool]) -> None:
    """Wait for something that another process or thread does."""
    async with asyncio.timeout(WAIT_S):
        while not what():
            await asyncio.sleep(LOOK_S)


@pytest.fixture
async def aws(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AwsDouble]:
    """One model, jobs of half an hour until the test says otherwise, and a bucket."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    world = World()
    world.models = {MODEL: Model(MODEL, prices=Prices(1.0, 5.0), says=echo)}
    world.batch.min_records, world.batch.takes_s = len(NAMES), 1800.0
    async with aws_double(world, stores=True) as double:
        async with aioboto3.Session().client("s3", endpoint_url=double.url, region_name="us-east-1") as s3:
            await s3.create_bucket(Bucket="jobs")
        yield double
    assert world.drift == []


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    one = Broker()
    await one.start()
    yield one
    await one.stop()


def text(reply: dict[str, Any]) -> str:
    assert "choices" in reply, reply
    return str(reply["choices"][0]["message"]["content"])


def calls(aws: AwsDouble, operation: str) -> int:
    return sum(call.operation == operation for call in aws.world.calls)


async def test_killed_during_a_job_every_request_is_answered_by_it_and_paid_once(
    aws: AwsDouble, broker: Broker, tmp_path: Path
) -> None:
    """One job, one bill for each record, one reply to each sender, and the ledger of the second life says so."""
    served = Served(tmp_path, broker.port, aws.url)
    sender = await asyncio.to_thread(Sender, broker.port)
    try:
        await served.start()
        await asyncio.to_thread(sender.ask)
        await until(lambda: calls(aws, "GetModelInvocationJob") > 0)
        async with asyncio.timeout(WAIT_S):
            while await served.metric("router_batch_job_running_requests") != len(NAMES):
                await asyncio.sleep(LOOK_S)
        served.kill()
        assert list(aws.world.bills) == []
        aws.world.at = lambda: time.time() + 3600.0
        await served.start()
        await until(lambda: all(sender.said.values()))
        assert {name: [text(reply) for reply in replies] for name, replies in sender.said.items()} == {
            name: [f"Say {name}"] for name in NAMES
        }
        assert calls(aws, "CreateModelInvocationJob") == 1
        assert len(aws.world.bills) == len(NAMES)
        billed = sum(bill.usd for bill in aws.world.bills)
        async with asyncio.timeout(WAIT_S):
            while await served.metric("router_spend_usd_total") != pytest.approx(billed):
                await asyncio.sleep(LOOK_S)
    finally:
        with contextlib.suppress(AttributeError):
            await served.stop()
        await asyncio.to_thread(sender.close)
