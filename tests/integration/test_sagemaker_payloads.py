"""What containers on SageMaker are sent and say, through the real SDK against the endpoints of the AWS double."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from router.backends.aws.sagemaker import SageMakerBackend
from router.domain.aws.terms import AwsTerms, Payload
from router.domain.errors import Refused
from router.domain.outcome import Usage
from router.doubles.aws.models import Answer
from router.doubles.aws.sagemaker_runtime.endpoint import Variant
from router.doubles.aws.server import AwsDouble, aws_double
from tests.integration.sagemaker_calls import HI, PAYLOADS, attempt, endpoint, failure, opened, pieces, sent, text_of


@pytest.fixture
async def double() -> AsyncIterator[AwsDouble]:
    async with aws_double() as one:
        yield one
    assert one.world.drift == []


@pytest.fixture
async def backend() -> AsyncIterator[SageMakerBackend]:
    async with opened() as one:
        yield one


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000, None])
@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("payload", PAYLOADS)
async def test_a_stream_reads_the_same_wherever_it_is_cut(
    double: AwsDouble, backend: SageMakerBackend, payload: str, size: int | None, lines: bool
) -> None:
    """In parts of any size, through the middle of a letter or of an event, as events and as lines."""
    said = ("größer ", "als ", "日本 ", "!")
    endpoint(double, payload=payload, part_bytes=size, lines=lines, variants=[Variant(says=Answer(said))])
    deltas = await pieces(backend, attempt(double, terms=PAYLOADS[payload]))
    assert text_of(deltas) == "".join(said)
    assert sum(delta.tokens for delta in deltas) == len(said)
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("payload", PAYLOADS)
async def test_the_container_counts_the_tokens(
    double: AwsDouble, backend: SageMakerBackend, payload: str, stream: bool
) -> None:
    """Where it does not say how long the prompt was, that stays as we counted it: TGI says it with a stream only."""
    says = Answer(("a ", "b "), input_tokens=40, output_tokens=9, stop_reason="max_tokens")
    endpoint(double, payload=payload, variants=[Variant(says=says)])
    asked = attempt(double, terms=PAYLOADS[payload], stream=stream)
    deltas = await pieces(backend, asked)
    counted = 40 if payload == "openai" or stream else asked.request.input_tokens
    assert [delta.usage for delta in deltas if delta.usage] == [Usage(counted, 9)]
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["length"]


async def test_chat_goes_out_as_it_came(double: AwsDouble, backend: SageMakerBackend) -> None:
    """A container that speaks OpenAI gets the sender's body, without a model name that it would not know."""
    endpoint(double)
    body = {**HI, "model": "auto", "seed": 3, "tools": [{"type": "function", "function": {"name": "f"}}]}
    await pieces(backend, attempt(double, body))
    assert sent(double)["Body"] == {k: v for k, v in body.items() if k != "model"} | {
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_text_containers_are_given_a_transcript(double: AwsDouble, backend: SageMakerBackend) -> None:
    """Turns by speaker, the parameters in the container's words, and a stop before the user's next turn."""
    endpoint(double, payload="tgi", variants=[Variant(says=Answer((" Paris", ".", "\n", "User", ": next?")))])
    turns = [("system", "Be brief."), ("user", "Hello."), ("assistant", "Hi."), ("user", "The capital of France?")]
    body = {
        "messages": [{"role": role, "content": said} for role, said in turns],
        "temperature": 0.5,
        "top_p": 1.0,
        "max_tokens": 20,
        "stop": "###",
    }
    deltas = await pieces(backend, attempt(double, body, PAYLOADS["tgi"]))
    assert sent(double)["Body"] == {
        "inputs": "System: Be brief.\n\nUser: Hello.\n\nAssistant: Hi.\n\nUser: The capital of France?\n\nAssistant:",
        "parameters": {
            "max_new_tokens": 20,
            "do_sample": True,
            "temperature": 0.5,
            "stop": ["###", "\nUser:"],
            "return_full_text": False,
            "details": True,
        },
        "stream": True,
    }
    assert text_of(deltas) == "Paris."


@pytest.mark.parametrize("echoes", [False, True])
async def test_jumpstart_answers_whole(double: AwsDouble, backend: SageMakerBackend, echoes: bool) -> None:
    """Also where a stream is asked for; a container that repeats the prompt is not quoted with it."""
    endpoint(double, payload="jumpstart", echoes=echoes, variants=[Variant(says=Answer((" Paris", ".\nUser: x")))])
    (delta,) = await pieces(backend, attempt(double, terms=AwsTerms(payload=Payload.JUMPSTART)))
    assert delta.whole
    assert text_of([delta]) == "Paris."
    assert sent(double)["Body"]["parameters"] == {
        "max_new_tokens": 1024,
        "stop": ["\nUser:"],
        "return_full_text": False,
    }


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"n": 2},
        {"logprobs": True},
        {"response_format": {"type": "json_object"}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
    ],
)
async def test_text_containers_are_not_asked_for_more(
    double: AwsDouble, backend: SageMakerBackend, more: dict[str, Any]
) -> None:
    """What they cannot do is refused before anything is called."""
    error = await failure(backend, attempt(double, {**HI, **more}, PAYLOADS["tgi"]))
    assert (type(error), error.code) == (Refused, "unsupported")
    assert not double.world.calls
