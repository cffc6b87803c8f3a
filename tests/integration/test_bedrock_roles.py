"""Roles that a deployment on Bedrock calls by, through the real SDK against the AWS double."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from router.backends.aws.bedrock import BedrockBackend
from router.domain.aws.terms import AwsTerms
from router.domain.errors import (
    Refused,
)
from router.doubles.aws.server import AwsDouble, aws_double
from router.doubles.aws.world import World
from tests.integration.bedrock_calls import (
    answer,
    attempt,
    failure,
    opened,
)

ROLE = "arn:aws:iam::210987654321:role/router"


@pytest.fixture
async def double(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AwsDouble]:
    async with aws_double(World()) as one:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", one.url)
        yield one
        assert one.world.drift == []


@pytest.fixture
async def backend() -> AsyncIterator[BedrockBackend]:
    async with opened() as one:
        yield one


async def test_a_role_is_assumed_once_for_a_deployment(backend: BedrockBackend, double: AwsDouble) -> None:
    """Its calls are of the role's account; those of a deployment without one are of the router's own."""
    with_role = AwsTerms(role_arn=ROLE)
    for terms in (with_role, None, with_role):
        await answer(backend, attempt(double, terms=terms))
    calls = [(call.operation, call.account) for call in double.world.calls]
    assert calls == [
        ("AssumeRole", "123456789012"),
        ("ConverseStream", "210987654321"),
        ("ConverseStream", "123456789012"),
        ("ConverseStream", "210987654321"),
    ]


async def test_credentials_of_a_role_are_renewed(backend: BedrockBackend, double: AwsDouble) -> None:
    """Those that are about to expire are asked for again before the call."""
    double.world.at = lambda: time.time() - 3590
    asked = attempt(double, terms=AwsTerms(role_arn=ROLE))
    await answer(backend, asked)
    await answer(backend, asked)
    assert [call.operation for call in double.world.calls].count("AssumeRole") == 2


async def test_a_role_that_may_not_be_assumed(backend: BedrockBackend, double: AwsDouble) -> None:
    """The deployment is to blame and not the sender."""
    double.world.forbidden_roles.add(ROLE)
    error = await failure(backend, attempt(double, terms=AwsTerms(role_arn=ROLE)))
    assert (type(error), error.code) == (Refused, "backend_forbidden")
