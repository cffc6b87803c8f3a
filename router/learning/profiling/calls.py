"""One call of a load test as its sender sees it, and the calls of one level."""

from __future__ import annotations

from msgspec import Struct


class Sample(Struct, frozen=True):
    """One invocation, in monotonic seconds. `first` is `None` where the answer came whole; `code` is that of the error,
    `problem` its first words. `items` is how many requests a batch held; tokens and dollars are those of all."""

    sent: float
    ended: float
    first: float | None
    input_tokens: int
    output_tokens: int
    usd: float
    input_usd: float
    """The part of `usd` that was paid for input."""
    code: str | None = None
    problem: str = ""
    retry_after_s: float | None = None
    has_usage: bool = True
    """Whether the backend said how many tokens there were; else they are estimated."""
    items: int = 1

    @property
    def latency_s(self) -> float:
        """From sending to the end of the answer."""
        return self.ended - self.sent

    @property
    def ttft_s(self) -> float | None:
        """To the first token; `None` where the answer came whole."""
        return None if self.first is None else self.first - self.sent

    @property
    def tpot_s(self) -> float | None:
        """The mean gap between tokens; `None` where there was none."""
        if self.first is None or self.output_tokens < 2:
            return None
        return (self.ended - self.first) / (self.output_tokens - 1)


class Level(Struct, frozen=True):
    """The calls that so many users made, each sending its next when the one before had ended.

    `warm_ups` are paid, and in the way of others, but not counted. `stopped` says why it ended before its time.
    `busy_ratio` is how much of a processor the sender itself took.
    """

    concurrency: int
    samples: tuple[Sample, ...]
    warm_ups: tuple[Sample, ...] = ()
    stopped: str = ""
    busy_ratio: float | None = None
