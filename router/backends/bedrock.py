"""Models on Amazon Bedrock, through the Converse API of its runtime.

The deployment's `target` is whatever Converse takes as `modelId`: a model for on-demand capacity, an
inference profile, a prompt router, or the ARN of provisioned throughput. Credentials come by the usual AWS
chain. The SDK's retries are off and its time-outs are only a net under the attempt's deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig

from router.backends.bedrock_errors import backend_error
from router.domain.deployment import Address
from router.domain.errors import ProtocolError, Refused, RequestError, TimedOut
from router.domain.outcome import Attempt, Delta
from router.wire.bedrock import Json, converse_request
from router.wire.bedrock_response import ConverseReader, read_converse
from router.wire.openai import read_body

_CONNECT_S = 5.0
_SILENCE_S = 3600.0
"""Longest silence when the attempt has no deadline; a model that reasons can think for much of it."""


class BedrockBackend:
    """Calls Converse and ConverseStream. One client, with its connection pool, per region and endpoint.

    `max_connections` must stand above the sum of the concurrency limits of a client's deployments, or calls
    would wait for a connection unseen.
    """

    def __init__(self, session: aioboto3.Session | None = None, *, max_connections: int = 4096) -> None:
        self._session = session if session is not None else aioboto3.Session()
        self._config = AioConfig(
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=max_connections,
            connect_timeout=_CONNECT_S,
            read_timeout=_SILENCE_S,
        )
        self._clients: dict[tuple[str | None, str | None, str | None], Any] = {}
        self._opening = asyncio.Lock()
        self._open_clients = AsyncExitStack()

    async def open(self, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        """Start the call and stream its answer."""
        call = _converse_arguments(attempt)
        reader = ConverseReader()
        async with _bounded(attempt, reader):
            client = await self._client(attempt.deployment.address)
        if not attempt.stream:
            async with _bounded(attempt, reader):
                response = await client.converse(**call)
            yield read_converse(response)
            return
        async with _bounded(attempt, reader):
            response = await client.converse_stream(**call)
        with closing(response["stream"]) as stream:
            yield Delta()
            events = aiter(stream)
            while True:
                async with _bounded(attempt, reader):
                    event = await anext(events, None)
                if event is None:
                    break
                delta = reader.read(event)
                if delta is not None:
                    yield delta
        if not reader.ended:
            raise ProtocolError("the stream ended without a stop reason")

    def forget(self, files: Collection[str]) -> None:
        """These certificate authorities are others now: make new clients. Calls under way end on the old ones."""
        self._clients = {key: client for key, client in self._clients.items() if key[2] not in files}

    async def close(self) -> None:
        """Free connections; called once at shutdown."""
        self._clients.clear()
        await self._open_clients.aclose()

    async def _client(self, address: Address) -> Any:
        """The kept client for this region and endpoint; making one costs about 0.1 s, once."""
        key = (address.region, address.url, address.ca_file)
        if key in self._clients:
            return self._clients[key]
        async with self._opening:
            if key not in self._clients:
                client = self._session.client(
                    "bedrock-runtime",
                    region_name=address.region,
                    endpoint_url=address.url,
                    verify=address.ca_file,
                    config=self._config,
                )
                self._clients[key] = await self._open_clients.enter_async_context(client)
        return self._clients[key]


def _converse_arguments(attempt: Attempt) -> Json:
    try:
        return converse_request(read_body(attempt.request.payload), attempt)
    except RequestError as error:
        raise Refused(error.message, code=error.code, param=error.param) from error


@asynccontextmanager
async def _bounded(attempt: Attempt, reader: ConverseReader) -> AsyncIterator[None]:
    """One wait for the SDK: ends by the deadline, and raises nothing but `BackendError`."""
    try:
        async with asyncio.timeout_at(attempt.deadline) as limit:
            yield
    except Exception as error:
        if limit.expired():
            raise TimedOut("the deadline passed during the call", code="timeout_deadline") from error
        raise backend_error(error, begun=reader.begun) from error
