"""Batch jobs of Bedrock, line by line: requests in, answers out.

Input is JSON lines of `recordId` and `modelInput`; output has `modelOutput`, or `error` with a code and a message,
under the same id (Bedrock user guide, "Format and upload your batch inference data" and "View the results of a batch
inference job"). Bodies are those of Converse, without what is named once for the whole job.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from router.domain.errors import ProtocolError
from router.domain.outcome import Attempt
from router.wire.aws.bedrock import converse_request
from router.wire.openai.request import ChatBody

_encode = msgspec.json.Encoder().encode


class _Error(Struct, frozen=True):
    error_code: int = msgspec.field(name="errorCode", default=0)
    error_message: str = msgspec.field(name="errorMessage", default="")


class _Line(Struct, frozen=True):
    record_id: str = msgspec.field(name="recordId")
    model_output: Raw = msgspec.field(name="modelOutput", default=Raw())
    error: _Error | None = None


class Output(Struct, frozen=True):
    """One line of a job's output: the answer's JSON, or why there is none (without words of the sender)."""

    record: int
    answer: bytes
    error: str | None


_read_line = msgspec.json.Decoder(_Line).decode


def model_input(body: ChatBody, attempt: Attempt) -> bytes:
    """JSON of what goes into a record; `Refused` for what Converse cannot say."""
    asked: dict[str, Any] = converse_request(body, attempt)
    del asked["modelId"]
    return _encode(asked)


def write_line(record: int, asked: bytes) -> bytes:
    """One line of input. Ids have the eleven characters that Bedrock gives its own."""
    return b'{"recordId":"R%010d","modelInput":%s}\n' % (record, asked)


def read_line(line: bytes) -> Output:
    """One line of output; `ProtocolError` for what is not one."""
    try:
        found = _read_line(line)
        record = int(found.record_id.removeprefix("R"))
    except (msgspec.DecodeError, ValueError) as error:
        raise ProtocolError(f"a line of a job's output cannot be read: {type(error).__name__}") from None
    if found.error is not None:
        return Output(record, b"", f"error {found.error.error_code}")
    if not bytes(found.model_output):
        return Output(record, b"", "no answer")
    return Output(record, bytes(found.model_output), None)
