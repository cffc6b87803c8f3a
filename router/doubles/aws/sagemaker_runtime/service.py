"""The operations of sagemaker-runtime."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec

from router.doubles.aws.call import AwsError, Call, Event, Json
from router.doubles.aws.models import Answer, Bill, cut
from router.doubles.aws.sagemaker_runtime import containers
from router.doubles.aws.sagemaker_runtime.endpoint import Endpoint, Variant
from router.doubles.aws.world import World

_NEW_SESSION = "NEW_SESSION"


class SageMakerRuntime:
    """InvokeEndpoint and InvokeEndpointWithResponseStream. Without endpoints in the world every name is one that speaks
    OpenAI."""

    service = "sagemaker-runtime"

    def __init__(self, world: World) -> None:
        self._world = world

    async def invoke_endpoint(self, call: Call) -> Json:
        """One body in, one body out; a list of inputs is answered by a list."""
        endpoint, variant, asked = self._begin(call)
        opened = self._session(endpoint, variant, call)
        prompts = asked.get("inputs", "")
        is_list = isinstance(prompts, list)
        limit = containers.limit_of(asked)
        answers = [cut(variant.answer(call), limit) for _ in (prompts if is_list else (prompts,))]
        await self._load(endpoint, variant)
        await self._world.sleep(_whole_s(variant, answers, len(call.params["Body"]), is_list=is_list))
        self._bill(call, variant, answers)
        body = self._said(endpoint, asked, answers)
        return {
            "Body": body,
            "ContentType": "application/json",
            "InvokedProductionVariant": variant.name,
            "NewSessionId": opened,
        }

    async def invoke_endpoint_with_response_stream(self, call: Call) -> Json:
        """One body in, parts out."""
        endpoint, variant, asked = self._begin(call)
        self._session(endpoint, variant, call)
        if not asked.get("stream"):
            raise containers.model_error(400, "the body does not ask for a stream")
        answer = cut(variant.answer(call), containers.limit_of(asked))
        return {
            "Body": self._parts(endpoint, variant, asked, answer, call),
            "ContentType": "application/jsonlines" if endpoint.lines else "text/event-stream",
            "InvokedProductionVariant": variant.name,
        }

    def _begin(self, call: Call) -> tuple[Endpoint, Variant, Json]:
        endpoints, name = self._world.endpoints, call.params["EndpointName"]
        endpoint = endpoints.get(name)
        if endpoint is None:
            if endpoints:
                raise AwsError("ValidationError", f"Endpoint {name} of account {call.account} not found.")
            endpoint = endpoints[name] = Endpoint(name)
        variant = endpoint.variant(call)
        variant.served += 1
        return endpoint, variant, containers.read_body(endpoint.payload, call.params["Body"])

    def _session(self, endpoint: Endpoint, variant: Variant, call: Call) -> str | None:
        """What is said of a session that this call opens; `AwsError` for one that is not open."""
        asked, at = call.params.get("SessionId"), self._world.at()
        if asked is None:
            return None
        if asked != _NEW_SESSION:
            if endpoint.sessions.get(asked, ("", 0.0))[1] <= at:
                raise AwsError("ValidationError", f"Session {asked} is closed or has expired.")
            return None
        if not endpoint.stateful:
            raise AwsError("ValidationError", "The model of this endpoint did not open a session.")
        name, ends = secrets.token_hex(8), at + endpoint.session_s
        endpoint.sessions[name] = (variant.name, ends)
        return f"{name}; Expires={datetime.fromtimestamp(ends, UTC):%Y-%m-%dT%H:%M:%SZ}"

    async def _load(self, endpoint: Endpoint, variant: Variant) -> None:
        """Wait for a model that has not been called for a while to be loaded."""
        key, now = f"{endpoint.name}/{variant.name}", self._world.now()
        if self._world.warm_until.get(key, -1.0) < now and variant.speed.cold_start_s:
            await self._world.sleep(variant.speed.cold_start_s)
        self._world.warm_until[key] = self._world.now() + variant.speed.warm_s

    def _said(self, endpoint: Endpoint, asked: Json, answers: list[Answer]) -> bytes:
        if endpoint.payload == "openai":
            return containers.chat(answers[0], _words(asked))
        inputs = asked["inputs"]
        is_list = isinstance(inputs, list)
        prompts = (inputs if is_list else [inputs]) if endpoint.echoes else [""] * len(answers)
        details = bool(asked["parameters"].get("details"))
        return containers.generated(answers, prompts, details=details)

    async def _parts(
        self, endpoint: Endpoint, variant: Variant, asked: Json, answer: Answer, call: Call
    ) -> AsyncIterator[Event]:
        speed = variant.speed
        await self._load(endpoint, variant)
        await self._world.sleep(speed.first_token_s + speed.input_token_s * _words(asked))
        if endpoint.payload == "openai":
            events = containers.chat_chunks(answer, _words(asked))
        else:
            events = containers.tokens(answer, details=bool(asked["parameters"].get("details")))
        for number, event in enumerate(events):
            if 0 < number < len(answer.pieces):
                await self._world.sleep(speed.output_token_s)
            for part in _cut(_framed(event, lines=endpoint.lines), endpoint.part_bytes):
                yield "PayloadPart", {"Bytes": part}
        if endpoint.payload == "openai" and not endpoint.lines:
            yield "PayloadPart", {"Bytes": b"data: [DONE]\n\n"}
        self._bill(call, variant, [answer])

    def _bill(self, call: Call, variant: Variant, answers: list[Answer]) -> None:
        """Instances are paid by the hour: a line says that the call was served, and costs nothing."""
        bill = Bill(
            at=self._world.at(),
            operation=call.operation,
            model=f"{call.params['EndpointName']}/{variant.name}",
            model_id=call.params["EndpointName"],
            region=call.region,
            account=call.account,
            tier="default",
            latency="standard",
            input_tokens=0,
            output_tokens=sum(len(answer.pieces) for answer in answers),
            cache_read_tokens=0,
            cache_write_tokens=0,
            usd=0.0,
        )
        self._world.bills.append(bill)


def _words(asked: Json) -> int:
    """Words of what is asked: its input tokens, as the double counts them."""
    return len(str(asked.get("inputs") or asked.get("messages")).split())


def _whole_s(variant: Variant, answers: list[Answer], size: int, *, is_list: bool) -> float:
    if is_list:
        return variant.batch_s + variant.item_s * len(answers)
    speed = variant.speed
    return (
        speed.first_token_s + speed.output_token_s * max(len(answers[0].pieces) - 1, 0) + speed.input_token_s * size / 5
    )


def _framed(event: Json, *, lines: bool) -> bytes:
    text = msgspec.json.encode(event)
    return text + b"\n" if lines else b"data: " + text + b"\n\n"


def _cut(text: bytes, size: int | None) -> list[bytes]:
    return [text] if size is None else [text[at : at + size] for at in range(0, len(text), size)]
