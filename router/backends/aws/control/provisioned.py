"""Provisioned throughput of Amazon Bedrock: list, describe, buy, give back.

Operations as in botocore's model of the service `bedrock`: model units are paid by the hour, under a commitment or
without one; a commitment cannot be given back before it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct

from router.domain.errors import RouterError

IN_SERVICE, UPDATING, FAILED, MISSING = "InService", "Updating", "Failed", "missing"
SERVING = frozenset({IN_SERVICE, UPDATING})
"""While it is updated the old model goes on serving."""
_PAGE = 100


class Commitment(StrEnum):
    """`commitmentDuration`; absent without a commitment."""

    ONE_MONTH = "OneMonth"
    SIX_MONTHS = "SixMonths"


class Provisioned(Struct, frozen=True):
    """One provisioned throughput. Times are wall times in seconds."""

    arn: str
    name: str
    status: str
    units: int
    desired_units: int
    model_arn: str
    created_at: float
    commitment: str | None = None
    ends_at: float | None = None
    failure: str | None = None

    @property
    def model(self) -> str:
        """Name of the model in its ARN."""
        return self.model_arn.rpartition("/")[2]


class Order(Struct, frozen=True):
    """What to buy. `token` makes it idempotent: the same order sent again buys nothing more."""

    name: str
    model: str
    units: int
    token: str
    commitment: Commitment | None = None


async def list_provisioned(client: Any) -> list[Provisioned]:
    """All that the account has in the client's region, page by page; raises what the SDK raises."""
    found: list[Provisioned] = []
    more: dict[str, Any] = {}
    while True:
        page = await client.list_provisioned_model_throughputs(maxResults=_PAGE, **more)
        found += [_read(summary) for summary in page.get("provisionedModelSummaries", ())]
        if not page.get("nextToken"):
            return found
        more = {"nextToken": page["nextToken"]}


async def describe(client: Any, name: str) -> Provisioned | None:
    """One by its ARN or name; `None` where there is none of that name."""
    try:
        return _read(await client.get_provisioned_model_throughput(provisionedModelId=name))
    except client.exceptions.ResourceNotFoundException:
        return None


async def create(client: Any, order: Order) -> str:
    """Buy; the ARN of what was bought, which goes into the policy as `target`."""
    terms = {} if order.commitment is None else {"commitmentDuration": order.commitment.value}
    answer = await client.create_provisioned_model_throughput(
        clientRequestToken=order.token,
        modelUnits=order.units,
        provisionedModelName=order.name,
        modelId=order.model,
        **terms,
    )
    return str(answer["provisionedModelArn"])


async def delete(client: Any, arn: str) -> None:
    """Give back; what is gone already is no error."""
    try:
        await client.delete_provisioned_model_throughput(provisionedModelId=arn)
    except client.exceptions.ResourceNotFoundException:
        return


async def until_in_service(client: Any, arn: str, *, poll_s: float, seen: Callable[[Provisioned], None]) -> Provisioned:
    """Look again every `poll_s` until it serves; `seen` is told each time. Raises `RouterError` where it failed."""
    while True:
        found = await describe(client, arn)
        if found is None:
            raise RouterError(f"{arn}: it was bought, and is not there any more")
        seen(found)
        if found.status == FAILED:
            raise RouterError(f"{arn}: {found.failure or 'AWS does not say why it failed'}")
        if found.status == IN_SERVICE:
            return found
        await asyncio.sleep(poll_s)


def _read(answer: dict[str, Any]) -> Provisioned:
    return Provisioned(
        arn=answer["provisionedModelArn"],
        name=answer["provisionedModelName"],
        status=answer["status"],
        units=answer["modelUnits"],
        desired_units=answer["desiredModelUnits"],
        model_arn=answer["modelArn"],
        created_at=answer["creationTime"].timestamp(),
        commitment=answer.get("commitmentDuration"),
        ends_at=_seconds(answer.get("commitmentExpirationTime")),
        failure=answer.get("failureMessage"),
    )


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()
