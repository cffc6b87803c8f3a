"""Whether one class takes all that another matches: a yes is a proof."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from router.complexity.features import USE_CASES
from router.domain.request import Prompt, Request, RequestId
from router.domain.slo import Match, RequestClass
from router.policy.checks.cover import covers
from router.policy.match import ClassMatcher

FEW = st.sampled_from
PATTERNS = st.lists(st.text("ab*?[]", max_size=3) | FEW(["a", "ab", "*", "a*", "*b"]), max_size=2).map(tuple)
TOPICS = st.lists(FEW(["a", "a/b", "a/+", "a/#", "+/b", "#", "+", "a/b/#", "+/+", "a/#"]), max_size=2).map(tuple)
PAIRS = st.dictionaries(FEW("xy"), FEW(["a", "a*", "*", "?"]), max_size=2).map(lambda d: tuple(sorted(d.items())))
BOUND = st.none() | st.integers(0, 4)
FIELDS = {
    "classes": PATTERNS,
    "topics": TOPICS,
    "tenants": PATTERNS,
    "models": PATTERNS,
    "use_cases": st.lists(FEW(["chat", "c*", "code", "*", "??at", "qa"]), max_size=2).map(tuple),
    "attributes": PAIRS,
    "min_input_tokens": BOUND,
    "max_input_tokens": BOUND,
}


@st.composite
def matches(draw: st.DrawFn) -> Match:
    """At most three conditions: of two that say more, hardly one covers the other."""
    fields = draw(st.lists(FEW(sorted(FIELDS)), unique=True, max_size=3))
    return Match(**{field: draw(FIELDS[field]) for field in fields})


@st.composite
def near(draw: st.DrawFn, wide: Match) -> Match:
    """The same match with a condition more, or another one."""
    fields = draw(st.lists(FEW(sorted(FIELDS)), unique=True, min_size=1, max_size=2))
    return replace(wide, **{field: draw(FIELDS[field]) for field in fields})


TEXTS = FEW(["", "a", "b", "ab", "aab", "[", "a]", "bb"])
REQUESTS = st.builds(
    Request,
    id=st.just(RequestId("r")),
    arrived=st.just(0.0),
    at=st.just(0.0),
    prompt=st.just(Prompt("hello")),
    input_tokens=st.integers(0, 5),
    tenant=TEXTS,
    topic=FEW(["", "a", "b", "a/b", "a/b/c", "c/b", "a/"]),
    model=st.none() | TEXTS,
    request_class=st.none() | TEXTS,
    attributes=st.dictionaries(FEW("xy"), FEW(["a", "ab", "b", ""]), max_size=2).map(
        lambda d: tuple(sorted(d.items()))
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.data(), st.lists(st.tuples(REQUESTS, FEW(USE_CASES)), min_size=10, max_size=10))
def test_what_is_covered_is_never_reached(data: st.DataObject, asked: list[tuple[Request, str]]) -> None:
    """Tried after a class that covers it, a class gets no request, but those that ask for it by name."""
    wide = data.draw(matches())
    narrow = data.draw(near(wide) | matches())
    assume(covers(wide, narrow))
    matcher = ClassMatcher(
        [
            RequestClass("wide", wide),
            RequestClass("narrow", narrow),
            RequestClass("last", Match(classes=("*",))),
            RequestClass("default"),
        ]
    )
    assert all(matcher.classify(request, use_case).name != "narrow" for request, use_case in asked)


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        (Match(), Match(), True),
        (Match(), Match(tenants=("a",)), True),
        (Match(tenants=("a",)), Match(), False),
        (Match(tenants=("*",)), Match(), True),
        (Match(tenants=("ac*", "b")), Match(tenants=("acme", "acid*")), True),
        (Match(tenants=("*-eu",)), Match(tenants=("*corp-eu",)), True),
        (Match(tenants=("ac*",)), Match(tenants=("acme", "b")), False),
        (Match(tenants=("ac*",)), Match(tenants=("ab*",)), False),
        (Match(tenants=("*me",)), Match(tenants=("*e",)), False),
        (Match(topics=("a/#",)), Match(topics=("a", "a/b", "a/+/c/#")), True),
        (Match(topics=("a/+",)), Match(topics=("a/#",)), False),
        (Match(topics=("+/b",)), Match(topics=("a/b",)), True),
        (Match(topics=("#",)), Match(), True),
        (Match(use_cases=USE_CASES), Match(), True),
        (Match(use_cases=("c*",)), Match(use_cases=("code", "chat")), True),
        (Match(use_cases=("code",)), Match(use_cases=("c*",)), False),
        (Match(attributes=(("x", "a*"),)), Match(attributes=(("x", "ab"), ("y", "1"))), True),
        (Match(attributes=(("x", "a"), ("y", "1"))), Match(attributes=(("x", "a"),)), False),
        (Match(min_input_tokens=5), Match(min_input_tokens=5, max_input_tokens=9), True),
        (Match(min_input_tokens=5), Match(max_input_tokens=9), False),
        (Match(max_input_tokens=9), Match(max_input_tokens=9, tenants=("a",)), True),
        (Match(max_input_tokens=9), Match(min_input_tokens=1), False),
        (Match(min_input_tokens=0), Match(), True),
        (Match(), Match(classes=("x",)), False),
        (Match(classes=("x*",)), Match(classes=("xy",)), True),
    ],
)
def test_each_condition_is_compared(wide: Match, narrow: Match, covered: bool) -> None:
    """Wildcards at an end, topic levels, sets of use cases, ranges; a request that names its class is asked apart."""
    assert covers(wide, narrow) is covered
