"""Any server that speaks OpenAI's chat-completions over HTTP: vLLM, Ollama, llama.cpp, OpenAI itself.

One call, one connection from an unbounded pool (limits are the ledger's), no retries (the one deadline is the
router's). The timeouts are aiohttp's own, which guard each read: a timeout context held across a `yield` would
cancel the consumer instead.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from functools import lru_cache

import aiohttp
from yarl import URL

from router.backends.credentials import Credentials
from router.backends.openai_errors import error_of_status, error_of_transport, timed_out
from router.domain.errors import ProtocolError, Refused, TimedOut
from router.domain.outcome import Attempt, Delta
from router.wire import sse
from router.wire.openai import read_chunk, read_response, upstream_body

_ERROR_BODY_BYTES = 64 * 1024
_LINGER_S = 0.05
"""How long after `[DONE]` the end of the body is waited for, so that the connection can be used again."""


class OpenAIHttpBackend:
    """Calls `<address.url>/chat/completions`.

    `connect_s` bounds the connection set-up and `silence_s` the time without a byte, both inside the attempt's
    deadline. `environ` holds the keys that `address.api_key_env` names, `address.api_key_file` is a file with one.
    """

    def __init__(
        self,
        *,
        connect_s: float = 5.0,
        silence_s: float = 300.0,
        environ: Mapping[str, str] = os.environ,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect_s = connect_s
        self._silence_s = silence_s
        self._now = now
        self._session: aiohttp.ClientSession | None = None
        self._credentials = Credentials(environ)

    async def open(self, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        """Start the call and stream its answer; raises a `BackendError`.

        A stream that ends with neither `[DONE]` nor a finish reason was cut.
        """
        response = await self._post(attempt)
        try:
            if response.status != 200:
                raise error_of_status(response.status, response.headers, await _error_text(response))
            if response.content_type != "text/event-stream":
                yield await _whole(response)
                return
            yield Delta()
            decoder = sse.Decoder()
            finished = started = False
            while piece := await _read(response, started=started):
                for data in decoder.feed(piece):
                    if data == b"[DONE]":
                        await _linger(response)
                        return
                    delta = read_chunk(data)
                    finished = finished or delta.finish_reason is not None
                    started = started or delta.tokens > 0
                    yield delta
            if not finished:
                raise ProtocolError("the stream ended before the answer did")
        finally:
            response.close()

    def forget(self, files: Collection[str]) -> None:
        """These files hold something else now: read them again when a call needs them. Calls under way go on."""
        self._credentials.forget(files)

    async def close(self) -> None:
        """Free connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, attempt: Attempt) -> aiohttp.ClientResponse:
        address = attempt.deployment.address
        if address.url is None:
            raise Refused(f"deployment {attempt.deployment.name} has no url", code="backend_forbidden")
        remaining_s = None if attempt.deadline is None else attempt.deadline - self._now()
        if remaining_s is not None and remaining_s <= 0:
            raise TimedOut("the deadline passed before the call", code="timeout_deadline")
        timeout = aiohttp.ClientTimeout(total=remaining_s, sock_connect=self._connect_s, sock_read=self._silence_s)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        try:
            return await self._session.post(
                _endpoint(address.url),
                data=upstream_body(attempt),
                headers=self._headers(attempt),
                timeout=timeout,
                allow_redirects=False,
                ssl=self._credentials.trust(address.ca_file),
            )
        except TimeoutError as error:
            raise timed_out(error, started=False) from error
        except (aiohttp.ClientError, OSError) as error:
            raise error_of_transport(error, started=False) from error

    def _headers(self, attempt: Attempt) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "adaptive-model-router",
            "X-Request-Id": attempt.id,
        }
        if attempt.request.traceparent is not None:
            headers["traceparent"] = attempt.request.traceparent
        address = attempt.deployment.address
        key = self._credentials.key(address.api_key_env, address.api_key_file)
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        return headers


@lru_cache(maxsize=256)
def _endpoint(base: str) -> URL:
    return URL(base.rstrip("/") + "/chat/completions")


async def _error_text(response: aiohttp.ClientResponse) -> bytes:
    """As much of an error body as there is; the status alone must do where it breaks off."""
    text = b""
    try:
        while len(text) < _ERROR_BODY_BYTES and (piece := await response.content.readany()):
            text += piece
    except (aiohttp.ClientError, OSError):
        return text
    return text


async def _whole(response: aiohttp.ClientResponse) -> Delta:
    try:
        body = await response.read()
    except TimeoutError as error:
        raise timed_out(error, started=False) from error
    except (aiohttp.ClientError, OSError) as error:
        raise error_of_transport(error, started=True) from error
    return read_response(body)


async def _read(response: aiohttp.ClientResponse, *, started: bool) -> bytes:
    try:
        return await response.content.readany()
    except TimeoutError as error:
        raise timed_out(error, started=started) from error
    except (aiohttp.ClientError, OSError) as error:
        raise error_of_transport(error, started=True) from error


async def _linger(response: aiohttp.ClientResponse) -> None:
    """Take in the end of the body: only then does the connection go back to the pool."""
    try:
        async with asyncio.timeout(_LINGER_S):
            while not response.content.at_eof():
                await response.content.readany()
    except (TimeoutError, aiohttp.ClientError, OSError):
        return
