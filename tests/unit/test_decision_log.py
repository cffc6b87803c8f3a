"""The decision log: everything decided is there once, joined, without a prompt, whatever the crash."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from random import Random
from time import monotonic, sleep

import msgspec
import pytest
import structlog

from bench.traffic import PROMPT, policy, request_events, tick_events, trouble_events
from router.domain.events import AttemptEnded, DecisionMade, Event, FeedbackReceived, RequestEnded
from router.storage.decision_log import DecisionLog
from router.storage.decision_records import (
    CURRENT,
    DecisionRecord,
    OutcomeRecord,
    follow_records,
    log_files,
    read_decisions,
    read_record,
)

POLICY = policy(classes=2, deployments=3)


def tell(log: DecisionLog, events: Iterable[Event]) -> None:
    """What the sink does: hand each event to its handler, then flush."""
    handlers = log.handlers()
    for event in events:
        handler = handlers.get(type(event))
        if handler is not None:
            handler(event)
    log.flush()


def write(folder: Path, requests: range, **options: int) -> list[Event]:
    """A life of the process that logs these requests one batch each; returns what it was told."""
    log, rng, told = DecisionLog(folder, **options), Random(requests.start), list[Event]()
    for n in requests:
        events = request_events(n, rng, POLICY)
        tell(log, events)
        told += events
    log.close()
    assert log.lost == 0
    return told


def ids(folder: Path) -> list[str]:
    """Decision ids as they are read."""
    return [logged.decision.id for logged in read_decisions(log_files(folder))]


def test_a_decision_comes_back_as_it_was_made(tmp_path: Path) -> None:
    """Features, candidates, terms, propensity, prices and policy survive the file to the last digit."""
    told = write(tmp_path, range(5))
    made = [event.decision for event in told if isinstance(event, DecisionMade)]
    assert [logged.decision for logged in read_decisions(log_files(tmp_path))] == made


def test_outcome_and_feedback_are_joined_by_decision_id(tmp_path: Path) -> None:
    """What ended and what was told of it later stand with the decision, not with its neighbour."""
    first, second = request_events(1, Random(1), POLICY), request_events(2, Random(2), POLICY)
    log = DecisionLog(tmp_path)
    tell(log, (e for e in (*first, *second) if isinstance(e, DecisionMade)))
    tell(log, (e for e in second if isinstance(e, RequestEnded)))
    tell(log, [FeedbackReceived("d2", 0.25, True), FeedbackReceived("d2", 0.75, True), FeedbackReceived("x", 1, False)])
    log.close()
    assert log.written == 5, "feedback on an unknown decision teaches nothing and is not kept"
    one, two = read_decisions(log_files(tmp_path))
    assert (one.outcome, one.feedback) == (None, ())
    ended = next(e for e in second if isinstance(e, RequestEnded))
    assert two.outcome is not None
    assert (two.outcome.cost_usd, two.outcome.met, two.outcome.tier) == (ended.cost_usd, ended.met, ended.tier)
    assert [told.quality for told in two.feedback] == [0.25, 0.75]


def test_calls_that_failed_are_kept_and_calls_that_completed_are_not_twice(tmp_path: Path) -> None:
    """A retry can be followed: the failed call is under its decision, the completed one is the outcome."""
    log = DecisionLog(tmp_path)
    tell(log, (e for e in request_events(3, Random(1), POLICY) if not isinstance(e, RequestEnded)))
    tell(log, (e for e in trouble_events(3, POLICY) if isinstance(e, AttemptEnded)))
    log.close()
    (logged,) = read_decisions(log_files(tmp_path))
    assert [(a.ending, a.code) for a in logged.attempts] == [("failed", "throttled")]


def test_no_prompt_is_on_the_disk(tmp_path: Path) -> None:
    """Neither the prompt nor the payload of any event reaches a file."""
    log = DecisionLog(tmp_path)
    for n in range(3):
        tell(log, (*request_events(n, Random(n), POLICY), *tick_events(n, POLICY), *trouble_events(n, POLICY)))
    log.close()
    text = (tmp_path / CURRENT).read_text()
    assert '"d2"' in text
    assert PROMPT not in text


def test_every_line_names_its_record_and_version(tmp_path: Path) -> None:
    """Another program can tell the lines apart and refuse what it does not know."""
    write(tmp_path, range(3))
    lines = [json.loads(line) for line in (tmp_path / CURRENT).read_text().splitlines()]
    assert {(line["record"], line["version"]) for line in lines} == {("decision", 1), ("outcome", 1)}


def test_another_schema_is_left_out_and_said(tmp_path: Path) -> None:
    """A line of a later version is skipped by number, not misread."""
    write(tmp_path, range(2))
    path = tmp_path / CURRENT
    lines = path.read_text().splitlines()
    path.write_text("\n".join((lines[0].replace('"version":1', '"version":2'), *lines[1:])) + "\n")
    skipped: list[int] = []
    read = [d.decision.id for d in read_decisions([path], skipped=lambda _, number: skipped.append(number))]
    assert read == ["d1"]
    assert skipped == [1]


@pytest.mark.parametrize("torn", [1, 40, 400])
def test_a_torn_last_line_costs_itself_alone(tmp_path: Path, torn: int) -> None:
    """A crash in the middle of a write, then a new life: all but the torn line is read, none runs into the next."""
    write(tmp_path, range(3))
    path = tmp_path / CURRENT
    path.write_bytes(path.read_bytes()[:-torn])
    write(tmp_path, range(3, 5))
    skipped: list[int] = []
    read = list(read_decisions([path], skipped=lambda _, number: skipped.append(number)))
    assert [logged.decision.id for logged in read] == ["d0", "d1", "d2", "d3", "d4"]
    assert [logged.outcome is None for logged in read] == [False, False, torn > 1, False, False]
    assert len(skipped) == (torn > 1)


def test_files_are_rotated_by_size_and_the_oldest_go(tmp_path: Path) -> None:
    """Old files are compressed and numbered; at most `keep` stay; what stays reads in order."""
    write(tmp_path, range(60), max_bytes=20_000, keep=3)
    names = [path.name for path in log_files(tmp_path)]
    assert len(names) in (3, 4)
    assert all(name.endswith(".jsonl.gz") for name in names if name != CURRENT)
    read = ids(tmp_path)
    assert read == [f"d{n}" for n in range(60 - len(read), 60)]
    assert len(read) < 60


def test_a_new_life_goes_on_where_the_last_ended(tmp_path: Path) -> None:
    """Restarting appends; archives keep their numbers."""
    write(tmp_path, range(20), max_bytes=10_000)
    before = {path.name for path in tmp_path.iterdir()}
    write(tmp_path, range(20, 40), max_bytes=10_000)
    assert before - {CURRENT} <= {path.name for path in tmp_path.iterdir()}
    assert ids(tmp_path) == [f"d{n}" for n in range(40)]


@pytest.mark.parametrize("leftover", ["plain", "unfinished", "both"])
def test_a_crash_in_the_middle_of_a_rotation_loses_and_doubles_nothing(tmp_path: Path, leftover: str) -> None:
    """Whatever the rotation had reached, the next life finishes it."""
    write(tmp_path, range(4))
    plain = tmp_path / "decisions-00000001.jsonl"
    (tmp_path / CURRENT).rename(plain)
    if leftover == "unfinished":
        (tmp_path / "decisions-00000001.jsonl.gz.tmp").write_bytes(b"half")
    if leftover == "both":
        (tmp_path / "decisions-00000001.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    assert ids(tmp_path) == ["d0", "d1", "d2", "d3"], "it reads before it is tidied"
    write(tmp_path, range(4, 6))
    assert ids(tmp_path) == ["d0", "d1", "d2", "d3", "d4", "d5"]
    assert {path.name for path in tmp_path.iterdir()} == {CURRENT, "decisions-00000001.jsonl.gz"}


def test_a_damaged_archive_does_not_hide_the_others(tmp_path: Path) -> None:
    """A truncated gzip file gives what it still holds and is named."""
    write(tmp_path, range(30), max_bytes=30_000)
    archive = log_files(tmp_path)[0]
    archive.write_bytes(archive.read_bytes()[:-200])
    skipped: list[Path] = []
    read = [d.decision.id for d in read_decisions(log_files(tmp_path), skipped=lambda p, _: skipped.append(p))]
    assert read[-1] == "d29"
    assert archive in skipped


def test_reading_while_it_rotates_sees_each_decision_once(tmp_path: Path) -> None:
    """The reader holds the files it began with, whatever the writer does to their names."""
    write(tmp_path, range(10))
    reader = read_decisions(log_files(tmp_path))
    first = next(reader).decision.id
    write(tmp_path, range(10, 40), max_bytes=10_000, keep=1)
    assert [first, *(logged.decision.id for logged in reader)][:10] == [f"d{n}" for n in range(10)]


def test_a_disk_that_refuses_is_counted_and_recovers(tmp_path: Path) -> None:
    """Records lost to the disk are counted; when it takes writes again they are written again."""
    folder = tmp_path / "log"
    log = DecisionLog(folder)
    (folder / CURRENT).mkdir()
    with structlog.testing.capture_logs() as said:
        tell(log, request_events(0, Random(0), POLICY))
        wait_until_seen(log, 2)
    assert log.lost == 2
    assert [line["event"] for line in said] == ["decision_log_failed"]
    (folder / CURRENT).rmdir()
    tell(log, request_events(1, Random(1), POLICY))
    log.close()
    assert ids(folder) == ["d1"]
    assert log.written == 2


def wait_until_seen(log: DecisionLog, records: int) -> None:
    """Wait until the writer has dealt with this many records."""
    end = monotonic() + 60.0
    while log.lost + log.written < records:
        assert monotonic() < end, "the writer never saw them"
        sleep(0.001)


def test_a_full_queue_loses_and_counts(tmp_path: Path) -> None:
    """More waiting than `max_waiting` is refused at once: memory stays bounded."""
    log = DecisionLog(tmp_path, max_waiting=1)
    tell(log, request_events(0, Random(0), POLICY))
    log.close()
    assert log.lost == 2
    assert ids(tmp_path) == []


def test_following_shows_what_is_written_from_now_on(tmp_path: Path) -> None:
    """New records come as they are written, old ones do not, and a rotation in between loses none."""
    write(tmp_path, range(2))
    lives = iter((range(2, 4), range(4, 6)))

    def wait() -> None:
        requests = next(lives, None)
        if requests is None:
            raise KeyboardInterrupt  # as an operator ends it
        if requests.start == 4:
            (tmp_path / CURRENT).rename(tmp_path / "decisions-00000001.jsonl")
        write(tmp_path, requests)

    seen: list[object] = []
    with contextlib.suppress(KeyboardInterrupt):
        seen.extend(record for record in follow_records(tmp_path, wait=wait))
    decided = [r.decision.id for r in seen if isinstance(r, DecisionRecord)]
    assert decided == ["d2", "d3", "d4", "d5"]
    assert sum(isinstance(r, OutcomeRecord) for r in seen) == 4


def test_any_bytes_are_read_without_an_error() -> None:
    """A line of a damaged file is refused, never raised."""
    for line in (b"", b"{", b"null", b'{"record":"decision"}', b'{"record":"else","version":1}', b"\xff\xfe"):
        assert read_record(line) is None


def test_the_order_of_fields_lets_a_reader_skip() -> None:
    """Decisions begin with their tag, which the reader relies on to pass over them cheaply."""
    event = next(e for e in request_events(1, Random(1), POLICY) if isinstance(e, DecisionMade))
    assert msgspec.json.encode(DecisionRecord(1, event.decision)).startswith(b'{"record":"decision",')
