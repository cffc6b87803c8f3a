"""A conversation as one text, for containers that take text alone and do not apply the model's own chat template.

    System: Be brief.

    User: Hello.

    Assistant: Hi, what is it?

    User: The capital of France?

    Assistant:

The model writes on from there; it is stopped where it would write the user's next turn. A container that applies the
model's own template is better served by the payload `openai`. Nothing in a message is escaped: there is nothing to
escape it with, so a sender can write a turn that looks like the assistant's.
"""

from __future__ import annotations

from router.domain.errors import Refused
from router.wire.openai.request import ChatBody, Message

NEXT_TURN = "\nUser:"
"""Where an answer ends, whatever else ends it."""
_SPEAKERS = {"system": "System", "developer": "System", "user": "User", "assistant": "Assistant"}


def transcript(body: ChatBody) -> str:
    """The conversation so far, up to where the assistant speaks; `Refused` for what is not text."""
    turns = [f"{_speaker(message, index)}: {_said(message, index)}" for index, message in enumerate(body.messages)]
    return "\n\n".join([*turns, "Assistant:"])


def _speaker(message: Message, index: int) -> str:
    speaker = _SPEAKERS.get(message.role)
    if speaker is None or message.tool_calls:
        raise unsupported("tools", f"messages[{index}]")
    return speaker


def _said(message: Message, index: int) -> str:
    if isinstance(message.content, list) and any(part.type != "text" for part in message.content):
        raise unsupported("content parts other than text", f"messages[{index}].content")
    return "\n".join(message.texts()).strip()


def unsupported(what: str, param: str) -> Refused:
    """Containers that take text alone cannot be asked for this."""
    return Refused(f"a container that takes text alone does not offer {what}", code="unsupported", param=param)
