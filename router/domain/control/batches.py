"""What happened to one batch, and why it was as large as it was."""

from __future__ import annotations

from enum import StrEnum

from router.domain.events import Event


class Start(StrEnum):
    """Why a batch began when it did.

    `full`: no more items fit. `slack`: the tightest item could wait no longer. `enough`: one more item would save too
    little of the endpoint's time. `sparse`: nobody else was expected within the slack. `next_batch`: those who come
    while a larger one runs would be late. `bound`: the wait that the class allows was over. `at_once`: nothing was
    promised, so there is no time to wait by. `split`: half of a batch that failed.
    """

    FULL = "full"
    SLACK = "slack"
    ENOUGH = "enough"
    SPARSE = "sparse"
    NEXT_BATCH = "next_batch"
    BOUND = "bound"
    AT_ONCE = "at_once"
    SPLIT = "split"


class BatchEnded(Event, frozen=True):
    """One batch is over. `wait_s`: how long the endpoint stood idle on purpose before it; `expected_s` and `upper_s`:
    median and 99 % quantile of `took_s` as they were predicted. `dropped` were refused when it began, because they
    could no longer be in time; `late` were served though they could not. `code` is why it failed."""

    deployment: str
    items: int
    reason: str
    wait_s: float
    took_s: float
    expected_s: float
    upper_s: float
    dropped: int
    late: int
    code: str | None = None
