"""What is told where the world is no longer the one that was learned from, and of promises of quality at risk."""

from __future__ import annotations

from router.domain.events import Event


class DriftDetected(Event, frozen=True):
    """Something drifted, or came back. `subject` is the model, request class or source of feedback.

    | kind | what | direction |
    |---|---|---|
    | residual | model | fell, rose, settled (taken for what it is now), retried (nothing was told of it for long) |
    | residual | class | up, down: answers turn out better or worse than predicted, whichever model gives them |
    | features | novelty, complexity, input_tokens | up, down: the requests of a class are not what they were |
    | feedback | share | up, down: of the requests of a class that are told of |
    | feedback | quality | up, down: all models moved at once; then stayed, or passed |

    `old` and `new` are the figures before and after, in units of `what`: P(adequate) where that is model, class or
    quality. `done` says what was frozen, forgotten or fallen back to.
    """

    kind: str
    subject: str
    what: str
    direction: str
    old: float
    new: float
    done: str
    at: float


class FloorObserved(Event, frozen=True):
    """The floor of a class at a tick, means over its last answers: P(adequate) as expected, as the floor counted it
    (lower where the estimate is doubted), and corrected by verdicts, where there were enough of them."""

    request_class: str
    ratio: float
    price: float
    expected: float
    counted: float
    corrected: float | None
    reason: str
    """Why it is at risk; empty where it is not."""


class FloorAtRisk(Event, frozen=True):
    """The floor of a class cannot be trusted to hold, or can be again (`reason` is empty). `reason`: price_at_bound,
    feedback, fallen, novel (see `slo.risk`). `low` is what it is at least, as far as is known."""

    request_class: str
    reason: str
    ratio: float
    expected: float
    low: float
    price: float
    done: str


RISKS = ("price_at_bound", "feedback", "fallen", "novel")
