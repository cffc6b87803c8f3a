"""Lines of batch jobs: what goes in, and what is made of what comes out."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.backends.aws.jobs.answers import answered
from router.domain.errors import ProtocolError
from router.wire.aws.job_records import read_line, write_line

ANSWER = {
    "output": {"message": {"role": "assistant", "content": [{"text": "hello"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 7, "outputTokens": 2, "totalTokens": 9},
}


def test_a_line_of_input_is_json_with_an_id_of_eleven_characters() -> None:
    """As Bedrock's own ids are; the model input is passed on as it is."""
    line = json.loads(write_line(42, b'{"messages":[]}'))
    assert line == {"recordId": "R0000000042", "modelInput": {"messages": []}}
    assert write_line(1, b"{}").endswith(b"}\n")


def test_an_answer_comes_back_under_the_key_of_its_record() -> None:
    """Whole, with usage."""
    line = json.dumps({"recordId": "R0000000001", "modelInput": {}, "modelOutput": ANSWER}).encode()
    found = answered(line, ("a", "b"))
    assert (found.key, found.error) == ("b", None)
    assert found.delta is not None
    assert (found.delta.whole, found.delta.tokens, found.delta.finish_reason) == (True, 2, "stop")
    assert json.loads(found.answer) == ANSWER


def test_an_error_is_told_without_the_words_of_the_sender() -> None:
    """Only its code goes on."""
    line = json.dumps({"recordId": "R0000000000", "error": {"errorCode": 400, "errorMessage": "secret"}}).encode()
    found = answered(line, ("a",))
    assert (found.key, found.delta, found.error) == ("a", None, "error 400")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"[]",
        b'{"recordId": "Rx", "modelOutput": {}}',
        b'{"recordId": "R0000000009", "modelOutput": {}}',
        b'{"recordId": "R-000000001", "modelOutput": {}}',
    ],
)
def test_a_line_that_is_none_belongs_to_nobody(line: bytes) -> None:
    """Nonsense, or a record that was never in the job."""
    found = answered(line, ("a", "b"))
    assert (found.key, found.delta) == ("", None)


@pytest.mark.parametrize("output", [{}, {"output": 1}, None])
def test_an_answer_that_cannot_be_read_is_an_error_of_its_record(output: object) -> None:
    """Who waits for it is sent elsewhere."""
    found = answered(json.dumps({"recordId": "R0000000000", "modelOutput": output}).encode(), ("a",))
    assert (found.key, found.delta) == ("a", None)
    assert found.error


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_protocol_error(line: bytes) -> None:
    """Whatever lies in the bucket."""
    with contextlib.suppress(ProtocolError):
        read_line(line)
    assert answered(line, ("a",)).delta is None
