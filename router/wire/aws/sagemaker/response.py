"""What a text container answers as a whole: one `generated_text`, or a list of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import msgspec
from msgspec import Raw, Struct

from router.domain.errors import BackendError, Overloaded, ProtocolError, Refused
from router.domain.outcome import Delta, Usage
from router.wire.aws.sagemaker.request import TextCall
from router.wire.openai import error_of, text_tokens, whole_choices

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ERRORS: dict[str, type[BackendError]] = {
    "overloaded": Overloaded,
    "validation": Refused,
    "incomplete_generation": ProtocolError,
}
"""TGI's `error_type`; `generation` and what else there is are the model's failure."""


class Details(Struct, frozen=True):
    """How a generation ended. TGI gives the prompt's length with a stream only."""

    finish_reason: str | None = None
    generated_tokens: int | None = None
    input_length: int | None = None

    def finish(self, *, is_stopped: bool) -> str:
        """In OpenAI's words; `BackendError` where LMI says that generating failed. A container that was not told of the
        stop that ended the answer went on to its bound."""
        if self.finish_reason == "error":
            raise BackendError("the container failed while it generated")
        return "length" if self.finish_reason == "length" and not is_stopped else "stop"

    def usage(self, call: TextCall) -> Usage | None:
        """As the container counted, where it did."""
        if self.generated_tokens is None:
            return None
        return Usage(call.input_tokens if self.input_length is None else self.input_length, self.generated_tokens)


class _Generation(Struct, frozen=True):
    generated_text: str | None = None
    generation: str | None = None
    """Meta's own container says it so."""
    details: Details | None = None
    error: Raw = Raw()
    error_type: str | None = None


_one = msgspec.json.Decoder(_Generation)
_some = msgspec.json.Decoder(list[_Generation | list[_Generation]])


def read_text(body: bytes, call: TextCall) -> Delta:
    """A complete answer; raises a `BackendError`."""
    return _delta(_generations(body, 1)[0], call)


def read_texts(body: bytes, calls: Sequence[TextCall]) -> list[Delta]:
    """The answers to a list of inputs, in their order; raises a `BackendError`."""
    return [_delta(*pair) for pair in zip(_generations(body, len(calls)), calls, strict=True)]


def container_error(said: str, kind: str | None) -> BackendError:
    """The router's error for what a text container reports in its answer."""
    return _ERRORS.get(kind or "", BackendError)(said)


def until_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The text before the first of `stops`, which TGI leaves in, and whether there was one."""
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    return (text[: min(ends)], True) if ends else (text, False)


def _generations(body: bytes, number: int) -> list[_Generation]:
    try:
        if body.lstrip()[:1] == b"{":
            found = [_one.decode(body)]
        else:
            found = [one[0] if isinstance(one, list) else one for one in _some.decode(body)]
    except (*_UNREADABLE, IndexError) as error:
        raise ProtocolError(f"the container's answer cannot be read: {type(error).__name__}") from None
    for one in found:
        if bytes(one.error) not in {b"", b"null"}:
            raise (
                container_error("the container reported an error", one.error_type)
                if one.error_type
                else error_of(bytes(one.error))
            )
    if len(found) != number:
        raise ProtocolError(f"the container gave {len(found)} answers to {number} inputs")
    return found


def _delta(one: _Generation, call: TextCall) -> Delta:
    said = one.generated_text if one.generated_text is not None else one.generation
    details = one.details or Details()
    if said is None:
        raise ProtocolError("the container's answer has no generated_text")
    found, is_stopped = until_stop(said.removeprefix(call.inputs), call.stops)
    text, finish = found.lstrip(), details.finish(is_stopped=is_stopped)
    usage = details.usage(call)
    tokens = ceil(text_tokens(text)) if usage is None else usage.output_tokens
    return Delta(choices=whole_choices(text, finish), tokens=tokens, finish_reason=finish, usage=usage, whole=True)
