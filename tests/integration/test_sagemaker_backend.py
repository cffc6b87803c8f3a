"""`router.backends.aws.sagemaker` and the double's endpoints, through the real SDK over loopback sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aioboto3
import msgspec
import pytest

from router.backends.aws.sagemaker import SageMakerBackend
from router.backends.aws.sessions import Clients
from router.domain.aws.terms import AwsTerms, Payload
from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.errors import BackendError, Overloaded, ProtocolError, Refused, Throttled, TimedOut
from router.domain.outcome import Attempt, AttemptId, Delta, Usage
from router.doubles.aws.faults import Fault, How
from router.doubles.aws.models import Answer, Speed
from router.doubles.aws.sagemaker_runtime.endpoint import Endpoint, Variant
from router.doubles.aws.server import AwsDouble, aws_double
from router.wire.openai import Envelope, assemble, read_request

HI: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(autouse=True)
def _no_aws_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
async def double() -> AsyncIterator[AwsDouble]:
    async with aws_double() as one:
        yield one
    assert one.world.drift == []


@pytest.fixture
async def backend() -> AsyncIterator[SageMakerBackend]:
    session = aioboto3.Session(aws_access_key_id="test", aws_secret_access_key="test")
    one = SageMakerBackend(Clients(session))
    yield one
    await one.close()


def endpoint(double: AwsDouble, **what: Any) -> Endpoint:
    """The endpoint that attempts are for, in place of the one before."""
    one = double.world.endpoints["e"] = Endpoint("e", **what)
    return one


def attempt(
    double: AwsDouble,
    body: dict[str, Any] | None = None,
    terms: AwsTerms | None = None,
    *,
    stream: bool = True,
    kind: Kind = Kind.CONTINUOUS,
    max_tokens: int | None = None,
) -> Attempt:
    deployment = Deployment(
        name=DeploymentName("d"),
        group="d",
        model="m",
        tier=Tier.LARGE,
        kind=kind,
        address=Address("sagemaker", "e", url=double.url, region="eu-west-1", aws=terms),
        price=Price(1, 1),
    )
    payload = msgspec.json.encode(body or HI)
    return Attempt(
        id=AttemptId("a"),
        decision_id=DecisionId("d"),
        request=read_request(payload, Envelope(id="r", arrived=0.0, at=0.0, source="test")),
        deployment=deployment,
        number=1,
        started=0.0,
        deadline=asyncio.get_running_loop().time() + 60.0,
        stream=stream,
        max_tokens=max_tokens,
    )


async def pieces(backend: SageMakerBackend, to: Attempt) -> list[Delta]:
    return [delta async for delta in backend.open(to)]


def text_of(deltas: list[Delta]) -> str:
    (choice,) = msgspec.json.decode(assemble(deltas))
    said: str = choice["message"]["content"]
    return said


async def failure(backend: SageMakerBackend, to: Attempt) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await pieces(backend, to)
    return caught.value


def sent(double: AwsDouble) -> dict[str, Any]:
    """Parameters of the last call, and the JSON of its body as `Body`."""
    params = double.world.calls[-1].params
    return {**params, "Body": msgspec.json.decode(params["Body"])}


PAYLOADS = {"openai": AwsTerms(payload=Payload.OPENAI), "tgi": AwsTerms(payload=Payload.TGI)}


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


@pytest.mark.parametrize("stream", [True, False])
async def test_the_variant_that_served_is_told(double: AwsDouble, backend: SageMakerBackend, stream: bool) -> None:
    """The one that is asked for, else the one that the weights chose."""
    endpoint(double, variants=[Variant("blue", 3.0), Variant("green", 1.0)])
    named = await pieces(backend, attempt(double, terms=AwsTerms(variant="green"), stream=stream))
    assert {delta.served_as for delta in named if delta.served_as} == {"green"}
    assert sent(double)["TargetVariant"] == "green"
    seen = [await pieces(backend, attempt(double, stream=stream)) for _ in range(7)]
    assert [next(d.served_as for d in deltas if d.served_as) for deltas in seen].count("green") == 1


async def test_a_component_is_asked_for(double: AwsDouble, backend: SageMakerBackend) -> None:
    """By name, where an endpoint holds several models; without it such an endpoint refuses."""
    endpoint(double, components={"llama": "AllTraffic"})
    deltas = await pieces(backend, attempt(double, terms=AwsTerms(component="llama")))
    assert text_of(deltas)
    assert sent(double)["InferenceComponentName"] == "llama"
    assert isinstance(await failure(backend, attempt(double)), Refused)


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


ERRORS: dict[str, tuple[Fault, type[BackendError]]] = {
    "throttling": (Fault(code="ThrottlingException", retry_after_s=7.0), Throttled),
    "model not ready": (Fault(code="ModelNotReadyException"), Overloaded),
    "service unavailable": (Fault(code="ServiceUnavailable"), Overloaded),
    "validation": (Fault(code="ValidationError"), Refused),
    "internal failure": (Fault(code="InternalFailure"), BackendError),
    "internal dependency": (Fault(code="InternalDependencyException"), Overloaded),
    "model error": (Fault(code="ModelError"), BackendError),
    "container throttles": (Fault(code="ModelError", fields={"OriginalStatusCode": 429}), Throttled),
    "container busy": (Fault(code="ModelError", fields={"OriginalStatusCode": 503}), Overloaded),
    "container too slow": (Fault(code="ModelError", fields={"OriginalStatusCode": 504}), TimedOut),
    "container refuses": (Fault(code="ModelError", fields={"OriginalStatusCode": 422}), Refused),
    "container fails": (Fault(code="ModelError", fields={"OriginalStatusCode": 500}), BackendError),
    "forbidden": (Fault(code="AccessDeniedException"), Refused),
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("row", ERRORS)
async def test_errors(double: AwsDouble, backend: SageMakerBackend, row: str, stream: bool) -> None:
    """Every modelled exception, as the SDK raises it, in the router's tree; called once."""
    fault, kind = ERRORS[row]
    double.world.faults.append(fault)
    error = await failure(backend, attempt(double, stream=stream))
    assert type(error) is kind
    assert error.retry_after_s == fault.retry_after_s
    assert len(double.world.calls) == 1


