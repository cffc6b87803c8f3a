"""What a sender brings to check with cannot keep the router busy, and a second call is one that is worth making."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from random import Random
from typing import Any

import pytest

from router.complexity.estimator import Scored
from router.core.evidence import Hold
from router.domain.deployment import Price, Tier
from router.domain.errors import RequestError
from router.domain.events import CascadeChecked, DecisionMade
from router.domain.outcome import Attempt, Delta, Usage
from router.domain.request import Prompt, Request, RequestId
from router.domain.slo import Budget, Cascade, Check, RequestClass
from router.ingress.mqtt_options import MqttOptions
from router.ingress.mqtt_replies import Replies
from router.ingress.verdicts.mqtt import Verdicts
from router.learning.verify.checks import Checks
from router.learning.verify.pattern import compiled
from router.learning.verify.schema import JsonSchema, TooLargeError
from router.wire.openai import whole_choices
from tests.regressions.house import Answer, House, deployment, virtually


def _refs(name: str, times: int) -> dict[str, Any]:
    return {"anyOf": [{"$ref": f"#/$defs/{name}"}] * times}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"$defs": {"a": {"const": [[0] * 4000]}, "b": _refs("a", 60)}, **_refs("b", 60)}, [[0] * 3999 + [1]]),
        ({"uniqueItems": True}, [[0] * 700 + [i] for i in range(180)]),
    ],
)
def test_comparing_costs_steps_for_all_that_is_looked_at(schema: dict[str, Any], value: Any) -> None:
    """A constant or an item that is large itself is not compared thousands of times."""
    with pytest.raises(TooLargeError):
        JsonSchema(schema).fits(value)


@pytest.mark.parametrize("reference", [{}, [1], 3, None])
def test_a_reference_that_is_no_text_is_the_senders_mistake(reference: Any) -> None:
    """It is refused as a request, and is no fault of the router."""
    raw = json.dumps({"json_schema": {"properties": {"a": {"$ref": reference}}}}).encode()
    asked = Request(RequestId("r"), 0.0, 0.0, input_tokens=5, prompt=Prompt("hello"), verify=raw)
    with pytest.raises(RequestError, match=r"\$defs"):
        Checks(asked, Cascade((Check.JSON,)))


@pytest.mark.parametrize(
    "pattern", [r"(\w{256})", r"\w" * 250, r"(\w){0000000000900}", r"(?ix)\w{ 900 }", r"[\W\d]{200}"]
)
def test_a_pattern_that_is_dear_to_compile_is_refused_before_it_is(
    pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Unicode class many times over takes half a second to compile, for each request anew where that fails."""
    compiled.cache_clear()
    monkeypatch.setattr("router.learning.verify.pattern.SchemaValidator", lambda _: pytest.fail("it was compiled"))
    with pytest.raises(ValueError, match=r"too many copies|multiply to 900|flag x"):
        compiled(pattern)


def test_many_patterns_of_one_schema_are_weighed_together() -> None:
    """None of them is too much, all of them are; a few ordinary ones are welcome."""
    dear = {"properties": {f"p{i}": {"pattern": rf"^\w{{1,50}}{i}$"} for i in range(40)}}
    with pytest.raises(ValueError, match="together"):
        JsonSchema(dear)
    usual = {f"p{i}": {"pattern": r"^\d{4}-\d{2}-\d{2}$" if i else r"^\w+@\w+$"} for i in range(100)}
    assert JsonSchema({"properties": usual}).fits({"p3": "2026-01-01", "p0": "a@b"})


def _saying(text: str) -> Answer:
    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        yield Delta(whole_choices(text, "stop"), 200, "stop", Usage(10, 200), whole=True)

    return script


class _Three:
    """A poor model beside a small one and a large one."""

    def estimate(self, request: Request) -> Scored:
        models = {"model-small": 0.6, "model-poor": 0.1, "model-large": 0.95}
        return Scored(0.5, "chat", models, {Tier.SMALL: 0.5, Tier.LARGE: 0.95})


def test_a_mean_budget_makes_no_answer_again_by_a_worse_model() -> None:
    """Where the budget bears no better model, a doubted answer is sent: not made again by whoever is cheap."""
    fleet = (
        deployment("small", price=Price(1.0, 1.0)),
        deployment("poor", price=Price(1.0, 1.1)),
        deployment("large", Tier.LARGE, price=Price(1.0, 60.0)),
    )
    terms = RequestClass("all", cascade=Cascade((Check.REGEX,), threshold=0.45), budget=Budget(None, 3e-4))
    house = House(terms, deployments=fleet)
    house.controller.estimator = _Three()
    house.controller._adopt()
    house.backend.scripts = {"small": _saying("bad"), "poor": _saying("bad"), "large": _saying("good")}

    async def scene() -> None:
        for i in range(30):
            await house.ask(f"r{i}", verify=b'{"regex": "^good"}')
        first = {e.decision.request_id: e.decision for e in reversed(house.of(DecisionMade))}
        again = [e.decision for e in house.of(DecisionMade) if e.decision is not first[e.decision.request_id]]
        assert all(decision.chosen != "poor" for decision in again)

    virtually(scene)


def test_an_answer_that_nobody_can_make_again_is_sent_for_sure() -> None:
    """What is logged is the probability of what was done: without room elsewhere nothing but sending it was left."""
    terms = RequestClass("all", cascade=Cascade((Check.REGEX,), threshold=0.3), exploration_ratio=0.01)
    house = House(terms, deployments=(deployment("small"), deployment("large", Tier.LARGE, price=Price(1.0, 60.0))))
    house.backend.scripts = {"small": _saying("bad"), "large": _saying("good")}

    async def scene() -> None:
        house.dispatcher.cascade._grant = lambda ticket: Hold(())
        await house.ask(verify=b'{"regex": "^good"}')
        told = house.only(CascadeChecked)
        assert (told.why, told.escalated, told.propensity) == ("regex", False, 1.0)

    virtually(scene)


@pytest.mark.parametrize(
    ("prefix", "topic", "is_refused"),
    [
        ("", "plant/checks", False),
        ("", "router/requests/chat", True),
        ("plant", "plant/checks", False),
        ("plant", "plants/checks", True),
        ("plant", "doors/open", True),
    ],
)
def test_an_operator_bounds_where_answers_are_published(prefix: str, topic: str, is_refused: bool) -> None:
    """Whoever may ask over HTTP has no right at the broker: the router lends none of its own beyond the prefix."""
    options = MqttOptions(callback_prefix=prefix)
    replies = Replies(options, lambda event: None, lambda: 0.0, Random(0))
    assert (Verdicts(options, replies, lambda what, detail: None).refusal(topic) is not None) is is_refused
