"""Does a body ask for parts? And the short form of asking, without a conversation around it."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from router.domain.errors import RequestError

PARTS, MERGE = "subqueries", "merge"
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Metadata(Struct, frozen=True):
    subqueries: Raw = Raw()


_metadata = msgspec.json.Decoder(_Metadata)
_object = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode
_NO_QUESTION = Raw(b'[{"role":"user","content":""}]')
"""Messages of the short form that brings none: what a part asks stands in place of the last user message."""


def asks_parts(metadata: Raw) -> bool:
    """Whether `metadata` lists parts, right or wrong."""
    raw = bytes(metadata)
    if b'"subqueries"' not in raw:
        return False
    try:
        listed = bytes(_metadata.decode(raw).subqueries)
    except _UNREADABLE:
        return False
    return listed not in (b"", b"null")


def from_short(body: bytes, *, required: bool = False) -> bytes:
    """The body with `subqueries` and `merge` moved from its top level into `metadata`, and `messages` filled in.

    A body without `subqueries` is given back as it is, or refused where they are `required`.
    """
    if b'"subqueries"' not in body:
        return _refused() if required else body
    try:
        fields = _object.decode(body)
        if PARTS not in fields:
            within = asks_parts(fields.get("metadata", Raw()))
            return _refused() if required and not within else body
        metadata = _object.decode(fields["metadata"]) if "metadata" in fields else {}
    except _UNREADABLE:
        return body
    for name in (PARTS, MERGE):
        if name in fields:
            metadata[name] = fields.pop(name)
    fields["metadata"] = Raw(_encode(metadata))
    fields.setdefault("messages", _NO_QUESTION)
    return _encode(fields)


def _refused() -> bytes:
    raise RequestError('there are no parts: write `"subqueries": ["first question", "second question"]`', param=PARTS)
