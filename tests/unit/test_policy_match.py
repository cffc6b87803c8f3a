from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.domain.errors import RequestError
from router.domain.request import Prompt, Request, RequestId
from router.domain.slo import Match, RequestClass
from router.policy.match import ClassMatcher, classify, topic_filter_problem

DEFAULT = RequestClass("default")


def request(**fields: object) -> Request:
    return Request(
        **{
            "id": RequestId("r1"),
            "arrived": 0.0,
            "at": 0.0,
            "prompt": Prompt("hello"),
            "input_tokens": 100,
            **fields,
        }
    )


def chosen(match: Match, asked: Request, use_case: str = "chat") -> bool:
    """Whether a class with this match takes the request, in front of one that matches everything."""
    return classify([RequestClass("tried", match=match), DEFAULT], asked, use_case).name == "tried"


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matches"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+", "a", False),
        ("a/+", "a/", True),
        ("+/requests/batch/#", "router/requests/batch/nightly/7", True),
        ("+/requests/batch/#", "router/requests/batch", True),
        ("+/requests/batch/#", "router/requests/batches", False),
        ("#", "any/thing", True),
        ("#", "", True),
        ("a.c/+", "abc/d", False),
        ("+/+", "/x", True),
    ],
)
def test_topic_filters_are_mqtt_filters(topic_filter: str, topic: str, matches: bool) -> None:
    """`+` is one level, `#` is the rest with its parent, everything else is itself."""
    assert chosen(Match(topics=(topic_filter,)), request(topic=topic)) is matches


@pytest.mark.parametrize(
    ("topic_filter", "is_sound"),
    [("a/#", True), ("+", True), ("a/#/b", False), ("a#", False), ("a/b+", False), ("", False), ("/", True)],
)
def test_malformed_topic_filters_are_told(topic_filter: str, is_sound: bool) -> None:
    """A wildcard shares its level with nothing, and `#` is last."""
    assert (topic_filter_problem(topic_filter) is None) is is_sound


@pytest.mark.parametrize(
    ("match", "fields", "matches"),
    [
        (Match(tenants=("acme", "umbrella")), {"tenant": "acme"}, True),
        (Match(tenants=("acme",)), {"tenant": "acme2"}, False),
        (Match(tenants=("acme-*",)), {"tenant": "acme-eu"}, True),
        (Match(tenants=("acme-*", "x.y")), {"tenant": "x.y"}, True),
        (Match(tenants=("acme-*", "x.y")), {"tenant": "xzy"}, False),
        (Match(models=("gpt-*",)), {"model": "gpt-5"}, True),
        (Match(models=("gpt-*",)), {"model": None}, False),
        (Match(use_cases=("chat",)), {}, True),
        (Match(use_cases=("code",)), {}, False),
        (Match(min_input_tokens=100, max_input_tokens=100), {}, True),
        (Match(min_input_tokens=101), {}, False),
        (Match(max_input_tokens=99), {}, False),
        (Match(attributes=(("app", "web*"),)), {"attributes": (("app", "web-2"),)}, True),
        (Match(attributes=(("app", "web*"), ("env", "prod"))), {"attributes": (("app", "web-2"),)}, False),
        (Match(attributes=(("app", "web"),)), {"attributes": (("other", "web"),)}, False),
        (Match(tenants=("acme",), use_cases=("code",)), {"tenant": "acme"}, False),
    ],
)
def test_every_stated_condition_must_hold(match: Match, fields: dict[str, object], matches: bool) -> None:
    """A class takes a request only when all of its conditions hold."""
    assert chosen(match, request(**fields)) is matches


def test_the_first_class_that_matches_wins() -> None:
    """Order decides between classes that both match."""
    first, second = (RequestClass(n, match=Match(use_cases=("chat",))) for n in ("first", "second"))
    assert classify([first, second, DEFAULT], request(), "chat").name == "first"
    assert classify([second, first, DEFAULT], request(), "chat").name == "second"


def test_a_request_may_name_its_class() -> None:
    """By `request_class`, or by `model` equal to a class name, whatever the conditions say."""
    classes = [RequestClass("code", match=Match(use_cases=("code",))), DEFAULT]
    assert classify(classes, request(request_class="code"), "chat").name == "code"
    assert classify(classes, request(model="code"), "chat").name == "code"
    assert classify(classes, request(request_class="default", model="code"), "chat").name == "default"


def test_a_class_kept_for_tenants_cannot_be_claimed_by_others() -> None:
    """Naming a class does not get past its tenants."""
    matcher = ClassMatcher([RequestClass("gold", match=Match(tenants=("acme",), use_cases=("code",))), DEFAULT])
    assert matcher.classify(request(request_class="gold", tenant="acme"), "chat").name == "gold"
    with pytest.raises(RequestError) as refused:
        matcher.classify(request(request_class="gold", tenant="other"), "chat")
    assert refused.value.code == "unknown_class"


def test_an_unknown_class_is_an_error_unless_a_class_takes_that_name() -> None:
    """A misspelt class must not silently lose its promises to the default; `match.classes` takes aliases."""
    matcher = ClassMatcher([RequestClass("chat", match=Match(classes=("talk-*",))), DEFAULT])
    assert matcher.classify(request(request_class="talk-fast"), "code").name == "chat"
    with pytest.raises(RequestError, match="no request class `tlak`") as refused:
        matcher.classify(request(request_class="tlak"), "code")
    assert (refused.value.code, refused.value.param) == ("unknown_class", "class")


@given(st.text(max_size=60), st.text(max_size=20), st.text(max_size=20))
def test_the_default_takes_whatever_is_left(topic: str, tenant: str, use_case: str) -> None:
    """No topic, tenant or use case, however odd, falls through the classes."""
    classes = [RequestClass("x", match=Match(topics=("a/+/b",), tenants=("t*",), use_cases=("[ab]*",))), DEFAULT]
    assert classify(classes, request(topic=topic, tenant=tenant), use_case).name in ("x", "default")
