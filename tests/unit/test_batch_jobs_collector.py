"""When a batch job begins, who is let go, and what a job under way is asked and when: without a clock or a service."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from router.backends.aws.jobs.collector import Collector, Item
from router.backends.aws.jobs.running import ORPHAN_S, POLL_LEAST_S, POLL_MOST_S, Running
from router.domain.aws.job import JobStatus, JobTerms
from router.learning.job_wait import JobWait
from router.ports.jobs import KnownJob

HOUR_S = 3600.0
TERMS = JobTerms("s3://b/p", "arn", min_records=3, max_records=5, collect_s=900.0, typical_s=HOUR_S, margin_s=60.0)


def collector(*items: Item) -> Collector:
    one = Collector(TERMS)
    for item in items:
        one.add(item)
    return one


def records(count: int, since: float = 0.0, due: float | None = None) -> list[Item]:
    return [Item(f"k{n}", b"{}", since + n, due) for n in range(count)]


def keys(items: tuple[Item, ...]) -> list[str]:
    return [item.key for item in items]


def test_a_full_job_begins_at_once_with_the_oldest() -> None:
    """Five of six go, in order of their coming; the sixth waits for the next job."""
    one = collector(*reversed(records(6)))
    assert keys(one.look(HOUR_S, now=6.0).begins) == ["k0", "k1", "k2", "k3", "k4"]
    assert len(one) == 1


def test_enough_records_begin_when_the_oldest_was_collected_for_long_enough() -> None:
    """Not a second before, and all together."""
    one = collector(*records(3))
    assert one.look(HOUR_S, now=899.0).begins == ()
    assert keys(one.look(HOUR_S, now=900.0).begins) == ["k0", "k1", "k2"]
    assert len(one) == 0


def test_too_few_wait_on_until_their_slack_runs_out() -> None:
    """Two of three records are no job; each leaves when a job that begins now would be late for it."""
    one = collector(Item("a", b"{}", 0.0, due=2 * HOUR_S), Item("b", b"{}", 0.0, due=3 * HOUR_S))
    assert one.look(HOUR_S, now=HOUR_S - 1.0).leaves == ()
    look = one.look(HOUR_S, now=HOUR_S)
    assert (keys(look.leaves), look.begins) == (["a"], ())
    assert keys(one.look(HOUR_S, now=2 * HOUR_S).leaves) == ["b"]


def test_a_tight_record_begins_the_job_before_it_would_be_late() -> None:
    """With enough records nobody is let go for want of patience: the job begins a margin sooner."""
    one = collector(*records(2, due=9 * HOUR_S), Item("tight", b"{}", 5.0, due=HOUR_S + 300.0))
    assert one.look(HOUR_S, now=239.0).begins == ()
    look = one.look(HOUR_S, now=240.0)
    assert sorted(keys(look.begins)) == ["k0", "k1", "tight"]
    assert look.leaves == ()


def test_who_could_only_be_answered_elsewhere_leaves() -> None:
    """The last moment for another deployment bounds the wait even without a deadline."""
    one = collector(Item("a", b"{}", 0.0, due=None, leave_at=50.0))
    assert one.look(HOUR_S, now=49.0).leaves == ()
    assert keys(one.look(HOUR_S, now=50.0).leaves) == ["a"]


def test_a_record_is_collected_once_and_can_be_taken_back() -> None:
    """The second of a key changes nothing; a removed one is in no job."""
    one = collector(Item("a", b"1", 0.0), Item("a", b"2", 9.0), Item("b", b"{}", 1.0))
    assert len(one) == 2
    one.remove("b")
    one.remove("b")
    assert (len(one), "a" in one, one.oldest_s(now=10.0)) == (1, True, 10.0)


def test_large_records_fill_a_job_before_many_do() -> None:
    """Input is bounded by bytes as well."""
    one = collector(*(Item(f"k{n}", b"x" * 80_000_000, float(n)) for n in range(3)))
    assert keys(one.look(HOUR_S, now=3.0).begins) == ["k0", "k1"]


@given(
    st.lists(st.tuples(st.floats(0, 500), st.floats(1, 10_000)), max_size=12),
    st.floats(0, 10_000),
    st.floats(1, 5000),
)
def test_a_look_loses_and_doubles_nobody(arrivals: list[tuple[float, float]], now: float, job_s: float) -> None:
    """Every record is in exactly one place after a look; a job has from min to max records, nobody in it is late."""
    items = [Item(str(n), b"{}", since, due=since + slack) for n, (since, slack) in enumerate(arrivals)]
    one = collector(*items)
    look = one.look(job_s, now=now)
    left = [item.key for item in items if item.key in one]
    assert sorted([*keys(look.begins), *keys(look.leaves), *left]) == sorted(item.key for item in items)
    assert not look.begins or TERMS.min_records <= len(look.begins) <= TERMS.max_records
    assert all(item.due is not None and item.due - job_s > now for item in look.begins)


def running(now: float = 0.0) -> Running:
    return Running(KnownJob("t", "d", "s3://b/i", "s3://b/o/", ("a", "b"), 0.0), now=now)


def test_a_job_is_asked_about_less_often_the_older_it_is() -> None:
    """From seconds to minutes, never more seldom."""
    job = running()
    assert job.is_due(now=0.0)
    job.looked(JobStatus.SUBMITTED, now=0.0)
    assert (job.is_due(now=POLL_LEAST_S - 0.1), job.is_due(now=POLL_LEAST_S)) == (False, True)
    job.looked(JobStatus.IN_PROGRESS, now=1000.0)
    assert job.poll_at == 1050.0
    job.looked(JobStatus.IN_PROGRESS, now=1e6)
    assert job.poll_at == 1e6 + POLL_MOST_S


def test_a_service_that_does_not_answer_is_asked_later_each_time() -> None:
    """Half a minute, a minute, two; an answer begins anew."""
    job = running()
    waits = []
    for _ in range(5):
        job.failed(now=0.0)
        waits.append(job.poll_at)
    assert waits == [30.0, 60.0, 120.0, 240.0, 300.0]
    job.looked(JobStatus.IN_PROGRESS, now=0.0)
    assert job.failures == 0


def test_a_job_is_forsaken_when_nobody_has_waited_for_a_while() -> None:
    """Somebody who comes back in between saves it."""
    job = running()
    job.seen(1, now=0.0)
    assert not job.is_forsaken(now=1e9)
    job.seen(0, now=10.0)
    job.seen(0, now=50.0)
    assert not job.is_forsaken(now=10.0 + ORPHAN_S - 1.0)
    assert job.is_forsaken(now=10.0 + ORPHAN_S)
    job.seen(1, now=20.0)
    assert not job.is_forsaken(now=1e9)


def test_one_job_is_one_observation_however_many_records_it_had() -> None:
    """A hundred answers of the same minute weigh as much as one, by the longest wait among them."""
    many, one = JobWait(HOUR_S), JobWait(HOUR_S)
    for n in range(100):
        many.observe(1000.0 + n, now=50.0 + 0.1 * n)
    one.observe(1099.0, now=50.0)
    assert many.typical_s == one.typical_s
    assert one.typical_s < HOUR_S


def test_what_jobs_take_is_learned_and_gets_surer() -> None:
    """After ten jobs of twenty minutes the prior of an hour weighs little, and the spread is smaller."""
    wait = JobWait(HOUR_S)
    prior = wait.mostly_s
    for n in range(10):
        wait.observe(1200.0, now=1e4 * n)
    assert 1200.0 < wait.typical_s < 1500.0
    assert wait.residual.sigma < 0.5
    assert wait.mostly_s < prior


def test_who_waits_longer_than_usual_is_believed_at_once() -> None:
    """The median is no shorter than the wait of the one that waits still; gone, it is the learned one again."""
    wait = JobWait(HOUR_S)
    wait.observe_waiting(3 * HOUR_S)
    assert wait.typical_s == 3 * HOUR_S
    wait.observe_waiting(0.0)
    assert math.isclose(wait.typical_s, HOUR_S)
