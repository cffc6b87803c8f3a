"""A request as the pattern of others: the same in everything that they do not say themselves."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from router.domain.errors import RequestError
from router.domain.request import Capability, Request
from router.wire.openai.fanout.asked import MERGE, PARTS
from router.wire.openai.request import Envelope, read_request

Fields = dict[str, Raw]
"""A JSON object whose values need not be read."""

_DELIVERY = ("stream", "stream_options", "n")
"""What says how the request's own answer is given."""


class _Role(Struct, frozen=True):
    role: str


_object = msgspec.json.Decoder(Fields)
_list = msgspec.json.Decoder(list[Raw])
_role = msgspec.json.Decoder(_Role)
_encode = msgspec.json.Encoder().encode


class Pattern:
    """`parts` and `merge` are the JSON of what the request lists, as it came."""

    def __init__(self, request: Request) -> None:
        """The request has been read before, so its body is one that can be."""
        self._request = request
        self._fields = _object.decode(request.payload)
        self._messages = _list.decode(self._fields.pop("messages"))
        self._metadata = _object.decode(self._fields.pop("metadata"))
        self.parts, self.merge = self._metadata.pop(PARTS), self._metadata.pop(MERGE, Raw(b"null"))
        for name in _DELIVERY:
            self._fields.pop(name, None)

    def before_question(self) -> list[Raw]:
        """The messages before the last of the user's; all, where the user has none."""
        for place in reversed(range(len(self._messages))):
            if _role.decode(self._messages[place]).role == "user":
                return self._messages[:place]
        return self._messages

    def request(self, name: str, own: Fields, *, where: str) -> Request:
        """The request with fields of its own in place of the pattern's; `messages` must be among them.

        `name` comes after the slash in its id. `RequestError` says what is wrong, and `where`.
        """
        if PARTS in own or MERGE in own:
            raise RequestError(f"{where}: a part has no parts of its own", param=where)
        metadata = {**self._metadata, **_metadata_of(own, where)}
        fields: dict[str, object] = {**self._fields, **own}
        fields.pop("metadata", None)
        if metadata:
            fields["metadata"] = metadata
        try:
            made = read_request(_encode(fields), self._envelope(name, own, where))
        except RequestError as error:
            param = f"{where}.{error.param}" if error.param else where
            raise RequestError(f"{where}: {error.message}", code=error.code, param=param) from None
        if made.subqueries:
            raise RequestError(f"{where}: a part has no parts of its own", param=f"{where}.metadata.{PARTS}")
        if made.stream:
            raise RequestError(f"{where}: only the whole answer can be streamed", param=f"{where}.stream")
        if Capability.CHOICES in made.needs:
            raise RequestError(f"{where}: a part has one choice; list it twice to have it twice", param=f"{where}.n")
        return replace(made, parent=self._request.id)

    def _envelope(self, name: str, own: Fields, where: str) -> Envelope:
        request = self._request
        said = {PARTS, MERGE, *_metadata_of(own, where)}
        return Envelope(
            id=f"{request.id}/{name}",
            arrived=request.arrived,
            at=request.at,
            source=request.source,
            tenant=request.tenant,
            topic=request.topic,
            request_class=request.request_class,
            priority=request.priority,
            deadline=request.deadline,
            traceparent=request.traceparent,
            attributes=tuple(pair for pair in request.attributes if pair[0] not in said),
        )


def _metadata_of(own: Fields, where: str) -> Fields:
    raw = bytes(own.get("metadata", b"null"))
    if raw == b"null":
        return {}
    try:
        return _object.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        raise RequestError(f"{where}: metadata is not a JSON object", param=f"{where}.metadata") from None
