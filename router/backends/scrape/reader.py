"""Reads the metrics of servers over HTTP: one connection kept for each, a bounded answer, one deadline."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Mapping

import aiohttp

from router.backends.credentials import Credentials
from router.domain.deployment import TelemetryTerms
from router.domain.errors import Refused
from router.wire.server_metrics import NoLoad, Scrape, ServerLoad, read_load

PAGE_BYTES = 4 * 1024 * 1024
"""Longest page taken in: vLLM's has some hundred kilobytes with a dozen LoRAs."""
_KEPT_S = 90.0
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
"""aiohttp's own swallows a cancellation that comes in the same turn of the loop: then a router would not end."""
"""A connection outlives the longest pause between two questions."""


class MetricsReader:
    """`LoadReader` over HTTP. A page that is longer than `PAGE_BYTES` is not read to its end."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._credentials = Credentials(environ)
        self._session: aiohttp.ClientSession | None = None

    async def read(self, terms: TelemetryTerms, ca_file: str | None) -> ServerLoad | NoLoad:
        """What the server tells, or why nothing."""
        try:
            return await self._ask(terms, ca_file)
        except Refused as error:
            return NoLoad(Scrape.REFUSED, str(error))
        except TimeoutError:
            return NoLoad(Scrape.TIMEOUT, f"it has not answered within {terms.timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return NoLoad(Scrape.UNREACHABLE, f"no answer from {terms.url}: {error!r}")

    def forget(self, files: Collection[str]) -> None:
        """Read these files again."""
        self._credentials.forget(files)

    async def close(self) -> None:
        """Free connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(self, terms: TelemetryTerms, ca_file: str | None) -> ServerLoad | NoLoad:
        key = self._credentials.key(terms.api_key_env, terms.api_key_file)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept": "text/plain", "Accept-Encoding": "identity", "User-Agent": "adaptive-model-router"},
            )
        async with (
            asyncio.timeout(terms.timeout_s),
            self._session.get(
                terms.url,
                headers={} if key is None else {"Authorization": f"Bearer {key}"},
                timeout=_NO_TIMEOUT,
                allow_redirects=False,
                ssl=self._credentials.trust(ca_file),
            ) as response,
        ):
            if response.status != 200:
                return NoLoad(Scrape.REFUSED, f"it answered {response.status}")
            page = bytearray()
            while piece := await response.content.readany():
                page += piece
                if len(page) > PAGE_BYTES:
                    response.close()
                    return NoLoad(Scrape.UNREADABLE, f"its page is longer than {PAGE_BYTES} bytes")
        return read_load(bytes(page))
