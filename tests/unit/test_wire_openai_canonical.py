"""One spelling for all requests that ask for the same answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from router.domain.request import Request
from router.domain.slo import Ceiling, Parameters
from router.wire.openai import Envelope, read_request
from router.wire.openai.canonical import LEFT_OUT, Canonical, canonical

MESSAGES = [{"role": "user", "content": "hi 1.0"}]


def request(payload: bytes | None = None, **fields: Any) -> Request:
    body = json.dumps({"messages": MESSAGES, **fields}).encode() if payload is None else payload
    return read_request(body, Envelope(id="r", arrived=0.0, at=0.0, source="test"))


def question(parameters: Parameters | None = None, **fields: Any) -> Canonical:
    found = canonical(request(**fields), parameters or Parameters())
    assert found is not None
    return found


SAME = [
    ({"temperature": 0}, {"temperature": 0.0}),
    ({"seed": 7}, {"seed": 7.0}),
    ({"top_p": 0.5}, {"top_p": 5e-1}),
    ({"stop": None}, {}),
    ({"max_tokens": 9}, {"max_completion_tokens": 9}),
    ({"logit_bias": {"1": 2, "3": 4}}, {"logit_bias": {"3": 4, "1": 2.0}}),
]
OTHER = [
    ({"temperature": 0}, {"temperature": 0.1}),
    ({"temperature": 0}, {}),
    ({"max_tokens": 9}, {"max_tokens": 10}),
    ({"n": 1}, {"n": 2}),
    ({"seed": 1}, {"seed": 2}),
    ({"stop": "a"}, {"stop": "b"}),
    ({"min_p": 0.1}, {}),
    ({"cache_salt": "a"}, {"cache_salt": "b"}),
    ({"response_format": {"type": "json_object"}}, {}),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, {}),
    ({"logprobs": True}, {"logprobs": False}),
    ({"messages": [{"role": "user", "content": "hi 1"}]}, {}),
]


@pytest.mark.parametrize(("one", "two"), SAME)
def test_the_same_question_has_one_spelling(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Order of keys, form of numbers, null for absent, the two names of the token bound."""
    assert question(**one).body == question(**two).body


@pytest.mark.parametrize(("one", "two"), OTHER)
def test_another_question_has_another(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Whatever may change the answer is in, also fields that this router does not know, and text to the letter."""
    assert question(**one).body != question(**two).body


VALUES: dict[str, Any] = {
    "model": "auto",
    "stream": True,
    "stream_options": {"include_usage": True},
    "metadata": {"a": "b"},
    "store": True,
}


@pytest.mark.parametrize("field", sorted(set(LEFT_OUT) - {"max_completion_tokens"}))
def test_what_only_delivers_is_left_out(field: str) -> None:
    """Each with its reason."""
    assert question(**{field: VALUES.get(field, "x")}).body == question().body
    assert LEFT_OUT[field]


def test_the_classs_parameters_are_filled_in_where_the_request_is_silent() -> None:
    """Asking for it and having it filled in are one question; what the sender says goes first."""
    terms = Parameters(temperature=0.0, top_p=0.1, top_k=5, max_tokens=64)
    asked = question(temperature=0, top_p=0.1, top_k=5, max_tokens=64)
    assert question(terms) == asked
    assert question(terms, temperature=None) == asked
    assert question(terms, temperature=0.7).temperature == 0.7
    assert question(terms, max_completion_tokens=9).body == question(terms, max_tokens=9).body


def test_the_temperature_in_force_is_told() -> None:
    """`None` where only the backend knows it."""
    assert question().temperature is None
    assert question(temperature=0).temperature == 0.0
    assert question(Parameters(temperature=0.0)).temperature == 0.0
    assert question(Parameters(temperature=0.0), temperature=1).temperature == 1.0


def test_a_learned_bound_is_no_part_of_the_question() -> None:
    """It moves; a fixed one, or none, is what the request asks."""
    learned = Parameters(ceiling=Ceiling(256))
    assert not question(learned).is_bounded
    assert question(learned, max_tokens=9).is_bounded
    assert question().is_bounded
    assert question(Parameters(max_tokens=9)).is_bounded


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{",
        b'{"messages":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_what_cannot_be_read_is_no_question(payload: bytes) -> None:
    """A workload without bodies, or nesting that no parser follows, is not cached; nothing is raised."""
    assert canonical(replace(request(), payload=payload), Parameters()) is None


def test_numbers_that_no_double_holds_stay_apart() -> None:
    """Neither rounding nor overflow makes two questions one."""
    bodies = [
        canonical(replace(request(), payload=b'{"messages":[],"x":%b}' % number), Parameters())
        for number in (b"1e999", b"-1e999", b"9007199254740993", b"9007199254740992", b"0.1", b"null", b'""')
    ]
    assert len({found.body for found in bodies if found is not None}) == len(bodies)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6).map(lambda name: f"x_{name}"), json_values, max_size=5))
def test_spelling_is_stable(fields: dict[str, Any]) -> None:
    """However a body is indented, escaped and ordered, its spelling is the same; and spelling it again changes
    nothing."""
    given_body = {"messages": MESSAGES, **fields}
    turned = json.dumps(dict(reversed(given_body.items())), indent=2, ensure_ascii=False).encode()
    one, two = (
        canonical(replace(request(), payload=payload), Parameters())
        for payload in (json.dumps(given_body).encode(), turned)
    )
    assert one is not None
    assert one == two
    again = canonical(replace(request(), payload=one.body), Parameters())
    assert again is not None
    assert again.body == one.body
