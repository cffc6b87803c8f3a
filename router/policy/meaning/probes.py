"""Which requests fall in another class? Asked of requests that are made up from the conditions of both policies.

Every value that a condition names is tried alone, all conditions of each class together, and those of each two classes
together, where order decides. The same two policies always give the same requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, islice, product

from msgspec import Struct

from router.domain.errors import RequestError
from router.domain.request import Prompt, Request, RequestId
from router.domain.slo import Match, RequestClass
from router.policy.match import ClassMatcher

Traits = Mapping[str, str]
"""What a request is, by the word for it: `topic`, `tenant`, `model`, `class`, `use case`, `input tokens`, `NAME` of a
user property behind `property `. What is left out is as in a request that says nothing."""

REFUSED = "refused"
_PROPERTY = "property "
_SOME = 200
"""Input tokens of a request whose length does not matter."""
_EACH_CLASS, _ALL = 64, 4096


class Example(Struct, frozen=True):
    """A request that falls in another class. Where it names a class that is not there, it is refused."""

    request: str
    old: str
    new: str


def examples(old: Sequence[RequestClass], new: Sequence[RequestClass]) -> tuple[tuple[Example, ...], int]:
    """The plainest requests that fall elsewhere, and how many were tried. One that only adds conditions to another that
    moves the same way is left out."""
    before, after = ClassMatcher(old), ClassMatcher(new)
    tried = sorted(set(islice(_probes([*old, *new]), _ALL)), key=lambda probe: (len(probe), probe))
    moved: list[tuple[frozenset[tuple[str, str]], Example]] = []
    for probe in tried:
        traits = dict(probe)
        was, now = _falls(before, traits), _falls(after, traits)
        told = frozenset(probe)
        if was != now and not any((e.old, e.new) == (was, now) and said <= told for said, e in moved):
            moved.append((told, Example(_text(traits), was, now)))
    return tuple(example for _, example in moved), len(tried)


def _probes(classes: Sequence[RequestClass]) -> Iterator[tuple[tuple[str, str], ...]]:
    yield ()
    wholes: dict[Match, list[Traits]] = {}
    for c in classes:
        conditions = dict(_values(c.match))
        for word, values in conditions.items():
            yield from (((word, value),) for value in values)
        wholes[c.match] = [dict(zip(conditions, values, strict=True)) for values in _product(conditions)]
        for traits in wholes[c.match]:
            yield tuple(sorted(traits.items()))
            yield tuple(sorted({**traits, "class": c.name}.items()))
        yield (("class", c.name),)
    for some, others in combinations(wholes.values(), 2):
        for one, other in islice(product(some, others), _EACH_CLASS):
            yield tuple(sorted({**other, **one}.items()))


def _product(conditions: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, ...]]:
    return islice(product(*conditions.values()), _EACH_CLASS)


def _values(match: Match) -> Iterator[tuple[str, tuple[str, ...]]]:
    """For each condition that a class states, values that meet it."""
    for word, patterns in (
        ("class", match.classes),
        ("tenant", match.tenants),
        ("model", match.models),
        ("use case", match.use_cases),
    ):
        if patterns:
            yield word, tuple(dict.fromkeys(map(_of_glob, patterns)))
    if match.topics:
        yield "topic", tuple(dict.fromkeys(map(_of_topic, match.topics)))
    for name, pattern in match.attributes:
        yield f"{_PROPERTY}{name}", (_of_glob(pattern),)
    if match.min_input_tokens is not None or match.max_input_tokens is not None:
        yield "input tokens", tuple(_around(match.min_input_tokens, match.max_input_tokens))


def _around(least: int | None, most: int | None) -> Iterator[str]:
    """The ends of a range, and one past each."""
    for end, past in ((least, -1), (most, 1)):
        if end is not None:
            yield str(end)
            yield str(max(end + past, 0))


def _of_glob(pattern: str) -> str:
    """A text that a wildcard pattern takes."""
    text, at = "", 0
    while at < len(pattern):
        closing = pattern.find("]", at + 2) if pattern[at] == "[" else -1
        if closing > 0:
            inside = pattern[at + 1 : closing]
            text += next(c for c in (*inside.lstrip("!"), *"xyz0_-") if (c in inside) is not inside.startswith("!"))
            at = closing + 1
        else:
            text += "x" if pattern[at] in "*?" else pattern[at]
            at += 1
    return text


def _of_topic(topic_filter: str) -> str:
    """A topic that an MQTT filter takes; a first level that may be anything is what the router's own is called."""
    levels = topic_filter.split("/")
    if levels[0] == "+":
        levels[0] = "router"
    return "/".join("x" if level in ("+", "#") else level for level in levels)


def _falls(matcher: ClassMatcher, traits: Traits) -> str:
    request = Request(
        RequestId("probe"),
        0.0,
        0.0,
        Prompt(""),
        int(traits.get("input tokens", _SOME)),
        tenant=traits.get("tenant", "default"),
        topic=traits.get("topic", ""),
        model=traits.get("model"),
        request_class=traits.get("class"),
        attributes=tuple((w.removeprefix(_PROPERTY), v) for w, v in traits.items() if w.startswith(_PROPERTY)),
    )
    try:
        return matcher.classify(request, traits.get("use case", "")).name
    except RequestError:
        return REFUSED


def _text(traits: Traits) -> str:
    return ", ".join(f"{word} {value}" for word, value in traits.items()) or "a request that says nothing"
