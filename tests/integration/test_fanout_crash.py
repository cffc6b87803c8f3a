"""A router killed with -9 in the middle of a request in parts: its successor pays for the missing part only."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import mqtt5

from router.doubles.mqtt_broker import Broker, RawClient

ROOT = Path(__file__).parents[2]
WAIT_S = 180.0
"""Two processes start in it."""
CHILD = """
import asyncio, json, os, signal, sys
from pathlib import Path
from router.domain.outcome import Delta, Usage
from router.ingress.mqtt import MqttIngress, MqttOptions
from router.storage.journal import SqliteJournal
from router.storage.kept_parts import SqliteParts
from router.wire.openai import delta_choices
from tests.regressions.house import House

url, folder, life = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
calls = os.open(folder / "calls", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
parts = SqliteParts(folder / "parts.sqlite")

async def answer(attempt):
    question = attempt.request.prompt.last_user
    os.write(calls, json.dumps([life, question]).encode() + b"\\n")
    if question == "fatal" and life == "first":
        while len(await parts.recall("default\\0r1")) < 2:
            await asyncio.sleep(0.005)
        os.kill(os.getpid(), signal.SIGKILL)
    yield Delta(delta_choices(f"<{question} {life}>", role=True), 3)
    yield Delta(delta_choices(finish_reason="stop"), 0, "stop", Usage(100, 50))

async def main():
    house = House()
    house.backend.scripts = {"small": answer, "large": answer}
    house.dispatcher.fanout.store = parts
    options = MqttOptions(url=url, client_id="router", backoff_min_s=0.02, backoff_max_s=0.1)
    ingress = MqttIngress(options, house.dispatcher, SqliteJournal(folder / "journal.sqlite"), house)
    running = asyncio.create_task(ingress.run())
    while not ingress.is_connected:
        await asyncio.sleep(0.005)
    (folder / life).touch()
    await running

asyncio.run(main())
"""


async def _life(broker: Broker, folder: Path, name: str) -> asyncio.subprocess.Process:
    url = f"mqtt://127.0.0.1:{broker.port}"
    return await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, url, str(folder), name, cwd=ROOT)


async def _reply(client: RawClient) -> mqtt5.PublishPacket:
    while True:
        packet = await client.receive()
        if isinstance(packet, mqtt5.PublishPacket):
            client.acknowledge([packet])
            return packet


async def test_finished_parts_outlive_a_kill(tmp_path: Path) -> None:
    """One reply, in order, of the answers of both lives; five calls for four parts, the fifth being the one cut off."""
    async with Broker() as broker, asyncio.timeout(WAIT_S):
        client = await RawClient.connected(broker.port, "producer", clean_start=True)
        await client.subscribe("replies/#")
        first = await _life(broker, tmp_path, "first")
        body = json.dumps({"subqueries": ["a", "fatal", "c"], "merge": "{{parts}}"}).encode()
        properties = [("request-id", "r1")]
        while not (tmp_path / "first").exists():  # a file tells nobody that it is there
            await asyncio.sleep(0.01)
        client.publish("router/requests/chat", body, qos=1, user_properties=properties, response_topic="replies/1")
        assert await first.wait() == -signal.SIGKILL
        second = await _life(broker, tmp_path, "second")
        reply = await _reply(client)
        second.terminate()
        await second.wait()
        await client.close()
    parts = [part["message"]["content"] for part in json.loads(reply.payload)["router"]["parts"]]
    assert parts == ["<a first>", "<fatal second>", "<c first>"]
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    assert sorted(asked for life, asked in calls if life == "first") == ["a", "c", "fatal"]
    assert [asked.split("\n")[0] for life, asked in calls if life == "second"] == ["fatal", "[part 0]"]
