"""Asks whom a request names whether an answer will do: the answer goes to his topic, his verdict comes back.

A question carries a Response Topic and Correlation Data; the verdict is `{"passed": true}` or `{"passed": false}`,
published there with that Correlation Data. It goes and comes by the connection of the replies, which never stops
reading, and subscribes only once somebody is asked: a broker that lets nobody subscribe there costs no reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import ceil
from uuid import uuid4

from router.domain.errors import RequestError
from router.ingress.mqtt_client import Disconnected, MqttConnection
from router.ingress.mqtt_options import MqttOptions
from router.ingress.mqtt_replies import FAILURE, NO_SUBSCRIBERS, Replies
from router.ports.verify import Question
from router.wire.mqtt import question_payload, question_properties, read_verdict
from router.wire.mqtt_packet import Publish, pack_properties

Event = Callable[[str, str], None]


class Verdicts:
    """Implements `router.ports.verify.Verifier` over the connection of the replies."""

    def __init__(self, options: MqttOptions, replies: Replies, event: Event) -> None:
        self._options, self._replies, self._event = options, replies, event
        self._waiting: dict[bytes, asyncio.Future[bool]] = {}
        self._subscribed: MqttConnection | None = None
        self._subscribing = asyncio.Lock()
        replies.listen(options.verdict_topic, self._take)

    def refusal(self, topic: str) -> str | None:
        """See `router.ports.verify.Verifier.refusal`."""
        own, allowed = f"{self._options.prefix}/", f"{self._options.callback_prefix}/"
        if topic.startswith(own):
            return f"topics under {own} are the router's own"
        if self._options.callback_prefix and not topic.startswith(allowed):
            return f"this router publishes answers under {allowed} alone"
        return None

    async def verdict(self, question: Question, *, within_s: float) -> bool | None:
        """See `router.ports.verify.Verifier.verdict`."""
        key = uuid4().bytes
        waiter = self._waiting[key] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(within_s):
                return await waiter if await self._ask(question, key, within_s) else None
        except TimeoutError:
            self._event("verdict_missing", "nobody answered in time")
        except Disconnected as error:
            self._event("verdict_missing", error.detail)
        finally:
            del self._waiting[key]
        return None

    async def _ask(self, question: Question, key: bytes, within_s: float) -> bool:
        """Publish a question once; false where nobody is there to answer it."""
        connection = await self._listening()
        if connection is None:
            self._event("verdict_missing", "no connection")
            return False
        properties = pack_properties(
            "application/json",
            key,
            question_properties(question.request_id, question.decision_id, question.deployment),
            response_topic=self._options.verdict_topic,
            expiry_s=ceil(within_s),
        )
        payload = question_payload(question.request_id, question.decision_id, question.choices)
        if connection.max_packet_bytes is not None and len(payload) + len(properties) > connection.max_packet_bytes:
            self._event("verdict_missing", "the answer is over the broker's Maximum Packet Size")
            return False
        code = await connection.publish(question.topic, payload, properties)
        if code is None or code == NO_SUBSCRIBERS or code >= FAILURE:
            self._event("verdict_missing", "connection lost" if code is None else f"reason code 0x{code:02x}")
            return False
        return True

    async def _listening(self) -> MqttConnection | None:
        """The connection of the replies, subscribed to verdicts; `None` where there is none."""
        async with self._subscribing:
            connection = self._replies.connection
            if connection is not None and connection is not self._subscribed:
                await connection.subscribe((self._options.verdict_topic,))
                self._subscribed = connection
            return connection

    def _take(self, message: Publish) -> None:
        """A verdict, or what takes itself for one."""
        waiter = self._waiting.get(message.correlation_data or b"")
        if waiter is None or waiter.done():
            self._event("verdict_unknown", "nobody waits for it any more")
            return
        try:
            if message.problem is not None:
                raise RequestError(message.problem)
            waiter.set_result(read_verdict(message.payload))
        except RequestError as error:
            self._event("invalid", f"verdict: {error.code}")
