"""What is asked in a load test: prompts made of short words, or those of a file; no two begin alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from random import Random
from typing import Any, Final

import msgspec
from msgspec import Struct

_LIST: Final = (
    "air ant arm art bag bed bee bin boat box boy bus cake car cat city coat cold corn cow cup day dog door ear egg "
    "eye farm fish fog fox game gate girl gold hand hat hen hill home ice ink jar key king lake lamp leaf lid map milk "
    "moon nest net oak oil owl pan pen pig pin rain red rice ring road rock roof rope salt sand sea ship shoe sky snow "
    "soap son star sun tea tin tree van wall wave wind wolf wood year"
)
_WORDS: Final = tuple(_LIST.split())
_BYTES_PER_WORD: Final = sum(len(word) + 1 for word in _WORDS) / len(_WORDS)
_BYTES_PER_TOKEN: Final = 3.6
"""As the router estimates tokens (see `router.wire.openai.request`)."""
_TASK: Final = "Go on with this list of words, with words of your own, and do not stop: "
_SPREAD: Final = 0.5
"""Part of the mean by which sizes go up and down: prompts of one size cannot tell what a prompt token costs."""


class Asked(Struct, frozen=True):
    """One call: its chat-completions body without a model, and the bound on the answer."""

    payload: bytes
    max_tokens: int


def made_prompts(rng: Random, *, input_tokens: int, output_tokens: int, same: bool) -> Iterator[Asked]:
    """Endless prompts of about so many tokens, and half more or less, for answers bounded likewise; or one and the same
    again and again."""
    while True:
        spread = 0.0 if same else _SPREAD
        wanted = input_tokens * rng.uniform(1.0 - spread, 1.0 + spread) * _BYTES_PER_TOKEN - len(_TASK)
        words = " ".join(rng.choices(_WORDS, k=max(1, round(wanted / _BYTES_PER_WORD))))
        most = max(1, round(output_tokens * rng.uniform(1.0 - spread, 1.0 + spread)))
        text = f"{_TASK}{words}" if same else f"{words[:12]} {_TASK}{words[12:]}"
        asked = Asked(_body({}, [{"role": "user", "content": text}]), most)
        yield asked
        while same:
            yield asked


def file_prompts(
    rng: Random, bodies: Sequence[Mapping[str, Any]], *, output_tokens: int, same: bool
) -> Iterator[Asked]:
    """The bodies in an order drawn once, again and again; each begins with a word of its own, so that no prompt cache
    knows it, unless the same prompts are wanted."""
    order = rng.sample(range(len(bodies)), len(bodies))
    for place in cycle(order):
        body = dict(bodies[place])
        said = body.pop("max_completion_tokens", None) or body.pop("max_tokens", None) or output_tokens
        body.pop("max_tokens", None)
        messages = list(body.pop("messages"))
        if not same:
            messages[0] = _marked(messages[0], f"[{rng.getrandbits(48):012x}] ")
        yield Asked(_body(body, messages), int(said))


def _marked(message: Mapping[str, Any], mark: str) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": mark + content}
    return {**message, "content": [{"type": "text", "text": mark}, *(content or ())]}


def _body(more: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> bytes:
    return msgspec.json.encode({**more, "messages": messages})
