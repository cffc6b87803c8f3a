"""From a message to what is journalled and what is dispatched, and from the journal to the request again."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from router.domain.errors import RequestError
from router.domain.request import Request, RequestId
from router.ports.journal import Received
from router.wire.mqtt import Fields, content_id, read_fields, request_problem, topic_problem
from router.wire.mqtt_packet import Publish
from router.wire.openai import Envelope, read_request
from router.wire.openai.fanout.asked import from_short

SOURCE = "mqtt"


class RequestReader:
    """Knows the clocks and the limit of a body, nothing else."""

    def __init__(self, max_body_bytes: int, clocks: tuple[Callable[[], float], Callable[[], float]]) -> None:
        """`clocks`: monotonic and wall seconds."""
        self._max_body_bytes = max_body_bytes
        self._monotonic, self._wall = clocks

    def read(self, message: Publish) -> tuple[Received, Request, bool]:
        """What to journal, what to dispatch, and whether the sender gave an id. `RequestError` if it is none."""
        now, at = self._monotonic(), self._wall()
        problem = request_problem(message, self._max_body_bytes)
        if problem is not None:
            raise problem
        unanswerable = topic_problem(message.response_topic)
        if unanswerable is not None:
            raise RequestError(unanswerable, code="no_response_topic")
        fields = read_fields(message.properties)
        received = Received(
            request_id=fields.request_id or content_id(message),
            topic=message.topic,
            payload=message.payload,
            response_topic=message.response_topic or "",
            correlation_data=message.correlation_data,
            properties=message.properties,
            received_at=at,
            expires_at=None if message.expiry_s is None else at + message.expiry_s,
            tenant=fields.tenant,
        )
        return received, self._request(received, fields, now), fields.request_id is not None

    def again(self, received: Received, request: Request | None, calls: int) -> Request:
        """The request of an entry, parsed anew if it comes out of the journal; its latency then counts from
        when it first came. `calls` were made for it before."""
        if request is None:
            age_s = max(self._wall() - received.received_at, 0.0)
            request = self._request(received, read_fields(received.properties), self._monotonic() - age_s)
        if calls == 0 and request.id == received.request_id:
            return request
        return replace(request, id=RequestId(received.request_id), attempts_before=calls)

    def _request(self, received: Received, fields: Fields, arrived: float) -> Request:
        deadline = None
        if received.expires_at is not None:
            deadline = self._monotonic() + received.expires_at - self._wall()
        return read_request(
            from_short(received.payload),
            Envelope(
                id=received.request_id,
                arrived=arrived,
                at=received.received_at,
                source=SOURCE,
                tenant=received.tenant,
                topic=received.topic,
                request_class=fields.request_class,
                priority=fields.priority,
                deadline=deadline,
                traceparent=fields.traceparent,
                attributes=fields.attributes,
            ),
        )
