"""One spelling for all requests that ask for the same answer: the bytes that a response cache looks up.

JSON is parsed and written again with sorted keys and one spelling for each number, what the class fills in stands
where the request is silent, and what has no part in the answer is left out. Text is never touched.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import msgspec
from msgspec import Struct

from router.domain.request import Request
from router.domain.slo import Parameters

LEFT_OUT = {
    "model": "it chooses the class or the deployment, and both are in the key by themselves",
    "stream": "how the answer is delivered",
    "stream_options": "how the answer is delivered",
    "user": "the sender's name for its own user; answers are shared within a tenant",
    "safety_identifier": "the newer name of `user`",
    "metadata": "the sender's own notes; what classifies by them is in the class",
    "store": "whether the upstream keeps a copy",
    "request_id": "names one call",
    "priority": "when it is served, not what is answered",
    "service_tier": "when it is served, not what is answered",
    "prompt_cache_key": "a hint about the upstream's own cache",
    "prompt_cache_retention": "a hint about the upstream's own cache",
    "max_completion_tokens": "the newer name of `max_tokens`, under which it stands",
}
"""Top-level fields that are no part of the question, each with its reason. All others are."""

_EXACT = 2.0**53


class Canonical(Struct, frozen=True):
    """The canonical body and the temperature in force, `None` where the backend's default holds. `is_bounded` says
    whether the bound on output tokens is part of the body: a learned one is not."""

    body: bytes
    temperature: float | None
    is_bounded: bool


def _number(text: str) -> float | int | str:
    """One value for 1, 1.0 and 1e0; text where a double does not hold it."""
    value = float(text)
    if not isfinite(value):
        return text
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=_number)
_encoder = msgspec.json.Encoder(order="deterministic")


def canonical(request: Request, parameters: Parameters) -> Canonical | None:
    """The question behind a request with the class's parameters filled in; `None` where there is no body that can
    be read. A field that is null counts as absent."""
    try:
        given = _decoder.decode(request.payload)
        fields = {name: value for name, value in given.items() if value is not None and name not in LEFT_OUT}
        for name, value in (
            ("temperature", parameters.temperature),
            ("top_p", parameters.top_p),
            ("top_k", parameters.top_k),
        ):
            if value is not None:
                fields.setdefault(name, _number(repr(value)))
        if request.verify:
            fields["metadata"] = {"verify": request.verify.decode()}
        fields["max_tokens"] = bound = request.max_tokens or parameters.max_tokens
        body = _encoder.encode(fields)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None
    temperature = fields.get("temperature")
    is_bounded = bound is not None or parameters.ceiling is None
    return Canonical(body, float(temperature) if isinstance(temperature, int | float) else None, is_bounded)
