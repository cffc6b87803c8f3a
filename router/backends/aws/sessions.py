"""Clients of AWS services: with which credentials, over which connections, by which service model.

Credentials come by the SDK's usual chain, or are those of a role that is assumed for a deployment; both are renewed
before they expire. STS is called where the SDK finds it: `AWS_ENDPOINT_URL_STS` says where else.

The SDK is older than parts of the API (service tiers, time to live of cached prefixes, kinds of batch jobs,
speculative decoding). The folder `overlay` holds what is missing, in the form in which botocore merges additions into
its own service models; it stands first in the search path of every session made here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import aioboto3
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioAssumeRoleCredentialFetcher, AioDeferredRefreshableCredentials
from aiobotocore.session import AioSession
from botocore.exceptions import NoCredentialsError

from router.domain.deployment import Address

OVERLAY = str(Path(__file__).parent / "overlay")
_SESSION_NAME = "adaptive-model-router"
"""What CloudTrail shows as the name of a session with an assumed role."""
_CONNECT_S = 5.0
_SILENCE_S = 3600.0
"""Longest silence when an attempt has no deadline; a model that reasons can think for much of it."""
_STS_S = 10.0
_BEARER = "bedrock"
"""Whose API keys the SDK finds in the environment: AWS_BEARER_TOKEN_BEDROCK."""


class _Key(NamedTuple):
    service: str
    region: str | None
    role_arn: str | None
    url: str | None
    ca_file: str | None


class Clients:
    """One client, with its connection pool, for each service, region, role, endpoint and certificate authority.

    The SDK's retries are off and its time-outs are only a net under an attempt's deadline, unless `attempts` and
    `silence_s` say otherwise. `max_connections` must stand above the sum of the concurrency limits of a client's
    deployments, or calls would wait for a connection unseen.
    """

    def __init__(
        self,
        session: aioboto3.Session | None = None,
        *,
        max_connections: int = 4096,
        attempts: int = 1,
        silence_s: float = _SILENCE_S,
    ) -> None:
        self._session = session if session is not None else aioboto3.Session()
        _lay_over(self._session._session)
        self._config = AioConfig(
            retries={"total_max_attempts": attempts, "mode": "standard"},
            max_pool_connections=max_connections,
            connect_timeout=_CONNECT_S,
            read_timeout=silence_s,
        )
        self._roles: dict[tuple[str, str | None], aioboto3.Session] = {}
        self._clients: dict[_Key, Any] = {}
        self._opening = asyncio.Lock()
        self._open = AsyncExitStack()

    async def client(self, service: str, address: Address) -> Any:
        """The kept client of a service where an address lies; making one costs about 0.1 s, once."""
        role_arn = None if address.aws is None else address.aws.role_arn
        key = _Key(service, address.region, role_arn, address.url, address.ca_file)
        if key in self._clients:
            return self._clients[key]
        async with self._opening:
            if key not in self._clients:
                session = await self._session_of(role_arn, address.region)
                await _check_credentials(session._session)
                client = session.client(
                    service,
                    region_name=address.region,
                    endpoint_url=address.url,
                    verify=address.ca_file,
                    config=self._config,
                )
                self._clients[key] = await self._open.enter_async_context(client)
        return self._clients[key]

    def forget(self, files: Collection[str]) -> None:
        """These certificate authorities are others now: make new clients. Calls under way end on the old ones."""
        self._clients = {key: client for key, client in self._clients.items() if key.ca_file not in files}

    async def close(self) -> None:
        """Free connections; called once at shutdown."""
        self._clients.clear()
        await self._open.aclose()

    async def _session_of(self, role_arn: str | None, region: str | None) -> aioboto3.Session:
        if role_arn is None:
            return self._session
        if (role_arn, region) not in self._roles:
            self._roles[role_arn, region] = await _assuming(self._session._session, role_arn, region)
        return self._roles[role_arn, region]


async def _assuming(base: AioSession, role_arn: str, region: str | None) -> aioboto3.Session:
    """A session that has the credentials of a role, asked for when first needed and again before they expire."""
    source = await base.get_credentials()
    if source is None:
        raise NoCredentialsError
    config = AioConfig(connect_timeout=_CONNECT_S, read_timeout=_STS_S)
    fetcher = AioAssumeRoleCredentialFetcher(
        client_creator=partial(base.create_client, region_name=region, config=config),
        source_credentials=source,
        role_arn=role_arn,
        extra_args={"RoleSessionName": _SESSION_NAME},
    )
    assumed = AioSession()
    assumed._credentials = AioDeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
    _lay_over(assumed)
    return aioboto3.Session(botocore_session=assumed)


async def _check_credentials(session: AioSession) -> None:
    """A client keeps what it was made with: none is made while there is nothing, as before a role is attached."""
    if await session.get_credentials() is None and session.get_auth_token(signing_name=_BEARER) is None:
        raise NoCredentialsError


def _lay_over(session: AioSession) -> None:
    search_paths: list[str] = session.get_component("data_loader").search_paths
    if OVERLAY not in search_paths:
        search_paths.insert(0, OVERLAY)
