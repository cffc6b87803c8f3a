"""Models on Amazon Bedrock, through its runtime: Converse, or InvokeModel for models that Converse does not take.

The deployment's `target` is whatever the operations take as `modelId`: a model for on-demand capacity, an inference
profile (of AWS or of the account's own), a prompt router, or the ARN of provisioned throughput. Its lane goes out as
the service tier; its `aws` terms say the rest (see `router.domain.aws.terms`). How clients come by their credentials is
in `router.backends.aws.sessions`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import closing
from types import TracebackType
from typing import Any

import aioboto3

from router.backends.aws.counting import fit
from router.backends.aws.errors import backend_error
from router.backends.aws.sessions import Clients
from router.domain.errors import BackendError, ProtocolError, TimedOut
from router.domain.outcome import Attempt, Delta
from router.wire.aws.bedrock_response import Malformed
from router.wire.aws.exchange import Exchange, exchange_for

_SERVICE = "bedrock-runtime"


class BedrockBackend:
    """Calls the runtime. `max_connections` is of one client: a region, a role and an endpoint."""

    def __init__(self, session: aioboto3.Session | None = None, *, max_connections: int = 4096) -> None:
        self._clients = Clients(session, max_connections=max_connections)

    async def open(self, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        """Start the call and stream its answer."""
        address = attempt.deployment.address
        exchange = exchange_for(attempt)
        bounded = _Bounded(attempt, exchange)
        async with bounded:
            client = await self._clients.client(_SERVICE, address)
            if address.aws is not None and address.aws.count_tokens:
                await fit(client, attempt, exchange)
        if not attempt.stream:
            async with bounded:
                response, body = await _whole(client, exchange)
            try:
                yield exchange.whole(response, body)
            except Malformed as error:
                yield Delta(usage=error.usage)
                raise
            return
        arguments = exchange.arguments()
        async with bounded:
            response = await getattr(client, exchange.stream_operation)(**arguments)
        with closing(response[exchange.events]) as stream:
            yield Delta()
            events = aiter(stream)
            while True:
                async with bounded:
                    event = await anext(events, None)
                if event is None:
                    break
                for delta in exchange.read(event, response):
                    yield delta
        if not exchange.ended:
            raise ProtocolError("the stream ended without a stop reason that an answer can have")

    def forget(self, files: Collection[str]) -> None:
        """These certificate authorities are others now."""
        self._clients.forget(files)

    async def close(self) -> None:
        """Free connections; called once at shutdown."""
        await self._clients.close()


async def _whole(client: Any, exchange: Exchange) -> tuple[dict[str, Any], bytes]:
    """The response, and its body where that is passed through."""
    response = await getattr(client, exchange.operation)(**exchange.arguments())
    if "body" not in response:
        return response, b""
    async with response["body"] as body:
        return response, await body.read()


class _Bounded:
    """Waits for the SDK, one after another: each ends by the deadline, and raises nothing but `BackendError`."""

    __slots__ = ("_exchange", "_limit", "_until")

    def __init__(self, attempt: Attempt, exchange: Exchange) -> None:
        self._until = attempt.deadline
        self._exchange = exchange

    async def __aenter__(self) -> None:
        self._limit = asyncio.timeout_at(self._until)
        await self._limit.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError:
            raise TimedOut("the deadline passed during the call", code="timeout_deadline") from error
        if isinstance(error, Exception) and not isinstance(error, BackendError):
            raise backend_error(error, begun=self._exchange.begun) from error
