"""`router demo`: the daemon at work on one machine, with nothing to install first."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from router.demo.producer import Producer
from router.demo.truth import DemoTruth
from router.demo.view import View
from router.domain.errors import PolicyError
from router.doubles.mqtt_broker import Broker
from router.policy.policy import Policy
from router.runtime.reload import load_directory
from router.settings import HttpSettings, LogLevel, LogSettings, MqttSettings, Settings
from router.wiring import House

_POLL_S = 0.02
_STATE_HELP = "Where to keep journal, checkpoint and decision log; else a temporary directory."


def demo(
    for_: Annotated[float | None, typer.Option("--for", min=1, help="End after so many seconds.")] = None,
    rate: Annotated[float, typer.Option(min=0.1, max=200, help="Mean requests a second.")] = 12.0,
    policies: Annotated[Path, typer.Option(help="Policy directory; edit it while the demo runs.")] = Path("policies"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="HTTP port; a free one is taken if it is in use.")] = 8080,
    seed: Annotated[int, typer.Option(help="Seed of the stream of requests.")] = 0,
    state_dir: Annotated[Path | None, typer.Option(help=_STATE_HELP)] = None,
) -> None:
    """Run the real daemon with an embedded MQTT broker, simulated models and a producer of mixed requests.

    Requests and replies cross a TCP socket, as in production; only the broker and the models are embedded.

    Examples:

        router demo

        router demo --for 30 --rate 20

    While it runs, in another terminal: curl localhost:8080/metrics, or any OpenAI client on http://localhost:8080/v1
    """
    policy = load_directory(policies)
    _only_simulated(policy)
    with tempfile.TemporaryDirectory(prefix="router-demo-") as scratch:
        asyncio.run(_demo(policy, policies, state_dir or Path(scratch), for_, rate, _free(port), seed))


def _only_simulated(policy: Policy) -> None:
    """A demo must not call, or pay, a real model."""
    real = [d.name for d in policy.deployments if d.address.backend != "simulated"]
    if real:
        raise PolicyError(f"the demo needs a fleet that is simulated, and these are not: {', '.join(real)}")


def _free(port: int) -> int:
    """The port, or 0 where something listens on it."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return 0 if probe.connect_ex(("127.0.0.1", port)) == 0 else port


async def _demo(
    policy: Policy, policies: Path, state_dir: Path, for_s: float | None, rate: float, port: int, seed: int
) -> None:
    console = Console()
    truth = DemoTruth()
    view = View(console, hourly_usd=sum(d.price.hourly_usd for d in policy.deployments))
    async with Broker() as broker:
        settings = Settings(
            mqtt=MqttSettings(url=broker.url, client_id="router-demo"),
            http=HttpSettings(port=port),
            log=LogSettings(level=LogLevel.WARNING),
            policies=policies,
            state_dir=state_dir,
            seed=seed,
        )
        house = House(settings, policy, truth=truth, subscribers=[view])
        producer = Producer(broker.url, truth, per_s=rate, seed=seed)
        ready = asyncio.Event()
        running = asyncio.create_task(house.run(ready.set))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        while not (running.done() or house.dispatcher.is_ready()[0]):  # noqa: ASYNC110  # no one tells when it is
            await asyncio.sleep(_POLL_S)  # a broker drops what is published before anybody subscribes
        if running.done():
            waiting.cancel()
            await running
        console.print(
            f"broker {broker.url} (embedded, not for production), HTTP http://127.0.0.1:{house.http.port}/v1, "
            f"metrics http://127.0.0.1:{house.http.port}/metrics, policies {policies}/"
        )
        showing = asyncio.create_task(view.run())
        producing = asyncio.create_task(producer.run(for_s))
        await asyncio.wait({producing, running}, return_when=asyncio.FIRST_COMPLETED)
        producing.cancel()
        house.daemon.stop()
        await asyncio.gather(producing, running, return_exceptions=True)
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)
    console.print(view.summary())
    console.print(
        f"producer: sent {producer.tally.sent}, answered {producer.tally.answered}, "
        f"errors {producer.tally.errors.total()}, unanswered {producer.tally.timeouts}"
        + (f", not waited for {producer.open}: sent as the router was stopping" if producer.open else "")
    )
