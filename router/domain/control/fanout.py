"""What became of a request that was answered in parts."""

from __future__ import annotations

from router.domain.events import Event


class FanoutEnded(Event, frozen=True):
    """A request with parts is answered or has failed for good.

    `status`: completed, partial (a part or the merge failed), failed, refused (it was read wrong), cancelled. The parts
    are counted by how they ended; `recalled` ones were answered and paid in an earlier life of the process. `merge`:
    completed, failed, or empty where none was made. `parts_s` is what the parts took one by one: the time that
    answering them one after another would have taken.
    """

    request_id: str
    status: str
    completed: int
    recalled: int
    failed: int
    cancelled: int
    merge: str
    seconds: float
    parts_s: float
    at: float
