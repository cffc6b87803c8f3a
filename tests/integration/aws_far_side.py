"""The AWS double and the SDK's own clients, as tests use them."""

from __future__ import annotations

from typing import Any

import aioboto3
from aiobotocore.config import AioConfig

from router.backends.aws.sessions import OVERLAY

REGION = "us-east-1"


def turn(text: str = "Hi") -> list[dict[str, Any]]:
    """A conversation of one message."""
    return [{"role": "user", "content": [{"text": text}]}]


def client(url: str, service: str = "bedrock-runtime", region: str = REGION, key: str = "test") -> Any:
    """A client as anybody would make one, but without retries and with the shapes that the project lays over."""
    session = aioboto3.Session(aws_access_key_id=key, aws_secret_access_key="test")
    session._session.get_component("data_loader").search_paths.insert(0, OVERLAY)
    config = AioConfig(retries={"total_max_attempts": 1}, max_pool_connections=2000)
    return session.client(service, region, endpoint_url=url, config=config)
