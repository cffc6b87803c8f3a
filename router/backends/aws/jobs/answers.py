"""Lines of a job's output as answers to who waits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from router.domain.deployment import Price
from router.domain.errors import ProtocolError
from router.domain.outcome import Delta
from router.ports.jobs import Unused
from router.wire.aws.bedrock_response import read_converse
from router.wire.aws.job_records import read_line

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Answered(Struct, frozen=True):
    """What became of the record of a key; `delta` is `None` where there is no answer, for the reason in `error`."""

    key: str
    answer: bytes
    delta: Delta | None
    error: str | None = None

    @staticmethod
    def of(key: str, answer: bytes) -> Answered:
        """The answer in its own JSON, if it is one."""
        try:
            return Answered(key, answer, read_converse(_decode(answer)))
        except (ProtocolError, msgspec.DecodeError) as error:
            return Answered(key, b"", None, str(error))


def answered(line: bytes, keys: Sequence[str]) -> Answered:
    """One line of output; of a line that is none, or of no record, the key is empty."""
    try:
        output = read_line(line)
    except ProtocolError as error:
        return Answered("", b"", None, error.message)
    if not 0 <= output.record < len(keys):
        return Answered("", b"", None, "no record of this job")
    key = keys[output.record]
    return Answered(key, b"", None, output.error) if output.error is not None else Answered.of(key, output.answer)


def cost_usd(left: Iterable[Unused], price: Price) -> dict[str, float]:
    """What these answers cost by request class, by the usage in each."""
    usd = dict[str, float]()
    for one in left:
        delta = Answered.of(one.key, one.answer).delta
        if delta is not None and delta.usage is not None:
            usd[one.request_class] = usd.get(one.request_class, 0.0) + price.cost_of(delta.usage)
    return usd
