"""Where a chat-completions prompt can be cut so that a service may keep what comes before.

Services keep tools, then the system prompt, then the other messages, in this order; system messages further down are
taken to stand first, as Converse wants them.
"""

from __future__ import annotations

from hashlib import blake2b
from math import ceil

import msgspec

from router.domain.aws.prefix import Cut
from router.domain.errors import RequestError
from router.wire.openai.request import message_tokens, prompt_tokens, read_body

_encode = msgspec.json.Encoder().encode
_DIGEST_BYTES = 16
_SYSTEM = frozenset({"system", "developer"})


def cuts_of(payload: bytes) -> tuple[Cut, ...]:
    """The cut after the system prompt (0 messages; where there is one), and one after each other message. None where
    the body cannot be read."""
    try:
        body = read_body(payload)
    except RequestError:
        return ()
    rest = [message for message in body.messages if message.role not in _SYSTEM]
    system = [message for message in body.messages if message.role in _SYSTEM]
    digest = blake2b(_encode([body.tools, system]), digest_size=_DIGEST_BYTES)
    tokens = prompt_tokens(body) - sum(message_tokens(message) for message in rest)
    cuts = [Cut(0, ceil(tokens), digest.digest())] if system else []
    for number, message in enumerate(rest, 1):
        digest.update(_encode(message))
        tokens += message_tokens(message)
        cuts.append(Cut(number, ceil(tokens), digest.digest()))
    return tuple(cuts)
