"""Checks of answers: what they say, what they are worth, and that no sender can make them dear."""

from __future__ import annotations

import json
import math
from random import Random
from statistics import mean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.domain.errors import RequestError
from router.domain.request import Capability, Prompt, Request, RequestId
from router.domain.slo import Cascade, Check
from router.learning.verify.checks import FAIL, PASS, Checks, Grades
from router.learning.verify.evidence import PRIOR, CheckModel
from router.learning.verify.pattern import MAX_TEXT, compiled
from router.learning.verify.schema import JsonSchema, TooLargeError
from router.wire.openai.verify import Answer, read_answer

ALL = Cascade(tuple(Check))


def request(verify: Any = None, **fields: Any) -> Request:
    fields.setdefault("prompt", Prompt("hello"))
    raw = b"" if verify is None else json.dumps(verify).encode()
    return Request(RequestId("r"), 0.0, 0.0, input_tokens=5, verify=raw, **fields)


def grades(answer: Answer, asked: Request, *, cascade: Cascade = ALL, is_bounded: bool = True) -> dict[Check, str]:
    return dict(Checks(asked, cascade).grade(answer, is_bounded=is_bounded))


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('{"name": "Ada", "age": 36}', True),
        ('{"name": "Ada"}', True),
        ('{"name": "", "age": 36}', False),
        ('{"name": "Ada", "age": 3.5}', False),
        ('{"name": "Ada", "age": true}', False),
        ('{"name": "Ada", "town": "x"}', False),
        ('{"age": 36}', False),
        ('["Ada"]', False),
        ("Ada is 36", False),
        ('```json\n{"name": "Ada"}\n```', False),
    ],
)
def test_an_answer_fits_the_schema_of_its_sender_or_not(text: str, fits: bool) -> None:
    """The whole text is JSON and fits; prose and fences do not."""
    assert grades(Answer(text), request({"json_schema": PERSON}))[Check.JSON] == (PASS if fits else FAIL)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"enum": ["a", 1]}, [1, "a"], [True, "b"]),
        ({"const": {"a": [1]}}, [{"a": [1]}], [{"a": [2]}, {"a": [True]}]),
        ({"type": ["string", "null"]}, [None, "x"], [0]),
        ({"anyOf": [{"type": "string"}, {"minimum": 3}]}, ["x", 3], [2]),
        ({"oneOf": [{"multipleOf": 2}, {"multipleOf": 3}]}, [2, 9], [6, 5]),
        ({"allOf": [{"minItems": 1}, {"maxItems": 2}]}, [[1]], [[], [1, 2, 3]]),
        ({"not": {"type": "null"}}, [0], [None]),
        ({"items": {"type": "number"}, "uniqueItems": True}, [[1, 2]], [[1, 1], ["x"]]),
        ({"prefixItems": [{"type": "string"}], "items": {"type": "number"}}, [["a", 1]], [[1], ["a", "b"]]),
        ({"pattern": "^a+$", "maxLength": 3}, ["aa"], ["ab", "aaaa"]),
        ({"exclusiveMinimum": 0, "exclusiveMaximum": 1}, [0.5], [0, 1]),
        ({"additionalProperties": {"type": "integer"}, "minProperties": 1}, [{"a": 1}], [{}, {"a": "x"}]),
        (
            {"$ref": "#/$defs/tree", "$defs": {"tree": {"items": {"$ref": "#/$defs/tree"}, "type": "array"}}},
            [[[]]],
            [[1]],
        ),
    ],
)
def test_each_keyword_means_what_json_schema_says(schema: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    """One row for each group of keywords."""
    made = JsonSchema(schema)
    assert [made.fits(value) for value in good] == [True] * len(good)
    assert [made.fits(value) for value in bad] == [False] * len(bad)


@pytest.mark.parametrize(
    ("verify", "says"),
    [
        ({"json_schema": {"if": {}}}, "`if` is not understood"),
        ({"json_schema": {"type": "text"}}, "`type` does not take text"),
        ({"json_schema": {"required": "name"}}, "`required` does not take name"),
        ({"json_schema": {"$ref": "#/x"}}, r"\$defs"),
        ({"json_schema": {"properties": {"a": 3}}}, "an object or a boolean"),
        ({"json_schema": {"pattern": "("}}, "unclosed group"),
        ({"regex": "(?=a)b"}, "look-around"),
        ({"regex": "(a{100}){100}"}, "10000, over 256"),
        ({"regex": "a" * 600}, "over 512"),
        ({"regexp": "a"}, "takes `json_schema` .* `regex` and `callback`"),
        ({"callback": "a/#"}, "an MQTT topic without wildcards"),
        ({"callback": "$SYS/x"}, "does not begin with"),
        ({"callback": ""}, "an MQTT topic without wildcards"),
        ([1], "takes `json_schema`"),
        ("{", "takes `json_schema`"),
        ({"regex": "a" * 20_000}, "over 16384 bytes"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_to_do(verify: Any, says: str) -> None:
    """A wrong schema or pattern is the sender's mistake, told before any call, with the field it stands in."""
    with pytest.raises(RequestError, match=says) as caught:
        Checks(request(verify), ALL)
    assert str(caught.value.param).startswith("metadata.verify")


def test_the_same_may_come_as_json_text() -> None:
    """OpenAI's metadata holds text only."""
    asked = request(json.dumps({"regex": "^[0-9]+$"}))
    assert grades(Answer("42"), asked)[Check.REGEX] == PASS
    assert grades(Answer("forty-two"), asked)[Check.REGEX] == FAIL


def test_a_class_that_does_not_check_reads_no_pattern() -> None:
    """What the class does not list is not looked at, wrong or not."""
    assert Checks(request({"regex": "("}), Cascade((Check.REFUSAL,))).names == (Check.REFUSAL,)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [(r"(a+)+$", "a" * 16_000 + "!"), (r"(a|a)*b", "a" * 16_000), (r"[ab]*a[ab]{200}c", "ab" * 8_000)],
)
def test_no_pattern_backtracks(pattern: str, text: str) -> None:
    """Patterns that take a backtracking matcher longer than the age of the universe are answered."""
    assert not compiled(pattern).found_in(text)


def test_a_schema_that_explodes_is_given_up() -> None:
    """Alternatives within alternatives within references: past a bound nothing is known and nothing is graded."""
    level = {"anyOf": [{"$ref": "#/$defs/x"}] * 5}
    deep = {"$ref": "#/$defs/x", "$defs": {"x": {"allOf": [{"items": level}, {"items": level}], "type": "array"}}}
    value: Any = 1
    for _ in range(30):
        value = [value]
    with pytest.raises(TooLargeError):
        JsonSchema(deep).fits(value)
    assert Check.JSON not in grades(Answer(json.dumps(value)), request({"json_schema": deep}))


def test_what_is_too_long_for_a_pattern_is_not_graded() -> None:
    """Nothing is known is not the same as failed."""
    assert Check.REGEX not in grades(Answer("x" * (MAX_TEXT + 1)), request({"regex": "y"}))


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I\u2019m sorry, but I cannot discuss this.", True),
        ("As an AI language model, I have no opinions.", True),
        ("She said: I'm sorry I am late.", False),
        ("x" * 300 + " I cannot assist with that", False),
        ("Paris", False),
    ],
)
def test_a_refusal_is_known_by_how_it_begins(text: str, refuses: bool) -> None:
    """A few plain phrases, only at the head."""
    assert grades(Answer(text), request())[Check.REFUSAL] == (FAIL if refuses else PASS)


def test_only_our_own_ceiling_truncates() -> None:
    """What the sender's own bound cut is what it asked for."""
    cut = Answer("x", finish_reason="length")
    assert grades(cut, request())[Check.TRUNCATION] == FAIL
    assert Check.TRUNCATION not in grades(cut, request(), is_bounded=False)
    assert Check.TRUNCATION not in grades(cut, request(max_tokens=5))


def test_json_is_looked_for_only_where_it_was_asked_for() -> None:
    """`response_format` asks; its schema counts where it is understood, and any JSON will do where it is not."""
    asks = Prompt("hello", json_output=True)
    assert Check.FORMAT not in grades(Answer("prose"), request())
    assert grades(Answer("prose"), request(prompt=asks))[Check.FORMAT] == FAIL
    body = {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": PERSON}}}
    strict = request(prompt=asks, payload=json.dumps(body).encode())
    assert grades(Answer('{"age": 1}'), strict)[Check.FORMAT] == FAIL
    body["response_format"]["json_schema"] = {"schema": {"if": {}}}
    lenient = request(prompt=asks, payload=json.dumps(body).encode())
    assert grades(Answer('{"age": 1}'), lenient)[Check.FORMAT] == PASS


def test_sureness_is_graded_where_the_backend_tells_it() -> None:
    """The mean log-probability of the tokens, read from the choices."""
    asked = request(needs=frozenset({Capability.LOGPROBS}))
    for logprob, grade in ((-0.01, "high"), (-0.2, "middle"), (-0.5, "low"), (-2.0, FAIL)):
        tokens = [{"token": "a", "logprob": logprob}, {"token": "b", "logprob": logprob}]
        choice = {"index": 0, "message": {"content": "ab"}, "logprobs": {"content": tokens}, "finish_reason": "stop"}
        answer = read_answer(json.dumps([choice]).encode())
        assert answer is not None
        assert grades(answer, asked)[Check.LOGPROB] == grade
    assert Check.LOGPROB not in grades(Answer("ab"), asked)


def test_a_tool_call_has_no_text_to_check() -> None:
    """Checks of text say nothing of it."""
    choice = {"message": {"content": None, "tool_calls": [{"id": "c"}]}, "finish_reason": "tool_calls"}
    answer = read_answer(json.dumps([choice]).encode())
    assert answer is not None
    assert set(grades(answer, request({"regex": "x"}, prompt=Prompt("x", json_output=True)))) == {Check.TRUNCATION}


def test_nothing_runs_after_a_check_that_fails() -> None:
    """One fault is counted once."""
    found = Checks(request({"regex": "x"}), ALL).grade(Answer("I cannot assist with that"), is_bounded=False)
    assert found == ((Check.REFUSAL, FAIL),)


@given(st.binary(max_size=200))
def test_no_bytes_of_an_answer_break_the_reader(choices: bytes) -> None:
    """An answer that cannot be read is no answer to check."""
    read_answer(choices)


@pytest.mark.parametrize("check", Check)
def test_before_any_feedback_a_check_is_weak_evidence_of_the_right_sign(check: Check) -> None:
    """Failing lowers P(adequate), passing raises it a little, and the chances of all grades are those of Bayes."""
    model = CheckModel()
    assert model.after(0.7, "m", ((check, FAIL),)) < 0.6
    best = next(iter(PRIOR[check]))
    assert 0.7 < model.after(0.7, "m", ((check, best),)) < 0.8
    chances = model.chances(0.7, "m", check)
    assert sum(chance for _, chance in chances) == pytest.approx(1.0)
    mean = sum(chance * model.after(0.7, "m", ((check, grade),)) for grade, chance in chances)
    assert mean == pytest.approx(0.7, abs=0.01)


def taught(*, caught: float, alarms: float, keeps_failed: float, answers: int = 6000, seed: int = 7) -> CheckModel:
    """Feedback on answers that a check `caught` where wrong and raised `alarms` over where right; of those that failed
    only a share is sent and judged."""
    rng, model = Random(seed), CheckModel()
    for _ in range(answers):
        before = rng.choice((0.5, 0.7, 0.9))
        is_right = rng.random() < before
        fails = rng.random() < (alarms if is_right else caught)
        told: Grades = ((Check.JSON, FAIL if fails else PASS),)
        model.on_checked(before, "m", told)
        if not fails or rng.random() < keeps_failed:
            model.observe(before, "m", told, float(is_right))
    return model


@pytest.mark.parametrize("keeps_failed", [1.0, 0.1])
def test_evidence_is_calibrated_though_failed_answers_are_seldom_judged(keeps_failed: float) -> None:
    """A check that catches 70 % of wrong answers at 5 % false alarms comes to be believed as Bayes' rule says, at every
    P(adequate), also where nine in ten of the failed answers are made again and never judged. One run scatters as a
    memory of some 600 answers does; the mean of six does not lean to a side."""
    models = [taught(caught=0.7, alarms=0.05, keeps_failed=keeps_failed, seed=seed) for seed in range(6)]
    for p in (0.5, 0.7, 0.9):
        failed = p * 0.05 / (p * 0.05 + (1 - p) * 0.7)
        passed = p * 0.95 / (p * 0.95 + (1 - p) * 0.3)
        assert mean([m.after(p, "m", ((Check.JSON, FAIL),)) for m in models]) == pytest.approx(failed, abs=0.04)
        assert mean([m.after(p, "m", ((Check.JSON, PASS),)) for m in models]) == pytest.approx(passed, abs=0.02)
        chance = mean([dict(m.chances(p, "m", Check.JSON))[FAIL] for m in models])
        assert chance == pytest.approx(p * 0.05 + (1 - p) * 0.7, abs=0.03)
    for model in models:
        assert model.shift("m", ((Check.JSON, FAIL),)) == pytest.approx(math.log(0.05 / 0.7), abs=0.5)


def test_a_check_that_says_nothing_comes_to_be_worth_nothing() -> None:
    """Right and wrong answers fail alike: P(adequate) stays where it was."""
    model = taught(caught=0.2, alarms=0.2, keeps_failed=1.0)
    for grade in (PASS, FAIL):
        assert model.after(0.7, "m", ((Check.JSON, grade),)) == pytest.approx(0.7, abs=0.06)


def test_what_was_learned_survives_and_belongs_to_a_model() -> None:
    """State comes back as it was; another model starts from the prior; figures that are none are refused."""
    model, other = taught(caught=0.7, alarms=0.05, keeps_failed=0.5, answers=300), CheckModel()
    other.restore(model.state())
    assert other.state() == model.state()
    failed = ((Check.JSON, FAIL),)
    assert other.after(0.7, "new", failed) == CheckModel().after(0.7, "new", failed)
    with pytest.raises(ValueError, match="finite"):
        other.restore({"m\tjson\tfail": [math.nan, 1.0, 1.0, 0.5]})
    assert other.state() == model.state()
