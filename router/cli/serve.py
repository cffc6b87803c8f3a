"""`router serve`: the daemon against a real broker and real models."""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from router.domain.errors import SettingsError
from router.runtime.reload import load_to_serve
from router.settings import check_to_serve, load_settings
from router.wiring import House

_ENV_FILE = Path(".env")
"""Read where it is there; any other must be."""
_SWITCH_S = 0.0002
_COLLECT = (20_000, 20, 100)


def serve(
    policies: Annotated[Path | None, typer.Option(help="Policy directory; else ROUTER_POLICIES or ./policies.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="HTTP port; else ROUTER_HTTP__PORT or 8080.")
    ] = None,
    env_file: Annotated[Path, typer.Option(help="File with settings, one ROUTER_NAME=value a line.")] = _ENV_FILE,
) -> None:
    """Run the daemon: HTTP always, MQTT where ROUTER_MQTT__URL names a broker.

    Settings come from the environment and from `.env`; policies say which models there are and what is promised.

    Examples:

        ROUTER_MQTT__URL=mqtt://localhost:1883 router serve

        ROUTER_HTTP__PORT=9000 ROUTER_POLICIES=/etc/router/policies router serve

    Then: curl localhost:8080/v1/chat/completions -d '{"messages": [{"role": "user", "content": "hello"}]}'

    SIGTERM ends it in order: nothing new is taken, what is in flight is answered, what was learned is saved.
    """
    if env_file != _ENV_FILE and not env_file.is_file():
        raise SettingsError(f"--env-file {env_file}: there is no such file")
    overrides: dict[str, Any] = {} if policies is None else {"policies": policies}
    settings = load_settings(env_file, **overrides)
    check_to_serve(settings, env_file)
    if port is not None:
        settings = settings.model_copy(update={"http": settings.http.model_copy(update={"port": port})})
    policy = load_to_serve(settings.policies)
    run(House(settings, policy))


def favour_latency() -> None:
    """A thread that writes a log may keep the interpreter for 5 ms by default, and a full collection walks everything
    that was ever loaded: both would be the slowest percent of all requests."""
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)


def run(house: House) -> None:
    """On uvloop where there is one."""
    favour_latency()
    try:
        import uvloop
    except ImportError:
        asyncio.run(house.run())
    else:
        uvloop.run(house.run())
