"""Options that say which account, where, and how errors of AWS are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer

from router.domain.aws.terms import AwsTerms
from router.domain.deployment import Address
from router.domain.errors import RouterError

_AWS = "Account"

Region = Annotated[str | None, typer.Option(help="AWS region; absent: as the AWS SDK finds it.", rich_help_panel=_AWS)]
Role = Annotated[
    str | None,
    typer.Option(help="Role to assume; absent: the credentials that the AWS SDK finds.", rich_help_panel=_AWS),
]
Endpoint = Annotated[
    str | None,
    typer.Option(help="Address in place of AWS, such as that of `router aws-double`.", rich_help_panel=_AWS),
]

Answer = TypeVar("Answer")


def asked(
    service: str,
    ask: Callable[[Any], Awaitable[Answer]],
    *,
    region: str | None,
    role: str | None,
    endpoint: str | None,
) -> Answer:
    """What a service of AWS answers; its errors as a `RouterError` that says what to do."""
    from botocore.exceptions import BotoCoreError, ClientError

    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise RouterError(f"--endpoint-url {endpoint}: write an address such as http://127.0.0.1:8700")
    try:
        return asyncio.run(_asked(service, ask, region=region, role=role, endpoint=endpoint))
    except ClientError as error:
        told = error.response.get("Error", {})
        raise RouterError(
            f"{service} refused {error.operation_name}: {told.get('Code')}: {told.get('Message')}"
        ) from None
    except BotoCoreError as error:
        raise RouterError(f"{service}: {error}. Region and credentials are found as the AWS SDK does") from None


async def _asked(
    service: str,
    ask: Callable[[Any], Awaitable[Answer]],
    *,
    region: str | None,
    role: str | None,
    endpoint: str | None,
) -> Answer:
    from router.backends.aws.control.clients import ControlClients

    clients = ControlClients(endpoint_url=endpoint)
    try:
        terms = AwsTerms(role_arn=role)
        return await ask(await clients.client(service, Address(service, "", region=region, aws=terms)))
    finally:
        await clients.close()
