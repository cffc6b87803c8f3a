"""The body of InvokeEndpoint: an attempt in, bytes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from router.domain.aws.terms import Payload
from router.domain.deployment import Deployment, Kind
from router.domain.errors import Refused, RequestError
from router.domain.outcome import Attempt
from router.wire.aws.sagemaker.transcript import NEXT_TURN, transcript, unsupported
from router.wire.aws.stops import sent_stops
from router.wire.aws.top_k import sent_top_k
from router.wire.openai.request import ChatBody, read_body, upstream_body

_OPEN_END_TOKENS = 1024
"""Asked for where nobody bounds the answer: left to themselves TGI stops at 100 tokens, LMI at 30."""
_MOST_STOPS = 4
"""TGI's default of `--max-stop-sequences`; what goes beyond is cut here, once the container has said it."""

Json = dict[str, Any]
_object_decoder = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.encode


class TextCall(Struct, frozen=True):
    """A call of a container that takes text: `stops` end the answer and are no part of it."""

    inputs: str
    parameters: Json
    stops: tuple[str, ...]
    input_tokens: int

    def body(self, *, stream: bool) -> bytes:
        """The JSON of one call."""
        fields: Json = {"inputs": self.inputs, "parameters": self.parameters}
        return _encode({**fields, "stream": True} if stream else fields)


def payload_of(deployment: Deployment) -> Payload:
    """How its container is spoken to: as it is written, else as a batch container or a chat server would be."""
    terms = deployment.address.aws
    if terms is not None and terms.payload is not None:
        return terms.payload
    return Payload.JUMPSTART if deployment.kind is Kind.BATCH else Payload.OPENAI


def chat_body(attempt: Attempt) -> bytes:
    """The sender's body for a container that speaks OpenAI. It serves one model, whatever that is called there."""
    fields: dict[str, Raw] = _object_decoder.decode(upstream_body(attempt))
    del fields["model"]
    return _encode(fields)


def text_call(attempt: Attempt, payload: Payload) -> TextCall:
    """The conversation and its parameters as text containers take them; `Refused` for what they cannot."""
    try:
        body = read_body(attempt.request.payload)
    except RequestError as error:
        raise Refused(error.message, code=error.code, param=error.param) from error
    _check(body)
    stops = tuple(dict.fromkeys((*sent_stops(body), NEXT_TURN)))
    parameters: Json = {
        "max_new_tokens": body.output_limit or attempt.max_tokens or _OPEN_END_TOKENS,
        **_sampling(body, attempt),
        "stop": list(stops[:_MOST_STOPS]),
        "return_full_text": False,
    }
    if payload is Payload.TGI:
        parameters["details"] = True
    return TextCall(transcript(body), parameters, stops, attempt.request.input_tokens)


def batches(calls: Sequence[TextCall]) -> list[tuple[list[int], bytes]]:
    """One body for all calls with the same parameters, which hold for a whole list: their places, and the JSON."""
    groups: dict[bytes, list[int]] = {}
    for place, call in enumerate(calls):
        groups.setdefault(_encode(call.parameters), []).append(place)
    return [
        (places, _encode({"inputs": [calls[i].inputs for i in places], "parameters": Raw(parameters)}))
        for parameters, places in groups.items()
    ]


def _check(body: ChatBody) -> None:
    if body.tools:
        raise unsupported("tools", "tools")
    if (body.n or 1) > 1:
        raise unsupported("several choices", "n")
    if body.logprobs:
        raise unsupported("log probabilities", "logprobs")
    if body.response_format is not None and body.response_format.type != "text":
        raise unsupported(f"response_format {body.response_format.type}", "response_format")


def _sampling(body: ChatBody, attempt: Attempt) -> Json:
    """The sender's, then the class's. Containers refuse the ends of their ranges, which mean what silence means: no
    temperature is no sampling, `top_p` 1 and `top_k` 0 cut nothing."""
    temperature = attempt.temperature if body.temperature is None else body.temperature
    top_p = attempt.top_p if body.top_p is None else body.top_p
    top_k = sent_top_k(body.top_k) or attempt.top_k
    if temperature is not None and temperature <= 0.0:
        return {"do_sample": False}
    found: Json = {}
    if temperature is not None:
        found["temperature"] = temperature
    if top_p is not None and 0.0 < top_p < 1.0:
        found["top_p"] = top_p
    if top_k is not None and top_k > 0:
        found["top_k"] = top_k
    return {"do_sample": True, **found} if found else found
