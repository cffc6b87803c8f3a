"""How long does whoever is asked about answers take, and do they say anything at all? By request class.

Both are means that forget. Where they have made asking not worth the wait, what is believed goes slowly back to the
prior with each time that nobody was asked, so that a judge who was away is tried again.
"""

from __future__ import annotations

_WAIT_S, _ANSWERED = 0.5, 0.9
"""Before anything is known."""
_WEIGHT = 0.1
_BACK = 1e-4
"""Share of the way back to the prior for each time that nobody was asked: one request in some thirty asks a judge who
is away."""


class _Known:
    __slots__ = ("answered", "wait_s")

    def __init__(self) -> None:
        self.wait_s, self.answered = _WAIT_S, _ANSWERED


class Verdicts:
    """What is known of the judges of each class."""

    def __init__(self) -> None:
        self._classes: dict[str, _Known] = {}

    def expect(self, request_class: str) -> tuple[float, float]:
        """Mean seconds until a verdict or the end of waiting for it, and the share of questions that got one."""
        known = self._classes.get(request_class)
        return (_WAIT_S, _ANSWERED) if known is None else (known.wait_s, known.answered)

    def observe(self, request_class: str, waited_s: float, *, answered: bool) -> None:
        """Somebody was asked, and said something within so many seconds or did not."""
        known = self._classes.setdefault(request_class, _Known())
        known.wait_s += _WEIGHT * (waited_s - known.wait_s)
        known.answered += _WEIGHT * (answered - known.answered)

    def on_unasked(self, request_class: str) -> None:
        """Asking was not worth it."""
        known = self._classes.get(request_class)
        if known is not None:
            known.wait_s += _BACK * (_WAIT_S - known.wait_s)
            known.answered += _BACK * (_ANSWERED - known.answered)
