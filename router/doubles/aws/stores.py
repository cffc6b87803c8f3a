"""S3, SQS and CloudWatch, by moto's server on a loopback port of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO

import aiohttp
from aiohttp import web

from router.domain.errors import SettingsError

STORES = frozenset({"s3", "sqs", "monitoring"})
"""Scopes of signatures that are passed on."""

_OF_THE_CONNECTION = frozenset(
    {"connection", "content-length", "transfer-encoding", "keep-alive", "expect", "server", "date"}
)


class Stores:
    """Moto at `url`, and a way to pass requests on to it."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self._http = http

    async def forward(self, request: web.BaseRequest) -> web.Response:
        """Moto's answer to this request."""
        headers = {name: text for name, text in request.headers.items() if name.lower() not in _OF_THE_CONNECTION}
        url = self.url + request.raw_path
        async with self._http.request(
            request.method, url, data=BytesIO(await request.read()), headers=headers
        ) as answer:
            kept = {name: text for name, text in answer.headers.items() if name.lower() not in _OF_THE_CONNECTION}
            if request.method == "HEAD":
                kept["Content-Length"] = answer.headers.get("Content-Length", "0")
            return web.Response(body=await answer.read(), status=answer.status, headers=kept)


@asynccontextmanager
async def stores_server() -> AsyncIterator[Stores]:
    """Moto's server in a thread of this process, emptied, until the block ends."""
    try:
        from moto.server import ThreadedMotoServer
    except ImportError:
        raise SettingsError(
            "S3, SQS and CloudWatch of the AWS double need moto: pip install 'adaptive-model-router[aws-double]'"
        ) from None
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    await asyncio.to_thread(moto.start)
    try:
        host, port = moto.get_host_and_port()
        async with aiohttp.ClientSession(auto_decompress=False) as http:
            async with http.post(f"http://{host}:{port}/moto-api/reset"):
                pass
            yield Stores(f"http://{host}:{port}", http)
    finally:
        await asyncio.to_thread(moto.stop)
