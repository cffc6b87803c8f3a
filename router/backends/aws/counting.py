"""How long is a prompt exactly? Asked of the service where the estimate leaves open whether it fits.

CountTokens costs nothing but a call before the call, with a throttle of its own. So it is asked only for deployments
that say `count_tokens`, and of those only where prompt and answer may pass the context window if the estimate is too
low by a third. The answer is then asked for as long as there is room, which keeps models from refusing a prompt and a
bound that do not fit together. Where the service cannot count (a throttle, an ARN that hides the model, no answer in
time), the estimate stands.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from router.domain.aws.geography import without_geography
from router.domain.errors import Refused
from router.domain.outcome import Attempt
from router.wire.aws.exchange import Exchange

ESTIMATE_SLACK = 4 / 3
"""How far a prompt may be longer than its estimate."""
_PATIENCE_S = 2.0
"""Longest wait for a count: the call itself has not begun."""
_PROFILE = re.compile(r"^arn:aws[^:]*:bedrock:[^:]*:[^:]*:inference-profile/(.+)$")


async def fit(client: Any, attempt: Attempt, exchange: Exchange) -> None:
    """Have the answer fit behind the prompt; `Refused` where the prompt alone does not fit."""
    window, model = attempt.deployment.context_tokens, counted_model(attempt.deployment.address.target)
    wanted = attempt.request.max_tokens or attempt.max_tokens or 0
    if window is None or model is None or attempt.request.input_tokens * ESTIMATE_SLACK + wanted <= window:
        return
    try:
        async with asyncio.timeout(_PATIENCE_S):
            counted = await client.count_tokens(modelId=model, input=exchange.counted())
    except (ClientError, BotoCoreError, TimeoutError):
        return
    left = window - counted["inputTokens"]
    if left < 1:
        message = f"the prompt has {counted['inputTokens']} tokens, and {window} are the context window"
        raise Refused(message, code="context_length_exceeded")
    if wanted > left:
        exchange.shorten(left)


def counted_model(target: str) -> str | None:
    """The foundation model that tokens are counted for: an inference profile names it, other ARNs do not."""
    profile = _PROFILE.match(target)
    if profile is None and target.startswith("arn:") and ":foundation-model/" not in target:
        return None
    return without_geography(target if profile is None else profile[1])
