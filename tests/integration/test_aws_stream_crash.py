"""A router that dies, drains, or is hung up on amid Bedrock streams: `router serve`, MQTT, `router aws-double`.

Real processes and real seconds; `bench.aws_survive` is the same with 200 streams.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from bench.aws_survive import TooSlow, cancel, crash, drain

REQUESTS = 40
TOKENS, GAPS_S = 30, (0.05, 0.2, 0.8)


def patiently(
    scene: Callable[..., dict[str, Any]], was_quick: Callable[[dict[str, Any]], bool] = lambda _: True
) -> dict[str, Any]:
    """What is found with gaps between the tokens that are long enough for this machine, or with the longest."""
    for gap_s in GAPS_S[:-1]:
        with suppress(TooSlow):
            found = scene(REQUESTS, tokens=TOKENS, gap_s=gap_s)
            if was_quick(found):
                return found
    return scene(REQUESTS, tokens=TOKENS, gap_s=GAPS_S[-1])


def test_killed_amid_streams_all_are_answered_and_none_is_paid_twice() -> None:
    """Each id has one whole answer; a call beyond one an id was cut off and is counted as such; what ended is in both
    ledgers at the same cost, and each cut-off call is in ours once, at the cost that its decision expected."""
    found = patiently(crash)
    assert (found["published"], found["answered in full"], found["reported"]) == (REQUESTS, REQUESTS, 0)
    assert (found["answered twice"], found["paid twice"], found["called though answered"]) == (0, 0, 0)
    assert found["cut-off calls counted"] > 0
    assert found["our USD"] == pytest.approx(found["ended, our USD"] + found["cut off, our USD (expected)"])
    assert found["last life, our USD"] == pytest.approx(found["last life, the double's USD"])
    assert 0.0 < found["ended, our USD"] <= found["ended, the double's USD"] + 1e-12
    assert found["cut off, the double's USD (generated)"] > 0.0


def test_killed_again_and_again_with_answers_on_their_way() -> None:
    """Also where each kill comes while some answers have been sent and others are still being made."""
    found = patiently(partial(crash, kills=2, after=0.2))
    assert (found["answered in full"], found["answered twice"], found["paid twice"]) == (REQUESTS, 0, 0)
    assert found["called though answered"] == 0
    assert found["our USD"] == pytest.approx(found["ended, our USD"] + found["cut off, our USD (expected)"])


def test_drained_amid_streams_all_are_answered_and_nothing_is_called_again() -> None:
    """What is open at SIGTERM is answered before the process ends, what comes meanwhile by the next one; the ledgers
    agree to the last digit."""
    found = drain(REQUESTS, tokens=TOKENS, gap_s=GAPS_S[0])
    asked = REQUESTS + REQUESTS // 10
    assert (found["exit status"], found["answered by then"], found["answered in full"]) == (0, REQUESTS, asked)
    assert (found["answered twice"], found["cut-off calls counted"], found["calls at the double"]) == (0, 0, asked)
    assert found["our USD"] == pytest.approx(found["the double's USD"])


def was_noticed_soon(found: dict[str, Any]) -> bool:
    """Of a call that was hung up on the double made five tokens more at most, or as long an answer as was expected."""
    late = found["their tokens, the double's"] - found["their tokens, ours"]
    whole = found["of whole answers, our USD (expected)"]
    return bool(
        late <= 5 * found["booked as cancelled"]
        and whole == pytest.approx(found["of whole answers, the double's USD"], rel=0.5)
    )


def test_hung_up_streams_free_their_connections_and_are_booked() -> None:
    """The double's open calls fall to those that are left, which are answered in full; of the others our ledger has
    the tokens that came, and of whole answers that were not waited for about what the double bills."""
    found = patiently(cancel, was_quick=was_noticed_soon)
    assert (found["open at the double"], found["open after that"]) == (REQUESTS, REQUESTS // 2)
    assert (found["answered in full"], found["booked as cancelled"]) == (REQUESTS // 2, REQUESTS // 2)
    generated = found["their tokens, the double's"]
    assert 0 < found["their tokens, ours"] <= generated
    assert was_noticed_soon(found)
    assert found["the others' USD, ours"] == pytest.approx(found["the others' USD, the double's"])
    whole = found["of whole answers, our USD (expected)"]
    assert found["our USD"] == pytest.approx(found["their USD, ours"] + found["the others' USD, ours"] + whole)
    assert found["spend counter, USD"] == pytest.approx(found["our USD"])
