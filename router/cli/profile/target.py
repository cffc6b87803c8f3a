"""What is called and what is asked: the deployment, its backend, and the prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from router.backends.aws.kinds import AWS_BACKENDS
from router.backends.openai_http import OpenAIHttpBackend
from router.backends.simulated import SimulatedAnswer, SimulatedBackend
from router.backends.simulated_like import fleet_like
from router.domain.deployment import Deployment, Kind
from router.domain.errors import PolicyError, RequestError, RouterError
from router.domain.request import Request
from router.policy.policy import Policy
from router.ports.backend import Backend
from router.wire.openai import read_body

_ENDLESS = 1 << 20
_MOST_LEVELS, _MOST_USERS = 32, 4096


class _Obedient:
    """A simulated model that goes on until it is stopped, as prompts of a load test ask for."""

    def answer(self, request: Request, model: str) -> SimulatedAnswer:
        """As many tokens as are allowed."""
        return SimulatedAnswer(_ENDLESS)


def find_deployment(policy: Policy, name: str) -> Deployment:
    """By its name, or the first copy of a group; `PolicyError` says which there are."""
    found = next((d for d in policy.deployments if name in (d.name, d.group)), None)
    if found is None:
        names = [str(d.name) for d in policy.deployments]
        close = get_close_matches(name, names, 1)
        meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
        raise PolicyError(f"no deployment is called {name}; {meant}")
    if found.kind is Kind.JOB:
        raise PolicyError(f"{name} makes batch jobs, which take hours: profile the same model on demand instead")
    return found


def backend_of(deployment: Deployment) -> Backend:
    """The deployment's own backend; simulated servers where it is simulated."""

    def simulated() -> Backend:
        fleet = fleet_like([deployment])
        assert fleet is not None
        return SimulatedBackend(fleet, _Obedient(), origin_s=asyncio.get_running_loop().time(), piece_tokens=1)

    makers: Mapping[str, Callable[[], Backend]] = {
        "openai_http": OpenAIHttpBackend,
        "simulated": simulated,
        **AWS_BACKENDS,
    }
    return makers[deployment.address.backend]()


def levels_of(text: str, deployment: Deployment) -> tuple[int, ...]:
    """Users at once, in order and each once; `RouterError` where it is no list of them."""
    try:
        levels = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise RouterError(f"--concurrency {text}: write numbers such as 1,2,4,8") from None
    if levels[0] < 1 or levels[-1] > _MOST_USERS or len(levels) > _MOST_LEVELS:
        raise RouterError(f"--concurrency {text}: up to {_MOST_LEVELS} numbers from 1 to {_MOST_USERS}")
    if deployment.kind is Kind.BATCH and levels[-1] > deployment.max_items:
        most = f"{deployment.name} takes batches of {deployment.max_items} items at most (max_items)"
        raise RouterError(f"--concurrency {text}: {most}")
    return tuple(levels)


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """Chat-completions bodies, one a line; `RouterError` with file and line where one cannot be used."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise RouterError(f"{path}: {error.strerror}") from None
    bodies = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            bodies.append(_body(line, f"{path}:{number}"))
    if not bodies:
        raise RouterError(f'{path}: there is no prompt in it; write lines such as {{"prompt": "Say hello."}}')
    return bodies


def _body(line: bytes, where: str) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise RouterError(f"{where}: not a JSON object: {error}") from None
    prompt = body.pop("prompt", None)
    if isinstance(prompt, str):
        body["messages"] = [{"role": "user", "content": prompt}]
    for ours in ("model", "stream", "stream_options"):
        body.pop(ours, None)
    try:
        read_body(msgspec.json.encode(body))
    except RequestError as error:
        raise RouterError(f"{where}: {error}") from None
    return body
