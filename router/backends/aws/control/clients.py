"""Clients of AWS's control services, with the credentials and by the service models that the runtime's clients have."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from router.backends.aws.sessions import Clients
from router.domain.deployment import Address

_SILENCE_S = 15.0
_ATTEMPTS = 3
_OF_ONE_SERVICE = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")


class ControlClients:
    """Calls are few and may be repeated, so the SDK's retries are on. `endpoint_url` stands for every service."""

    def __init__(self, *, endpoint_url: str | None = None) -> None:
        self._endpoint_url = endpoint_url
        self._clients = Clients(max_connections=8, attempts=_ATTEMPTS, silence_s=_SILENCE_S)

    async def client(self, service: str, address: Address) -> Any:
        """The client for a service where an address lies."""
        url = self._endpoint_url or shared_endpoint(address.url)
        return await self._clients.client(service, replace(address, url=url, ca_file=address.ca_file if url else None))

    async def close(self) -> None:
        """Free connections."""
        await self._clients.close()


def shared_endpoint(url: str | None) -> str | None:
    """An endpoint that serves all services on one address, as a double does. Those of AWS serve one service each, so
    that what is written for the runtime says nothing of the others: the SDK finds them, and takes AWS_ENDPOINT_URL."""
    host = urlsplit(url).hostname if url else None
    return None if host is None or host.endswith(_OF_ONE_SERVICE) else url
