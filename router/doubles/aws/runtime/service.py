"""The operations of bedrock-runtime."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec

from router.doubles.aws.call import HEADERS, AwsError, Call, Event, Json
from router.doubles.aws.runtime.conversation import check_conversation
from router.doubles.aws.runtime.converse import answer_events, whole_answer
from router.doubles.aws.runtime.families import FAMILIES, chunk_metrics, family_of, read_invocation
from router.doubles.aws.runtime.places import find_place
from router.doubles.aws.runtime.prompt import Prompt, read_prompt
from router.doubles.aws.runtime.serving import Asked, Serving, admit
from router.doubles.aws.world import World

_JSON = "application/json"


class BedrockRuntime:
    """Converse, InvokeModel, their streams, and CountTokens."""

    service = "bedrock-runtime"

    def __init__(self, world: World) -> None:
        self._world = world

    async def converse(self, call: Call) -> Json:
        """A whole answer."""
        serving = self._conversation(call)
        try:
            await serving.whole()
            return whole_answer(serving)
        finally:
            serving.close()

    async def converse_stream(self, call: Call) -> Json:
        """An answer in events."""
        return {"stream": answer_events(self._conversation(call))}

    async def invoke_model(self, call: Call) -> Json:
        """A whole answer in the spelling of the model's family."""
        family, serving = self._invocation(call)
        try:
            await serving.whole()
            body = FAMILIES[family].whole(serving) | _guardrail_action(serving)
            counts = {"Input-Token-Count": serving.split.fresh, "Output-Token-Count": serving.made}
            times = {"Invocation-Latency": serving.elapsed_ms()}
            headers = {f"X-Amzn-Bedrock-{name}": str(value) for name, value in (counts | times).items()}
            return {"body": msgspec.json.encode(body), "contentType": _JSON, HEADERS: headers} | _served(serving)
        finally:
            serving.close()

    async def invoke_model_with_response_stream(self, call: Call) -> Json:
        """An answer in chunks of the spelling of the model's family."""
        family, serving = self._invocation(call)
        return {"body": _chunks(family, serving), "contentType": _JSON} | _served(serving)

    async def count_tokens(self, call: Call) -> Json:
        """Tokens of an input, free of charge."""
        given = call.params["input"]
        if "converse" in given:
            check_conversation(given["converse"])
            prompt = read_prompt(given["converse"], None)
        else:
            prompt = self._read_body(call, given["invokeModel"]["body"])[1]
        find_place(self._world, call.params["modelId"], prompt.tokens)
        return {"inputTokens": prompt.tokens}

    def _conversation(self, call: Call) -> Serving:
        check_conversation(call.params)
        asked = Asked(
            latency=call.params.get("performanceConfig", {}).get("latency"),
            tier=call.params.get("serviceTier", {}).get("type"),
            guardrail=call.params.get("guardrailConfig", {}).get("guardrailIdentifier"),
        )
        prompt = read_prompt(call.params, call.params.get("inferenceConfig", {}).get("maxTokens"))
        return admit(self._world, call, prompt, asked)

    def _invocation(self, call: Call) -> tuple[str, Serving]:
        family, prompt = self._read_body(call, call.params.get("body", b""))
        asked = Asked(
            latency=call.params.get("performanceConfigLatency"),
            tier=call.params.get("serviceTier"),
            guardrail=call.params.get("guardrailIdentifier"),
        )
        return family, admit(self._world, call, prompt, asked)

    def _read_body(self, call: Call, body: bytes) -> tuple[str, Prompt]:
        model_id = call.params["modelId"]
        family = family_of(find_place(self._world, model_id, 0).model, model_id)
        try:
            return family, read_invocation(family, msgspec.json.decode(body, type=Json))
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise AwsError("ValidationException", "Malformed input request: the body is not a JSON object") from None


async def _chunks(family: str, serving: Serving) -> AsyncGenerator[Event, None]:
    """However the stream ends, the call is settled and billed."""
    shape = FAMILIES[family]
    try:
        blocks = list(shape.blocks(serving))
        timed = serving.pieces([("", chunk) for is_piece, chunk in blocks if is_piece])
        first_ms = 0
        for chunk in shape.first(serving):
            yield _chunk(chunk)
        for is_piece, chunk in blocks:
            yield _chunk((await anext(timed))[1] if is_piece else chunk)
            first_ms = first_ms or (serving.elapsed_ms() if is_piece else 0)
        if not any(is_piece for is_piece, _ in blocks):
            await serving.whole()
        *others, end = shape.last(serving)
        for chunk in others:
            yield _chunk(chunk)
        yield _chunk(end | chunk_metrics(serving, first_ms) | _guardrail_action(serving))
    finally:
        serving.close()


def _chunk(body: Json) -> Event:
    return "chunk", {"bytes": msgspec.json.encode(body)}


def _served(serving: Serving) -> Json:
    said: Json = {}
    if "performanceConfigLatency" in serving.call.params:
        said["performanceConfigLatency"] = serving.latency
    if "serviceTier" in serving.call.params:
        said["serviceTier"] = serving.tier
    return said


def _guardrail_action(serving: Serving) -> Json:
    if "guardrailIdentifier" not in serving.call.params:
        return {}
    return {"amazon-bedrock-guardrailAction": "NONE" if serving.blocked is None else "INTERVENED"}
