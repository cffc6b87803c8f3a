"""What each check says of an answer: a grade, or nothing where there is nothing to check.

Checks run in the order of `domain.slo.Check` and stop at the first that fails: what comes later would only say again
that the answer is bad, and is left out of the evidence for the same reason.
"""

from __future__ import annotations

from typing import Any

import msgspec

from router.domain.errors import RequestError
from router.domain.request import Capability, Request
from router.domain.slo import Cascade, Check
from router.learning.verify.pattern import MAX_TEXT, Pattern, compiled
from router.learning.verify.schema import JsonSchema, TooLargeError
from router.wire.mqtt import topic_problem
from router.wire.openai.verify import Answer, asked_schema, read_verify

PASS, FAIL = "pass", "fail"
MAX_JSON = 262_144
"""Characters of an answer that are parsed as JSON."""
_OPENING = 200
"""Characters at the head of an answer in which a refusal stands."""
_REFUSALS = (
    "i'm sorry, but i can",
    "i am sorry, but i can",
    "sorry, i can't",
    "sorry, i cannot",
    "i can't help with",
    "i cannot help with",
    "i can't assist with",
    "i cannot assist with",
    "i'm not able to help",
    "i am not able to help",
    "i'm unable to answer",
    "i am unable to answer",
    "i won't be able to",
    "as an ai language model",
)
"""How refusals begin. Few and plain: a story in which somebody is sorry is no refusal."""
LOGPROB_GRADES = ((-0.1, "high"), (-0.3, "middle"), (-0.7, "low"))
"""Least mean log-probability of a token for each grade; below the last it fails. e**-0.1 is .90, e**-0.7 is .50."""

Grades = tuple[tuple[Check, str], ...]


class Checks:
    """The checks of one request, ready to run: `names` are those that may say something of its answer."""

    __slots__ = ("_asked", "_schema", "_wanted", "callback", "names", "wants_logprobs")

    def __init__(self, request: Request, cascade: Cascade, *, is_bounded: bool = True) -> None:
        """`is_bounded`: a ceiling of ours may be in force. Raises `RequestError` where what the sender brings cannot be
        used."""
        self._asked: Pattern | None = None
        self._schema: JsonSchema | None = None
        self._wanted: JsonSchema | None = None
        verify = read_verify(request)
        if verify.json_schema is not None and Check.JSON in cascade.checks:
            self._schema = _usable("json_schema", JsonSchema, verify.json_schema)
        if verify.regex is not None and Check.REGEX in cascade.checks:
            self._asked = _usable("regex", compiled, verify.regex)
        if request.prompt.json_output and Check.FORMAT in cascade.checks:
            self._wanted = _lenient(asked_schema(request))
        self.callback = None
        """Topic of whoever is asked about the answer; `None` where nobody is."""
        if verify.callback is not None and Check.CALLBACK in cascade.checks:
            self.callback = _usable("callback", _topic, verify.callback)
        self.wants_logprobs = Check.LOGPROB in cascade.checks and Capability.LOGPROBS not in request.needs
        """Whether probabilities of tokens are looked at that the sender does not ask for."""
        has = {
            Check.TRUNCATION: is_bounded and request.max_tokens is None,
            Check.REFUSAL: True,
            Check.FORMAT: request.prompt.json_output,
            Check.JSON: self._schema is not None,
            Check.REGEX: self._asked is not None,
            Check.LOGPROB: True,
            Check.CALLBACK: self.callback is not None,
        }
        self.names = tuple(check for check in Check if check in cascade.checks and has[check])

    def grade(self, answer: Answer, *, is_bounded: bool) -> Grades:
        """What the checks that need no waiting say, in order, up to the first that fails. `is_bounded`: a ceiling of
        ours was in force."""
        grades: list[tuple[Check, str]] = []
        for check in self.names:
            grade = self._grade(check, answer, is_bounded)
            if grade is not None:
                grades.append((check, grade))
            if grade == FAIL:
                break
        return tuple(grades)

    def _grade(self, check: Check, answer: Answer, is_bounded: bool) -> str | None:
        match check:
            case Check.TRUNCATION:
                return _passed(answer.finish_reason != "length") if is_bounded else None
            case Check.CALLBACK:
                return None
            case Check.LOGPROB:
                return None if answer.logprob is None else _sureness(answer.logprob)
            case Check.REFUSAL:
                return _passed(not _refuses(answer)) if answer.text is not None or answer.refusal else None
        if answer.text is None:
            return None
        if check is Check.REGEX and self._asked is not None:
            return _passed(self._asked.found_in(answer.text)) if len(answer.text) <= MAX_TEXT else None
        return _fits(answer.text, self._schema if check is Check.JSON else self._wanted)


def _usable(name: str, make: Any, given: Any) -> Any:
    try:
        return make(given)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"metadata.verify.{name}: {error}", param=f"metadata.verify.{name}") from None


def _topic(topic: str) -> str:
    if topic_problem(topic) is not None or topic.startswith("$"):
        raise ValueError("name an MQTT topic without wildcards that does not begin with `$`")
    return topic


def _lenient(schema: dict[str, Any] | None) -> JsonSchema | None:
    """A schema that was written for the backend: where it is not understood, JSON of any shape will do."""
    try:
        return None if schema is None else JsonSchema(schema)
    except (ValueError, RecursionError):
        return None


def _passed(has_passed: bool) -> str:
    return PASS if has_passed else FAIL


def _fits(text: str, schema: JsonSchema | None) -> str | None:
    """Whether a text is JSON, and fits; `None` where that takes too long to say."""
    if len(text) > MAX_JSON:
        return None
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return FAIL
    except RecursionError:
        return None
    try:
        return _passed(schema is None or schema.fits(value))
    except (TooLargeError, ArithmeticError, RecursionError):
        return None


def _refuses(answer: Answer) -> bool:
    if answer.refusal or answer.text is None:
        return True
    opening = answer.text[:_OPENING].casefold().replace("\u2019", "'")
    return any(phrase in opening for phrase in _REFUSALS)


def _sureness(logprob: float) -> str:
    return next((grade for least, grade in LOGPROB_GRADES if logprob >= least), FAIL)
