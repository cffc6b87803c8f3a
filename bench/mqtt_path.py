"""What the queue path carries: `python -m bench.mqtt_path`. Ratios travel, absolute figures do not.

A real broker (mosquitto where it is installed, else the embedded one in a process of its own), `router serve` with its
journal on, a trivial upstream, and a producer that keeps a number of requests in flight at QoS 1. The router has core 0
to itself; broker, upstream and producer share core 1. The same producer against an echo client on the broker, in the
same run, shows what broker and producer alone would allow.

    python -m bench.mqtt_path
    python -m bench.mqtt_path --seconds 10 --in-flight 64 --json out.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from mqtt5 import PublishPacket

from bench.http_path import LOAD_CORE, ROUTER_CORE, chat, cpu_s, pin, policy, process, run, upstream, wait_until_ready
from bench.ports import free_port
from router.doubles.mqtt_broker import Broker, RawClient

MOSQUITTO = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
CONFIGURATION = """
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_queued_messages 0
max_inflight_messages 0
"""


@contextmanager
def broker(folder: str) -> Iterator[str]:
    """A broker's URL."""
    port = free_port()
    if MOSQUITTO is None:
        command = [sys.executable, "-m", "bench.mqtt_path", "--as-broker", str(port)]
    else:
        configuration = Path(folder, "mosquitto.conf")
        configuration.write_text(CONFIGURATION.format(port=port), "utf-8")
        command = [MOSQUITTO, "-c", str(configuration)]
    with process(LOAD_CORE, command):
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"mqtt://127.0.0.1:{port}"


@contextmanager
def router(command: list[str], broker_url: str, upstream_url: str, folder: str) -> Iterator[int]:
    """`router serve` on the broker; its process id."""
    port = free_port()
    policies = Path(folder, "policies")
    policies.mkdir()
    policies.joinpath("bench.yaml").write_text(policy(upstream_url, 4), "utf-8")
    environment = {
        "ROUTER_MQTT__URL": broker_url,
        "ROUTER_MQTT__CLIENT_ID": "bench-router",
        "ROUTER_HTTP__PORT": str(port),
        "ROUTER_POLICIES": str(policies),
        "ROUTER_STATE_DIR": str(Path(folder, "state")),
        "ROUTER_LOG__LEVEL": "warning",
    }
    with process(ROUTER_CORE, command, **environment) as child:
        wait_until_ready(f"http://127.0.0.1:{port}", child)
        yield child.pid


class Producer:
    """Keeps `in_flight` requests open for a while and times each reply."""

    REPLIES = "bench/replies"

    def __init__(self, client: RawClient, topic: str, in_flight: int) -> None:
        self._client, self._topic, self._in_flight = client, topic, in_flight
        self._body = chat(stream=False)
        self._sent: dict[bytes, float] = {}
        self._number = 0
        self._run = time.time_ns()
        self.latencies_s: list[float] = []
        self.failed = 0

    async def run(self, seconds: float) -> float:
        """Requests answered a second."""
        started = time.perf_counter()
        for _ in range(self._in_flight):
            self._ask()
        while self._sent:
            packet = await self._client.receive()
            if isinstance(packet, PublishPacket):
                self._client.acknowledge([packet])
                if self._is_answer(packet) and time.perf_counter() - started < seconds:
                    self._ask()
        return len(self.latencies_s) / (time.perf_counter() - started)

    def _ask(self) -> None:
        self._number += 1
        correlation = b"%d" % self._number
        self._sent[correlation] = time.perf_counter()
        self._client.publish(
            self._topic,
            self._body,
            qos=1,
            response_topic=self.REPLIES,
            correlation_data=correlation,
            user_properties=[("request-id", f"bench-{self._run}-{self._number}")],
        )

    def _is_answer(self, packet: PublishPacket) -> bool:
        asked = self._sent.pop(packet.correlation_data or b"", None)
        if asked is None:
            return False
        self.latencies_s.append(time.perf_counter() - asked)
        self.failed += packet.payload.startswith(b'{"error"')
        return True

    def figures(self, per_s: float) -> dict[str, float]:
        """Rate and latency quantiles."""
        ordered = sorted(self.latencies_s)
        at = {
            name: round(ordered[int(q * (len(ordered) - 1))] * 1e3, 2)
            for name, q in (("p50_ms", 0.5), ("p99_ms", 0.99))
        }
        return {"per_s": round(per_s), **at, "failed": self.failed}


async def echo(port: int, topic: str, ready: asyncio.Event) -> None:
    """Answers each request with its own payload: what broker and producer alone would carry."""
    client = await RawClient.connected(port, "bench-echo")
    await client.subscribe(f"$share/bench/{topic}")
    ready.set()
    try:
        while True:
            packet = await client.receive()
            if isinstance(packet, PublishPacket):
                client.acknowledge([packet])
                client.publish(
                    packet.response_topic or "", packet.payload, qos=1, correlation_data=packet.correlation_data
                )
    finally:
        await client.close()


async def measure(url: str, topic: str, in_flight: int, seconds: float) -> dict[str, float]:
    port = urlsplit(url).port
    assert port is not None
    client = await RawClient.connected(port, "bench-producer", receive_max=65_535)
    await client.subscribe(Producer.REPLIES)
    producer = Producer(client, topic, in_flight)
    per_s = await producer.run(seconds)
    await client.close()
    return producer.figures(per_s)


async def measure_echo(url: str, in_flight: int, seconds: float) -> dict[str, float]:
    ready, port = asyncio.Event(), urlsplit(url).port
    assert port is not None
    task = asyncio.create_task(echo(port, "bench/echo", ready))
    await ready.wait()
    found = await measure(url, "bench/echo", in_flight, seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return found


async def serve_broker(port: int) -> None:
    async with Broker(port=port):
        await asyncio.Event().wait()


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--command", default=f"{sys.executable} -m router serve", help="how to start the router")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--as-broker", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.as_broker:
        run(serve_broker(args.as_broker))
        return
    with tempfile.TemporaryDirectory() as folder, broker(folder) as url, upstream(None) as direct:
        pin(LOAD_CORE)
        bare = run(measure_echo(url, args.in_flight, args.seconds))
        with router(args.command.split(), url, direct, folder) as pid:
            run(measure(url, "router/requests/bench", args.in_flight, 1.0))
            before = cpu_s(pid)
            routed = run(measure(url, "router/requests/bench", args.in_flight, args.seconds))
            after = cpu_s(pid)
    if before is not None and after is not None:
        routed["router_cpu_s_per_1000"] = round((after - before) / (routed["per_s"] * args.seconds) * 1000, 3)
    results = {"echo": bare, "router": routed}
    for name, row in results.items():
        print(f"{name:8s}", "  ".join(f"{key}={value}" for key, value in row.items()))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1), "utf-8")


if __name__ == "__main__":
    main()
