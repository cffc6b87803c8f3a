"""Who is asked whether an answer will do, where the sender of the request names somebody."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Question(Struct, frozen=True):
    """An answer to be judged: `choices` is the JSON array of a complete OpenAI response; `topic` is whom to ask."""

    topic: str
    request_id: str
    decision_id: str
    deployment: str
    choices: bytes


class Verifier(Protocol):
    """Asks, and waits for the verdict."""

    def refusal(self, topic: str) -> str | None:
        """Why nobody can be asked there, or `None` where somebody may be."""
        ...

    async def verdict(self, question: Question, *, within_s: float) -> bool | None:
        """Whether the answer will do; `None` where nobody has said so in time. Raises nothing."""
        ...
