"""Why does a request fall in its class? The classes that were asked, in order, and what held or did not."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from router.domain.request import Request
from router.domain.slo import Match, RequestClass
from router.policy.match import (
    ATTRIBUTES,
    INPUT_TOKENS,
    MODEL,
    REQUEST_CLASS,
    TENANT,
    TOPIC,
    USE_CASE,
    classify,
    conditions_met,
)

_WORDS = {REQUEST_CLASS: "class", TOPIC: "topic", TENANT: "tenant", MODEL: "model", USE_CASE: "use case"}


class Considered(Struct, frozen=True):
    """One class that was asked, and why it takes the request or does not."""

    name: str
    holds: bool
    why: str


def considered(classes: Sequence[RequestClass], request: Request, use_case: str) -> tuple[Considered, ...]:
    """The classes up to the one that takes the request, which is the last; raises `RequestError` where none does."""
    found = classify(classes, request, use_case)
    if found.name == request.request_class:
        return (Considered(found.name, True, "the request names it as its class"),)
    if request.request_class is None and found.name == request.model:
        return (Considered(found.name, True, "the request names it as its model"),)
    asked: list[Considered] = []
    for one in classes:
        if request.request_class is not None and not one.match.classes:
            asked.append(Considered(one.name, False, f"it does not take the class `{request.request_class}`"))
            continue
        asked.append(_asked(one, request, use_case))
        if one is found:
            break
    return tuple(asked)


def _asked(request_class: RequestClass, request: Request, use_case: str) -> Considered:
    match = request_class.match
    met = conditions_met(match, request, use_case)
    failed = [index for index, holds in met if not holds]
    told = failed or [index for index, _ in met]
    why = ", ".join(_told(index, match, request, use_case, holds=not failed) for index in told)
    return Considered(request_class.name, not failed, why or "it takes whatever no other class takes")


def _told(index: int, match: Match, request: Request, use_case: str, *, holds: bool) -> str:
    """One condition in words."""
    if index == INPUT_TOKENS:
        least, most = match.min_input_tokens or 0, match.max_input_tokens
        bounds = f"at least {least}" if most is None else f"{least} to {most}"
        return f"{request.input_tokens} input tokens {'are' if holds else 'are not'} {bounds}"
    if index == ATTRIBUTES:
        wanted = ", ".join(f"{key}={value}" for key, value in match.attributes)
        return f"it {'has' if holds else 'lacks'} the user properties {wanted}"
    value, stated = {
        REQUEST_CLASS: (request.request_class, match.classes),
        TOPIC: (request.topic, match.topics),
        TENANT: (request.tenant, match.tenants),
        MODEL: (request.model, match.models),
        USE_CASE: (use_case, match.use_cases),
    }[index]
    if not value:
        return f"it has no {_WORDS[index]}, which must match {', '.join(stated)}"
    return f"{_WORDS[index]} `{value}` {'matches' if holds else 'does not match'} {', '.join(stated)}"
