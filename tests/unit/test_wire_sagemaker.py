"""What containers behind SageMaker endpoints are sent and how their answers are read, byte by byte."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from router.domain.aws.terms import AwsTerms, Payload
from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.errors import BackendError, Overloaded, ProtocolError, Refused
from router.domain.outcome import Attempt, AttemptId, Delta, Usage
from router.wire.aws.sagemaker.request import batches, payload_of, text_call
from router.wire.aws.sagemaker.response import read_text, read_texts
from router.wire.aws.sagemaker.stream import TokenReader
from router.wire.openai import Envelope, assemble, read_request

HI: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}


def attempt(
    body: dict[str, Any] = HI, kind: Kind = Kind.CONTINUOUS, aws: AwsTerms | None = None, **more: Any
) -> Attempt:
    deployment = Deployment(
        name=DeploymentName("d"),
        group="d",
        model="m",
        tier=Tier.SMALL,
        kind=kind,
        address=Address("sagemaker", "e", aws=aws),
        price=Price(1, 1),
    )
    request = read_request(msgspec.json.encode(body), Envelope(id="r", arrived=0.0, at=0.0, source="test"))
    return Attempt(AttemptId("a"), DecisionId("d"), request, deployment, 1, 0.0, None, True, **more)


CALL = text_call(attempt({**HI, "stop": ["##"]}), Payload.TGI)


def said(deltas: list[Delta]) -> str:
    choices = msgspec.json.decode(assemble(deltas))
    return str(choices[0]["message"]["content"]) if choices else ""


def event(text: str, **more: Any) -> bytes:
    token = {"text": text, "special": False} | more.pop("token", {})
    return b"data:" + msgspec.json.encode({"token": token, "generated_text": None, "details": None} | more) + b"\n\n"


def stream(*events: bytes) -> list[Delta]:
    reader = TokenReader(None, CALL)
    return [delta for one in events for delta in reader.feed(one)]


@pytest.mark.parametrize(
    ("kind", "aws", "payload"),
    [
        (Kind.CONTINUOUS, None, Payload.OPENAI),
        (Kind.CONTINUOUS, AwsTerms(variant="v"), Payload.OPENAI),
        (Kind.BATCH, None, Payload.JUMPSTART),
        (Kind.BATCH, AwsTerms(payload=Payload.TGI), Payload.TGI),
    ],
)
def test_the_payload_is_told_or_told_by_the_kind(kind: Kind, aws: AwsTerms | None, payload: Payload) -> None:
    """Chat completions for a server, lists for a batch container."""
    assert payload_of(attempt(kind=kind, aws=aws).deployment) is payload


@pytest.mark.parametrize(
    ("asked", "given", "parameters"),
    [
        ({}, {}, {}),
        ({"temperature": 0}, {"top_p": 0.5}, {"do_sample": False}),
        ({"temperature": 0.7, "top_p": 1}, {}, {"do_sample": True, "temperature": 0.7}),
        ({"top_k": -1}, {"top_k": 7}, {}),
        ({}, {"temperature": 0.2, "top_k": 7}, {"do_sample": True, "temperature": 0.2, "top_k": 7}),
        ({"temperature": 0.9}, {"temperature": 0.2}, {"do_sample": True, "temperature": 0.9}),
    ],
)
def test_sampling_in_the_containers_words(
    asked: dict[str, Any], given: dict[str, Any], parameters: dict[str, Any]
) -> None:
    """The sender's before the class's; the ends of ranges, which containers refuse, are left out."""
    fixed = {"max_new_tokens", "stop", "return_full_text", "details"}
    call = text_call(attempt({**HI, **asked}, **given), Payload.TGI)
    assert {name: value for name, value in call.parameters.items() if name not in fixed} == parameters


def test_the_turns_of_tools_are_refused() -> None:
    """A transcript has no words for them."""
    turn = {"role": "tool", "tool_call_id": "t", "content": "4"}
    with pytest.raises(Refused) as caught:
        text_call(attempt({"messages": [*HI["messages"], turn]}), Payload.TGI)
    assert (caught.value.code, caught.value.param) == ("unsupported", "messages[1]")


def test_lists_are_of_equal_parameters() -> None:
    """Each call is in one list, at its place."""
    calls = [text_call(attempt(max_tokens=n), Payload.JUMPSTART) for n in (5, 7, 5)]
    found = [(places, msgspec.json.decode(body)["parameters"]["max_new_tokens"]) for places, body in batches(calls)]
    assert found == [([0, 2], 5), ([1], 7)]


@pytest.mark.parametrize(
    "body",
    [
        b'{"generated_text": " yes"}',
        b'[{"generated_text": "yes"}]',
        b'[[{"generated_text": "yes"}]]',
        b'{"generation": "yes"}',
        b'[{"generated_text": "yes##no"}]',
        b'[{"generated_text": "User: Hi\\n\\nAssistant: yes\\nUser: and?"}]',
    ],
)
def test_whole_answers_in_every_shape(body: bytes) -> None:
    """One or a list, nested or not, with the prompt before it and what it was stopped at behind it."""
    answer = read_text(body, CALL)
    assert said([answer]) == "yes"
    assert (answer.whole, answer.finish_reason, answer.usage) == (True, "stop", None)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", ProtocolError),
        (b"[]", ProtocolError),
        (b"[[]]", ProtocolError),
        (b'{"outputs": "x"}', ProtocolError),
        (b'[{"generated_text": "a"}, {"generated_text": "b"}]', ProtocolError),
        (b'{"error": "Model is overloaded", "error_type": "overloaded"}', Overloaded),
        (b'{"error": "Input validation error", "error_type": "validation"}', Refused),
        (b'{"error": "CUDA", "error_type": "generation"}', BackendError),
        (b'{"error": "out of memory", "code": 424}', BackendError),
        (b'{"generated_text": "", "details": {"finish_reason": "error"}}', BackendError),
    ],
)
def test_what_is_no_answer(body: bytes, kind: type[BackendError]) -> None:
    """Errors of the container by their type; what cannot be read is no answer either."""
    with pytest.raises(BackendError) as caught:
        read_text(body, CALL)
    assert type(caught.value) is kind


def test_fewer_answers_than_inputs() -> None:
    """Nobody can tell whose is missing: the whole list fails."""
    with pytest.raises(ProtocolError, match="1 answers to 2 inputs"):
        read_texts(b'[{"generated_text": "a"}]', [CALL, CALL])


def test_a_stop_that_comes_in_pieces_is_not_shown() -> None:
    """Text is held while it may be the beginning of a stop, and let go when it is not."""
    end = event("", generated_text="", details={"finish_reason": "stop_sequence", "generated_tokens": 4})
    deltas = stream(event(" a #b"), event(" c #"), event("# d"), event(" e"), end)
    assert said(deltas) == "a #b c "
    assert [delta.tokens for delta in deltas] == [1, 1, 1, 1, 0]
    assert said(stream(event("a #"), event("b"), end)) == "a #b"
    assert said(stream(event("a #"), end)) == "a #"


def test_special_tokens_are_not_said() -> None:
    """Neither as TGI marks them nor as LMI does; the last event may say a word too."""
    end = event(
        "!", generated_text="Hi!", details={"finish_reason": "length", "generated_tokens": 3, "input_length": 9}
    )
    deltas = stream(
        event("<s>", token={"special": True}), event("Hi"), event("</s>", token={"special_token": True}), end
    )
    assert said(deltas) == "Hi!"
    assert (deltas[-1].finish_reason, deltas[-1].usage) == ("length", Usage(9, 3))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'data:{"error": "overloaded", "error_type": "overloaded"}\n\n', Overloaded),
        (b'data:{"error": "x", "error_type": "incomplete_generation"}\n\n', ProtocolError),
        (b"data:{}\n\n", ProtocolError),
        (b"data:nonsense\n\n", ProtocolError),
        (event("", generated_text="", details={"finish_reason": "error"}), BackendError),
    ],
)
def test_what_is_no_event(data: bytes, kind: type[BackendError]) -> None:
    """An error in the stream is raised by its type."""
    with pytest.raises(BackendError) as caught:
        stream(event("a"), data)
    assert type(caught.value) is kind


def test_a_line_without_end_is_not_kept_for_ever() -> None:
    """A container that never ends a line is given up."""
    reader = TokenReader("application/jsonlines", CALL)
    assert reader.feed(b"x" * 4 * 1024 * 1024) == []
    with pytest.raises(ProtocolError, match="longer than"):
        reader.feed(b"x")
