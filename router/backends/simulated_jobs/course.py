"""How far is a job, and how does it end? Worked out when it is submitted: nothing that comes later changes it but a
stop."""

from __future__ import annotations

from msgspec import Struct

from router.backends.simulated_events import NS_PER_S, Disturbances
from router.domain.aws.job import JobStatus

_NEVER = float("inf")


class Course(Struct, frozen=True):
    """Records are answered one after the other, evenly while the pace is the same. `marks` are (second, share of the
    records that is answered by then); at `ends` it ends by itself as `end`."""

    marks: tuple[tuple[float, float], ...]
    ends: float
    end: JobStatus

    def share(self, at_s: float) -> float:
        """The share of the records that is answered by that second."""
        (begun, done), *rest = self.marks
        for mark, share in rest:
            if at_s < mark:
                return done + (share - done) * max(at_s - begun, 0.0) / (mark - begun)
            begun, done = mark, share
        return done


def course(work_s: float, events: Disturbances, *, at_s: float, timeout_s: float, fails: bool) -> Course:
    """Of a job of so many seconds that is submitted at `at_s`: slowdowns stretch it, an outage ends it and all it has
    done, and the service gives it up after `timeout_s` with what is answered by then."""
    marks = _marks(work_s, events, at_s)
    done_at = marks[-1][0]
    outage = events.next_outage(round(at_s * NS_PER_S))
    lost_at = _NEVER if outage is None else outage / NS_PER_S
    given_up_at = at_s + timeout_s
    if lost_at < min(done_at, given_up_at):
        return Course(marks, lost_at, JobStatus.FAILED)
    if given_up_at < done_at:
        return Course(marks, given_up_at, JobStatus.EXPIRED)
    return Course(marks, done_at, JobStatus.FAILED if fails else JobStatus.COMPLETED)


def _marks(work_s: float, events: Disturbances, at_s: float) -> tuple[tuple[float, float], ...]:
    """Up to the end of the work, by the pace of each time between two changes."""
    marks, now, left_s = [(at_s, 0.0)], at_s, work_s
    while left_s > 0.0:
        ns = round(now * NS_PER_S)
        slowdown, change = float(events.slowdown(ns)), events.next_change(ns)
        until = now + left_s * slowdown
        if change is None or until <= change / NS_PER_S:
            marks.append((until, 1.0))
            break
        left_s -= (change / NS_PER_S - now) / slowdown
        now = change / NS_PER_S
        marks.append((now, 1.0 - left_s / work_s))
    return tuple(marks)
