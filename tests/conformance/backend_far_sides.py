"""The kinds of backend that the conformance suite runs over, each with orders to its far side."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from bench.ports import free_port
from router.backends.openai_http import OpenAIHttpBackend
from router.backends.simulated import SimulatedAnswer, SimulatedBackend
from router.backends.simulated_fleet import DeploymentSpec, EventSpec, FleetSpec, StepMs, TokenPrices
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.outcome import Attempt, Delta, Usage
from router.domain.request import Request
from router.doubles import openai_answers
from router.doubles.openai_server import openai_server
from router.ports.backend import Backend

FOR_EVER_S = 1e6


class Far(ABC):
    """One backend, its far side, and orders to that far side; orders hold for every later call.

    `vacant` is a deployment at an address where nobody listens.
    """

    backend: Backend
    deployment: Deployment
    vacant: Deployment

    def needs_deadline(self) -> None:
        """Skip where the backend leaves the deadline to the runtime."""
        return

    @abstractmethod
    def answers(self, n: int) -> str:
        """Answer with n pieces; gives the text they make."""

    @abstractmethod
    def accounts(self, request: Request) -> Usage:
        """The usage that the far side reports for the answer ordered last."""

    @abstractmethod
    def throttles(self) -> float:
        """Refuse for exceeding the rate; gives the seconds that the refusal says to wait."""

    @abstractmethod
    def is_busy(self) -> None:
        """Refuse for lack of capacity."""

    @abstractmethod
    def refuses(self) -> None:
        """Refuse for what is asked."""

    @abstractmethod
    def breaks(self, after: int) -> None:
        """Break off after so many pieces."""

    @abstractmethod
    def garbles(self, after: int) -> None:
        """Send nonsense after so many pieces."""

    @abstractmethod
    def hangs(self, after: int) -> None:
        """Fall silent after so many pieces, until the caller leaves."""

    @abstractmethod
    def recovers(self) -> None:
        """Do none of the above any more."""

    @abstractmethod
    def calls(self) -> int:
        """Calls that have come."""

    @abstractmethod
    def serving(self) -> int:
        """Calls being answered now."""


class OpenAIFar(Far):
    """`openai_http` against the double on a loopback port."""

    def __init__(self, script: openai_answers.Script, url: str) -> None:
        self.script = script
        self.script.gap_s = 0.0
        self.backend = OpenAIHttpBackend()
        self.deployment = _deployment(Address("openai_http", "test-model", url=url))
        self.vacant = _deployment(Address("openai_http", "test-model", url=_vacant_url()))

    def answers(self, n: int) -> str:
        pieces = _pieces(n)
        self.script.answer = openai_answers.Answer(pieces, input_tokens=16, output_tokens=n, cached_tokens=5)
        return "".join(pieces)

    def accounts(self, request: Request) -> Usage:
        return Usage(input_tokens=16, output_tokens=len(self.script.answer.pieces), cached_tokens=5)

    def throttles(self) -> float:
        self.script.refuse = openai_answers.Refusal(429, headers=(("retry-after", "7"),))
        return 7.0

    def is_busy(self) -> None:
        self.script.refuse = openai_answers.Refusal(503)

    def refuses(self) -> None:
        self.script.refuse = openai_answers.Refusal(400, type="invalid_request_error")

    def breaks(self, after: int) -> None:
        self.script.breaks = openai_answers.Break(openai_answers.How.CUT, after)

    def garbles(self, after: int) -> None:
        self.script.breaks = openai_answers.Break(openai_answers.How.GARBAGE, after)

    def hangs(self, after: int) -> None:
        self.script.breaks = openai_answers.Break(openai_answers.How.HANG, after)

    def recovers(self) -> None:
        self.script.refuse = self.script.breaks = None

    def calls(self) -> int:
        return len(self.script.calls)

    def serving(self) -> int:
        return self.script.serving


class SimulatedFar(Far):
    """`simulated` in real seconds: an order is a new server whose fate is known; its clock starts at its first call."""

    _QUICK_MS = 0.01
    _SLOW_MS = 300.0
    """Step of a server that something happens to in the middle between two pieces."""

    def __init__(self) -> None:
        self.started = 0
        self.ended = 0
        self.tokens = 1
        self.deployment = _deployment(Address("simulated", "test-model"))
        self.vacant = _deployment(Address("simulated", "test-model"), name="nobody")
        self.backend = self
        self._serve(())

    def _serve(self, events: tuple[EventSpec, ...], *, step_ms: float = _QUICK_MS, kv_tokens: int = 10_000) -> None:
        spec = DeploymentSpec(
            name="one",
            model="test-model",
            tier=Tier.SMALL,
            price_usd_per_mtok=TokenPrices(1.0, 2.0),
            step_ms=StepMs(step_ms),
            kv_tokens=kv_tokens,
        )
        self._fleet = FleetSpec((spec,), events)
        self._server: SimulatedBackend | None = None

    def open(self, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        """Call the server that was ordered last."""
        if self._server is None:
            now = asyncio.get_running_loop().time()
            self._server = SimulatedBackend(self._fleet, self, origin_s=now, piece_tokens=1, on_bill=self._bill)
        return self._server.open(attempt)

    async def close(self) -> None:
        """Stop it."""
        if self._server is not None:
            await self._server.close()

    def answer(self, request: Request, model: str) -> SimulatedAnswer:
        self.started += 1
        return SimulatedAnswer(self.tokens, "".join(_pieces(self.tokens)))

    def _bill(self, attempt: Attempt, usd: float) -> None:
        self.ended += 1

    def answers(self, n: int) -> str:
        self.tokens = n
        return "".join(_pieces(n))

    def accounts(self, request: Request) -> Usage:
        return Usage(input_tokens=request.input_tokens, output_tokens=self.tokens)

    def needs_deadline(self) -> None:
        pytest.skip("simulated calls are ended by the runtime's own timeout")

    def throttles(self) -> float:
        self._serve((EventSpec(0, FOR_EVER_S, "one", throttle_ratio=1.0),))
        return 1.0

    def is_busy(self) -> None:
        pytest.skip("a simulated server queues without bound")

    def refuses(self) -> None:
        self._serve((), kv_tokens=1)

    def breaks(self, after: int) -> None:
        self._serve((EventSpec(self._moment(after), FOR_EVER_S, "one", down=True),), step_ms=self._SLOW_MS)

    def garbles(self, after: int) -> None:
        pytest.skip("a simulated server has no bytes to garble")

    def hangs(self, after: int) -> None:
        self._serve((EventSpec(self._moment(after), FOR_EVER_S, "one", slowdown=1e6),), step_ms=self._SLOW_MS)

    def _moment(self, after: int) -> float:
        return (after + 0.5) * self._SLOW_MS / 1000 if after else 0.0

    def recovers(self) -> None:
        self._serve(())

    def calls(self) -> int:
        return self.started

    def serving(self) -> int:
        return self.started - self.ended


@asynccontextmanager
async def _openai_http() -> AsyncIterator[Far]:
    async with openai_server() as double:
        yield OpenAIFar(double.script, double.url)


@asynccontextmanager
async def _simulated() -> AsyncIterator[Far]:
    yield SimulatedFar()


FAR_SIDES: dict[str, Callable[[], AbstractAsyncContextManager[Far]]] = {
    "openai_http": _openai_http,
    "simulated": _simulated,
}


def _pieces(n: int) -> tuple[str, ...]:
    return tuple(f"wörd{i} " for i in range(n))


def _deployment(address: Address, *, name: str = "one") -> Deployment:
    return Deployment(
        name=DeploymentName(name),
        group=name,
        model="test-model",
        tier=Tier.SMALL,
        kind=Kind.CONTINUOUS,
        address=address,
        price=Price(1.0, 2.0),
    )


def _vacant_url() -> str:
    """An address where nobody listens."""
    return f"http://127.0.0.1:{free_port()}"