async def test_a_prompt_that_does_not_fit_is_told(double: AwsDouble, backend: SageMakerBackend) -> None:
    """By the container's words, so that it is not tried on the same window again."""
    said = "This model's maximum context length is 4096 tokens."
    double.world.faults.append(Fault(code="ModelError", message=said, fields={"OriginalStatusCode": 400}))
    error = await failure(backend, attempt(double))
    assert (type(error), error.code) == (Refused, "context_length_exceeded")


IN_STREAM: dict[str, tuple[Fault, type[BackendError]]] = {
    "time exceeded": (
        Fault(
            How.EXCEPTION,
            "ModelStreamError",
            after=2,
            fields={"Message": "too slow", "ErrorCode": "ModelInvocationTimeExceeded"},
        ),
        TimedOut,
    ),
    "stream broken": (
        Fault(
            How.EXCEPTION,
            "ModelStreamError",
            after=2,
            fields={"Message": "connection lost", "ErrorCode": "StreamBroken"},
        ),
        ProtocolError,
    ),
    "internal": (Fault(How.EXCEPTION, "InternalStreamFailure", after=2), ProtocolError),
    "cut": (Fault(How.CUT, after=2), ProtocolError),
    "garbage": (Fault(How.GARBAGE, after=2), ProtocolError),
    "silent end": (Fault(How.SILENT_END, after=2), ProtocolError),
}


@pytest.mark.parametrize("row", IN_STREAM)
async def test_errors_in_the_stream(double: AwsDouble, backend: SageMakerBackend, row: str) -> None:
    """After the pieces that came; nothing says that the answer is complete."""
    fault, kind = IN_STREAM[row]
    endpoint(double, variants=[Variant(answer_tokens=20)])
    double.world.faults.append(fault)
    seen: list[Delta] = []
    with pytest.raises(BackendError) as caught:  # noqa: PT012  # a stream is read piece by piece
        async for delta in backend.open(attempt(double)):
            seen.append(delta)  # noqa: PERF401  # what came before the error counts
    assert type(caught.value) is kind
    assert sum(delta.tokens for delta in seen) == 2
    assert not any(delta.finish_reason for delta in seen)


async def test_what_the_container_streams_as_an_error(double: AwsDouble, backend: SageMakerBackend) -> None:
    """LMI answers 200 and says in the details that generating failed."""

    endpoint(double, payload="tgi", variants=[Variant(says=Answer(("a ",), stop_reason="error"))])
    for stream in (True, False):
        error = await failure(backend, attempt(double, terms=PAYLOADS["tgi"], stream=stream))
        assert type(error) is BackendError


async def test_cancelled_streams_free_their_connections(double: AwsDouble, backend: SageMakerBackend) -> None:
    """A hundred calls left after their first piece hold nothing at the far side."""
    endpoint(double)
    double.world.faults.append(Fault(How.HANG, after=2))
    for _ in range(100):
        answer = backend.open(attempt(double))
        await anext(answer)
        await answer.aclose()
    async with asyncio.timeout(60.0):
        while double.world.serving:
            await asyncio.sleep(0.01)


