"""One call to one backend, what came back, and how it ended."""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

from msgspec import Struct

from router.domain.decision import DecisionId
from router.domain.deployment import Deployment
from router.domain.errors import Said
from router.domain.request import Request

AttemptId = NewType("AttemptId", str)

PAID_BEFORE = "paid_before"
"""`Delta.served_as` of an answer whose cost is in the books already."""


class Attempt(Struct, frozen=True):
    """One call to one backend. `stream` says whether to ask upstream for a stream (measured, even if the
    client wants one body); `max_tokens`, `temperature`, `top_p`, `top_k` are what the class fills in where silent."""

    id: AttemptId
    decision_id: DecisionId
    request: Request
    deployment: Deployment
    number: int
    started: float
    deadline: float | None
    stream: bool
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    logprobs: bool = False
    """Whether to ask for the probability of each token though the sender does not."""
    due: float | None = None
    """When the whole answer should be there, where the call may wait for a batch job."""
    leave_at: float | None = None
    """When it must leave that job for another deployment to be in time."""
    request_class: str = ""
    """Whose money pays for that job's answer, should it come too late."""
    cache_after: tuple[int, ...] = ()
    """Where its prompt is cut for the service to keep what comes before, see `domain.aws.prefix.Cut.messages`."""


class Usage(Struct, frozen=True):
    """Tokens as the backend counted them. `cached_tokens` (read from a prompt cache) and `cache_written_tokens` are
    parts of `input_tokens`."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_written_tokens: int = 0


class Delta(Struct, frozen=True):
    """A piece of an answer.

    `choices` is the JSON array of an OpenAI chunk (`whole=False`) or of a complete response (`whole=True`);
    it is passed on as it came. `tokens` is how many tokens this piece holds (an estimate until `usage`).
    """

    choices: bytes = b"[]"
    tokens: int = 0
    finish_reason: str | None = None
    usage: Usage | None = None
    whole: bool = False
    served_model: str | None = None
    served_as: str | None = None
    """Service tier or latency that the backend says it served at, where it says so: what was asked for may not be."""


class Ending(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Outcome(Struct, frozen=True):
    """How one attempt ended, with monotonic times. `error_code` and `retry_after_s` are set when it failed."""

    attempt: Attempt
    ending: Ending
    ended: float
    first_token: float | None
    input_tokens: int
    output_tokens: int
    cost_usd: float
    cost_source: str = "policy"
    """Where the prices are from that made `cost_usd`."""
    finish_reason: str | None = None
    served_model: str | None = None
    error_code: str | None = None
    retry_after_s: float | None = None
    served_otherwise: str | None = None
    """What it was served as instead of what was asked for."""
    served_as: str | None = None
    """The service tier, latency or variant of an endpoint that the backend says answered, asked for or not."""
    cached_tokens: int = 0
    cache_written_tokens: int = 0
    """Both parts of `input_tokens`."""
    short_of: str | None = None
    """Of what the backend said there was too much when it throttled: requests, tokens, or `None`."""
    said: Said | None = None
    """How the service itself named the failure."""

    @property
    def tpot_s(self) -> float | None:
        """Mean gap between tokens; 0 for a single token, `None` where no first token was seen."""
        if self.first_token is None:
            return None
        if self.output_tokens <= 1:
            return 0.0
        return (self.ended - self.first_token) / (self.output_tokens - 1)


class Receipt(Struct, frozen=True):
    """What a reply says about how it was made: header and user-property values."""

    decision_id: str
    deployment: str
    model: str
    policy: str
    attempts: int
    cost_usd: float
    overhead_s: float
    request_class: str = ""
    complexity: float | None = None
    ttft_s: float | None = None
    queue_s: float = 0.0
    cost_source: str = ""
    """Where the prices are from that make `cost_usd`; empty where nothing was paid."""
    cache: str = ""
    """`hit` or `joined` where the answer was made for an earlier request; empty where it was made for this one."""


class Reply(Struct, frozen=True):
    """A finished answer: `choices` is the JSON array of a complete OpenAI response."""

    request: Request
    choices: bytes
    usage: Usage
    receipt: Receipt
    created: int
    finish_reason: str | None = None
    """As the backend gave it."""
    report: bytes = b""
    """JSON of what became of each part, where the request had parts."""
