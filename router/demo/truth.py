"""What would each model have answered in the demo, and how well? Known to the demo alone.

An answer is adequate when the model's ability exceeds the hidden difficulty of the request. Difficulty follows
from the kind of prompt, so it can be learned from feedback, up to a part that cannot.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import cycle, islice
from zlib import crc32

from router.backends.simulated import SimulatedAnswer
from router.demo.stream import DemoRequest
from router.domain.request import Request

ABILITY = {"llama-3.1-8b": 0.52, "llama-3.1-70b": 0.97}
"""Chosen, not measured: over the stream the small model is adequate for about two thirds."""
_ABILITY_OF_OTHERS = 0.75
_LENGTH = {"llama-3.1-8b": 1.15}
"""A small model talks longer: chosen as well."""
_KEPT = 20_000
_TEXT = (
    "This is a simulated answer: no model has read the prompt, but its length, its time and its price are those "
    "that one would have had. The words repeat until the answer is as long as it should be, which is dull to read "
    "and easy to recognise. What matters in a demonstration is when each of them arrives and what it costs. "
)
_WORDS = _TEXT.split()


class DemoTruth:
    """`router.backends.simulated.Truth` for the demo; remembers the latest requests that were announced."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, DemoRequest] = OrderedDict()

    def announce(self, request: DemoRequest) -> None:
        """A request is about to be sent."""
        self._known[request.id] = request
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)

    def answer(self, request: Request, model: str) -> SimulatedAnswer:
        """As long as announced; requests of anybody else get a length that follows from their text."""
        known = self._known.get(request.id)
        tokens = known.output_tokens if known else 40 + crc32(request.prompt.last_user.encode()) % 120
        tokens = max(1, round(tokens * _LENGTH.get(model, 1.0)))
        return SimulatedAnswer(tokens, " ".join(islice(cycle(_WORDS), tokens)))

    def quality(self, request_id: str, model: str) -> float | None:
        """1 for an adequate answer, 0 for another; `None` for a request that was not announced."""
        known = self._known.get(request_id)
        if known is None:
            return None
        return float(ABILITY.get(model, _ABILITY_OF_OTHERS) > known.difficulty)
