"""Why a request falls in its class."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.domain.errors import RequestError
from router.domain.request import Prompt, Request, RequestId
from router.domain.slo import Match, RequestClass
from router.policy.match import classify
from router.policy.match_reasons import considered

CLASSES = (
    RequestClass("offline", Match(topics=("+/batch/#",))),
    RequestClass("vip", Match(tenants=("acme", "big-*"), max_input_tokens=1000)),
    RequestClass("tagged", Match(attributes=(("tier", "gold"),))),
    RequestClass("named", Match(classes=("n-*",))),
    RequestClass("chat", Match(use_cases=("chat", "qa"))),
    RequestClass("default"),
)


def request(**fields: object) -> Request:
    told = {"input_tokens": 100, **fields}
    return Request(RequestId("r"), 0.0, 0.0, Prompt("hello"), **told)  # type: ignore[arg-type]


def test_each_class_before_says_what_did_not_hold() -> None:
    """The list ends with the class that takes it, and says by what."""
    asked = considered(CLASSES, request(tenant="acme", input_tokens=5000), "qa")
    assert [one.name for one in asked] == ["offline", "vip", "tagged", "named", "chat"]
    assert [one.holds for one in asked] == [False] * 4 + [True]
    assert asked[0].why == "it has no topic, which must match +/batch/#"
    assert asked[1].why == "5000 input tokens are not 0 to 1000"
    assert asked[2].why == "it lacks the user properties tier=gold"
    assert asked[4].why == "use case `qa` matches chat, qa"


def test_what_takes_the_rest_says_so() -> None:
    """A class without conditions has no condition to tell."""
    assert considered(CLASSES, request(), "code")[-1].why == "it takes whatever no other class takes"


@pytest.mark.parametrize(("fields", "word"), [({"request_class": "vip"}, "class"), ({"model": "vip"}, "model")])
def test_a_class_named_by_the_sender_asks_nobody_else(fields: dict[str, str], word: str) -> None:
    """By header or as `model`: its own conditions do not matter, but for its tenants."""
    (only,) = considered(CLASSES, request(tenant="acme", input_tokens=5000, **fields), "code")
    assert (only.name, only.holds, only.why) == ("vip", True, f"the request names it as its {word}")


def test_a_name_that_a_class_lists_is_told_to_the_others() -> None:
    """Classes that list no class names are not asked about their conditions."""
    asked = considered(CLASSES, request(request_class="n-1"), "qa")
    assert asked[0].why == "it does not take the class `n-1`"
    assert asked[-1].why == "class `n-1` matches n-*"


def test_a_name_that_nobody_knows_is_an_error() -> None:
    """As the router would answer."""
    with pytest.raises(RequestError, match="no request class `nobody`"):
        considered(CLASSES, request(request_class="nobody"), "qa")


@given(
    tenant=st.sampled_from(["acme", "big-co", "x"]),
    topic=st.sampled_from(["", "a/batch/b", "a/b"]),
    tier=st.sampled_from(["gold", "tin"]),
    tokens=st.integers(0, 3000),
    use_case=st.sampled_from(["qa", "code"]),
    asked_class=st.sampled_from([None, "n-1", "vip", "chat"]),
)
def test_the_last_is_the_class_the_router_would_find(
    tenant: str, topic: str, tier: str, tokens: int, use_case: str, asked_class: str | None
) -> None:
    """Whatever the request, the explanation and the classification agree, and only the last one holds."""
    one = request(
        tenant=tenant, topic=topic, attributes=(("tier", tier),), input_tokens=tokens, request_class=asked_class
    )
    try:
        found = classify(CLASSES, one, use_case)
    except RequestError:
        return
    *passed, last = considered(CLASSES, one, use_case)
    assert (last.name, last.holds) == (found.name, True)
    assert not any(other.holds for other in passed)
