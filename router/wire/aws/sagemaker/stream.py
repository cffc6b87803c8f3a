"""What a container streams, in parts that split anywhere, as pieces of an OpenAI answer.

Parts hold server-sent events, or one JSON text a line where the content type says so (LMI's default).
"""

from __future__ import annotations

from typing import Protocol

import msgspec
from msgspec import Raw, Struct

from router.domain.errors import ProtocolError
from router.domain.outcome import Delta
from router.wire import sse
from router.wire.aws.sagemaker.request import TextCall
from router.wire.aws.sagemaker.response import Details, container_error
from router.wire.openai import delta_choices, read_chunk

_DONE = b"[DONE]"
_LONGEST_LINE = 4 * 1024 * 1024


class PartReader(Protocol):
    """Reads the parts of one stream in order. `begun` turns true with the first token, `ended` with the finish reason:
    a stream that closes before that broke off."""

    begun: bool
    ended: bool

    def feed(self, part: bytes) -> list[Delta]:
        """The pieces that this part completes; raises a `BackendError`."""
        ...


class _Lines:
    """JSON texts, one a line."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that this piece completes."""
        lines = (self._buffer + piece).split(b"\n")
        self._buffer = lines.pop()
        if len(self._buffer) > _LONGEST_LINE:
            raise ProtocolError(f"a line is longer than {_LONGEST_LINE} bytes")
        return [line for line in lines if line.strip()]


def _framing(content_type: str | None) -> sse.Decoder | _Lines:
    return _Lines() if "jsonlines" in (content_type or "") else sse.Decoder()


class ChatReader:
    """A stream of chat completion chunks."""

    __slots__ = ("_frames", "begun", "ended")

    def __init__(self, content_type: str | None) -> None:
        self._frames = _framing(content_type)
        self.begun = self.ended = False

    def feed(self, part: bytes) -> list[Delta]:
        """The chunks that this part completes."""
        found = [read_chunk(data) for data in self._frames.feed(part) if data != _DONE]
        self.begun = self.begun or any(delta.tokens for delta in found)
        self.ended = self.ended or any(delta.finish_reason for delta in found)
        return found


class _Token(Struct, frozen=True):
    text: str | None = None
    special: bool = False
    special_token: bool = False


class _Event(Struct, frozen=True):
    token: _Token | None = None
    generated_text: str | None = None
    details: Details | None = None
    error: Raw = Raw()
    error_type: str | None = None


_event = msgspec.json.Decoder(_Event)


class TokenReader:
    """A stream of TGI's tokens, the last with the end of the generation. Text that may be the beginning of a stop is
    held until it is known not to be one; leading white space is dropped."""

    __slots__ = ("_call", "_frames", "_held", "_stopped", "begun", "ended")

    def __init__(self, content_type: str | None, call: TextCall) -> None:
        self._frames = _framing(content_type)
        self._call = call
        self._held = ""
        self._stopped = False
        self.begun = self.ended = False

    def feed(self, part: bytes) -> list[Delta]:
        """The tokens that this part completes."""
        return [delta for data in self._frames.feed(part) for delta in self._read(data)]

    def _read(self, data: bytes) -> list[Delta]:
        try:
            event = _event.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"an event of the container cannot be read: {type(error).__name__}") from None
        if bytes(event.error) not in {b"", b"null"}:
            raise container_error("the container reported an error", event.error_type)
        found, token = [], event.token
        if token is not None and token.text and not (token.special or token.special_token):
            found.append(self._said(token.text))
        if event.generated_text is not None or event.details is not None:
            found.append(self._end(event.details or Details()))
        if not found and token is None:
            raise ProtocolError("an event of the container holds no token")
        return found

    def _said(self, text: str) -> Delta:
        self._held += text
        said = self._release()
        return self._piece(said if self.begun else said.lstrip(), tokens=1)

    def _release(self) -> str:
        """What is certainly part of the answer."""
        if self._stopped:
            return ""
        for stop in self._call.stops:
            at = self._held.find(stop)
            if at >= 0:
                self._held, self._stopped = self._held[:at], True
        kept = 0 if self._stopped else max((_overlap(self._held, stop) for stop in self._call.stops), default=0)
        said, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        return said

    def _end(self, details: Details) -> Delta:
        finish = details.finish(is_stopped=self._stopped)
        self.ended = True
        return self._piece("" if self._stopped else self._held, finish=finish, details=details)

    def _piece(self, text: str, *, tokens: int = 0, finish: str | None = None, details: Details | None = None) -> Delta:
        """One chunk; one that says nothing still counts its token."""
        choices = b"[]"
        if text or finish:
            choices = delta_choices(text, role=not self.begun, finish_reason=finish)
            self.begun = True
        usage = None if details is None else details.usage(self._call)
        return Delta(choices=choices, tokens=tokens, finish_reason=finish, usage=usage)


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    return next((size for size in range(min(len(text), len(stop)), 0, -1) if stop.startswith(text[-size:])), 0)