async def test_a_cold_variant_is_loaded_once(double: AwsDouble, backend: SageMakerBackend) -> None:
    """Before its first answer, and again when nobody has called it for a while; then it is as fast as it is."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    now = [0.0]
    double.world.sleep, double.world.now = sleep, lambda: now[0]
    endpoint(double, variants=[Variant(speed=Speed(0.2, 0.0, 0.05, cold_start_s=30.0, warm_s=60.0), answer_tokens=3)])
    for at in (0.0, 10.0, 71.0):
        now[0] = at
        await pieces(backend, attempt(double))
    assert slept == [30.0, 0.2, 0.05, 0.05, 0.2, 0.05, 0.05, 30.0, 0.2, 0.05, 0.05]


STICKY = AwsTerms(sticky=True)
OURS = {**HI, "metadata": {"session": "ours"}}


async def test_a_conversation_keeps_to_its_session(double: AwsDouble, backend: SageMakerBackend) -> None:
    """Its first turn opens one and comes whole, as only that operation opens sessions; the next are streamed from the
    same instance. Another conversation has a session of its own, and what names none is not sticky."""
    one = endpoint(double, stateful=True, variants=[Variant("blue"), Variant("green")])
    first = await pieces(backend, attempt(double, OURS, STICKY))
    assert sent(double)["SessionId"] == "NEW_SESSION"
    assert first[0].whole
    for _ in range(3):
        deltas = await pieces(backend, attempt(double, OURS, STICKY))
        assert sent(double)["SessionId"] in one.sessions
        assert not any(delta.whole for delta in deltas)
        assert deltas[0].served_as == first[0].served_as
    await pieces(backend, attempt(double, {**HI, "metadata": {"session": "theirs"}}, STICKY))
    assert len(one.sessions) == 2
    await pieces(backend, attempt(double, HI, STICKY))
    assert "SessionId" not in sent(double)


async def test_a_session_that_ended_is_opened_anew(double: AwsDouble, backend: SageMakerBackend) -> None:
    """The call that finds out may be tried again, and then opens another."""
    one = endpoint(double, stateful=True)
    await pieces(backend, attempt(double, OURS, STICKY))
    one.sessions.clear()
    error = await failure(backend, attempt(double, OURS, STICKY))
    assert isinstance(error, Overloaded)
    assert text_of(await pieces(backend, attempt(double, OURS, STICKY)))
    assert len(one.sessions) == 1


async def test_a_batch_is_one_call(double: AwsDouble, backend: SageMakerBackend) -> None:
    """A list of inputs, and an answer to each in order."""
    endpoint(double, payload="jumpstart", variants=[Variant("v", answer_tokens=3)])
    prompts = [{"messages": [{"role": "user", "content": f"number {i}"}]} for i in range(4)]
    batch = tuple(attempt(double, body, kind=Kind.BATCH, max_tokens=5) for body in prompts)
    deltas = [one for one in await backend.run_batch(batch) if isinstance(one, Delta)]
    assert sent(double)["Body"]["inputs"] == [f"User: number {i}\n\nAssistant:" for i in range(4)]
    assert len(double.world.calls) == 1
    assert [(d.whole, d.finish_reason, d.served_as) for d in deltas] == [(True, "stop", "v")] * 4


async def test_parameters_hold_for_a_whole_list(double: AwsDouble, backend: SageMakerBackend) -> None:
    """Those who ask for others go in a call of their own, and the answers are in order all the same."""
    names = iter("acb")
    endpoint(double, payload="jumpstart", variants=[Variant(says=lambda call: Answer((next(names),)))])
    bounds = (5, 9, 5)
    deltas = await backend.run_batch(tuple(attempt(double, kind=Kind.BATCH, max_tokens=n) for n in bounds))
    assert [text_of([delta]) for delta in deltas if isinstance(delta, Delta)] == ["a", "b", "c"]
    assert len(double.world.calls) == 2


async def test_what_was_answered_before_a_later_call_failed_is_given_out(
    double: AwsDouble, backend: SageMakerBackend
) -> None:
    """The first list is answered and paid: only those of the second have an error."""
    calls = iter((Answer(("a",)), Answer(("b",))))

    def says(call: Any) -> Answer:
        answer = next(calls)
        double.world.faults.append(Fault(code="ServiceUnavailable", times=1))
        return answer

    endpoint(double, payload="jumpstart", variants=[Variant(says=says)])
    batch = tuple(attempt(double, kind=Kind.BATCH, max_tokens=n) for n in (5, 9))
    first, second = await backend.run_batch(batch)
    assert isinstance(first, Delta)
    assert text_of([first]) == "a"
    assert isinstance(second, Overloaded)


async def test_a_batch_that_fails_says_so(double: AwsDouble, backend: SageMakerBackend) -> None:
    """As a whole; so does an endpoint that gives fewer answers than it was asked for."""
    endpoint(double, payload="jumpstart")
    double.world.faults.append(Fault(code="ServiceUnavailable", times=1))
    with pytest.raises(Overloaded):
        await backend.run_batch((attempt(double, kind=Kind.BATCH),))
    with pytest.raises(Refused, match="jumpstart"):
        await backend.run_batch((attempt(double, terms=PAYLOADS["openai"], kind=Kind.BATCH),))
