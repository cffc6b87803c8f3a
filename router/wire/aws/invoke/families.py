"""Which family a model is of, and what speaks for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from router.domain.aws.terms import Payload
from router.domain.errors import Refused
from router.domain.outcome import Attempt
from router.wire.aws.asked import terms_of
from router.wire.aws.invoke.anthropic import Anthropic
from router.wire.aws.invoke.nova import Nova
from router.wire.aws.invoke.prompted import Llama, Mistral, Titan

Json = dict[str, Any]


class Family(Protocol):
    """One call of a model, in its own words and in Converse's."""

    def body(self, asked: Json) -> Json:
        """The body of a call with these arguments of Converse; raises `Refused`."""
        ...

    def whole(self, answer: Json) -> Json:
        """A complete answer as one of Converse."""
        ...

    def events(self, chunk: Json) -> Iterator[Json]:
        """A chunk of a stream as events of ConverseStream."""
        ...


FAMILIES: Mapping[Payload, Callable[[], Family]] = {
    Payload.ANTHROPIC: Anthropic,
    Payload.LLAMA: Llama,
    Payload.MISTRAL: Mistral,
    Payload.TITAN: Titan,
    Payload.NOVA: Nova,
}
_NAMES: tuple[tuple[re.Pattern[str], Payload], ...] = (
    (re.compile(r"anthropic|claude"), Payload.ANTHROPIC),
    (re.compile(r"llama"), Payload.LLAMA),
    (re.compile(r"mistral|mixtral"), Payload.MISTRAL),
    (re.compile(r"titan"), Payload.TITAN),
    (re.compile(r"\bnova\b"), Payload.NOVA),
    (re.compile(r"openai|gpt-oss"), Payload.OPENAI),
)


def payload_named(*names: str) -> Payload | None:
    """What the first of these names of a model that tells anything tells."""
    return next((payload for name in names for pattern, payload in _NAMES if pattern.search(name.lower())), None)


def payload_of(attempt: Attempt) -> Payload:
    """As the deployment says, else by the model's id or name: an ARN of a custom model tells nothing."""
    if (own := terms_of(attempt).payload) is not None:
        return own
    deployment = attempt.deployment
    if (named := payload_named(deployment.address.target, deployment.model)) is not None:
        return named
    message = f"how {deployment.model} spells a body is not known: write `aws.payload` for {deployment.name}"
    raise Refused(message, code="unsupported")
