"""A canary that waits for a word on the decision log: who gets it meanwhile, and what each word does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from router.core.rollouts.gate import Asked, Verdict
from router.core.rollouts.rollouts import Rollouts
from router.core.rollouts.saved import decode, encode
from router.core.rollouts.status import status_of
from router.domain.deployment import Tier
from router.domain.events import RolloutChanged
from router.domain.request import Prompt, Request, RequestId
from router.domain.rollout import Require, Rollout, RolloutMode
from router.domain.slo import RequestClass
from router.policy.policy import Policy
from router.runtime.reload.gate import Gate
from tests.regressions.house import deployment

REQUIRE = Require(quality_low=0.9)
GATED = Rollout(RolloutMode.CANARY, steps=(0.5,), require=REQUIRE)
FLEET = (deployment("small"), deployment("large", Tier.LARGE))


def policy(priority: int, rollout: Rollout = GATED) -> Policy:
    return Policy(f"p{priority} {rollout}", (RequestClass("chat", priority=priority, rollout=rollout),), FLEET)


def edited(rollout: Rollout = GATED) -> tuple[Rollouts, list[RolloutChanged]]:
    """Rollouts just after the class got another priority."""
    rollouts = Rollouts(policy(0, rollout))
    return rollouts, changes(rollouts.take_up(policy(5, rollout), now=0.0, at=0.0))


def changes(events: Sequence[object]) -> list[RolloutChanged]:
    assert all(isinstance(event, RolloutChanged) for event in events)
    return [event for event in events if isinstance(event, RolloutChanged)]


def share(rollouts: Rollouts) -> float:
    """Of the requests that get the edit."""
    asked = (Request(RequestId(f"r{i}"), 0.0, 0.0, Prompt("hello"), 10) for i in range(400))
    return sum(rollouts.place(one, "chat").request_class.priority == 5 for one in asked) / 400


def heard(rollouts: Rollouts, passed: bool | None, reason: str = "the figures") -> list[RolloutChanged]:
    (asked,) = rollouts.asked()
    return changes(rollouts.hear(asked, Verdict(passed, reason), now=1.0, at=1.0))


def test_nobody_gets_an_edit_that_waits() -> None:
    """It is asked about with the policy that it would make; the class stays as it is."""
    rollouts, events = edited()
    assert [(e.state, e.ratio) for e in events] == [("waiting", 0.0)]
    (asked,) = rollouts.asked()
    assert (asked.request_class, asked.require) == ("chat", REQUIRE)
    assert [c.priority for c in asked.old.classes + asked.new.classes] == [0, 5]
    assert share(rollouts) == 0.0
    rollouts.tick(now=1e6, at=1e6)
    assert share(rollouts) == 0.0, "time alone opens no gate"


def test_a_good_word_lets_it_begin() -> None:
    """At its first step, with the figures as the reason; it is not asked about again, and it goes on as any canary."""
    rollouts, _ = edited()
    (event,) = heard(rollouts, True, "quality 0.95 [0.93, 0.97]")
    assert (event.state, event.ratio, event.reason) == ("canary", 0.5, "quality 0.95 [0.93, 0.97]")
    assert rollouts.asked() == []
    assert share(rollouts) == pytest.approx(0.5, abs=0.1)
    (status,) = status_of(rollouts, now=2.0)
    assert status.state == "canary"


def test_a_bad_word_parks_it() -> None:
    """Refused with the figures; it never begins by itself, and status says why."""
    rollouts, _ = edited()
    (event,) = heard(rollouts, False, "quality 0.8 [0.78, 0.82]")
    assert (event.state, event.ratio, event.reason) == ("refused", 0.0, "quality 0.8 [0.78, 0.82]")
    assert rollouts.asked() == []
    assert share(rollouts) == 0.0
    (status,) = status_of(rollouts, now=2.0)
    assert (status.state, status.reason, status.waits_for) == ("refused", "quality 0.8 [0.78, 0.82]", None)


def test_too_little_is_told_once_and_asked_again() -> None:
    """It goes on waiting; what it lacks now is in the status."""
    rollouts, _ = edited()
    assert [e.state for e in heard(rollouts, None, "4,000 requests more")] == ["waiting"]
    assert heard(rollouts, None, "2,000 requests more") == []
    (status,) = status_of(rollouts, now=2.0)
    assert (status.state, status.waits_for) == ("waiting", "2,000 requests more")
    assert [e.state for e in heard(rollouts, True)] == ["canary"]


def test_another_bound_is_another_question() -> None:
    """A word on the terms of before is not heard; a refused edit is asked about anew, and without terms it begins."""
    rollouts, _ = edited()
    (asked,) = rollouts.asked()
    heard(rollouts, False)
    milder = replace(GATED, require=Require(quality_low=0.7))
    (event,) = changes(rollouts.take_up(policy(5, milder), now=2.0, at=2.0))
    assert event.state == "waiting"
    assert rollouts.hear(asked, Verdict(True, ""), now=3.0, at=3.0) == []
    assert share(rollouts) == 0.0
    (event,) = changes(rollouts.take_up(policy(5, replace(GATED, require=None)), now=4.0, at=4.0))
    assert (event.state, event.ratio) == ("canary", 0.5)


@pytest.mark.parametrize(
    ("passed", "state"), [(True, "canary"), (False, "refused"), (None, "waiting")], ids=["passed", "refused", "thin"]
)
def test_a_restart_forgets_no_word(passed: bool | None, state: str) -> None:
    """What passed is not asked about again, what was refused stays refused, and what waits is asked about."""
    before, _ = edited()
    heard(before, passed, "why")
    after = Rollouts(policy(5))
    after.resume(decode(encode(before.saved(now=2.0))), now=0.0, at=0.0)
    (status,) = status_of(after, now=0.0)
    assert status.state == state
    assert bool(after.asked()) is (passed is None)
    assert share(after) == pytest.approx(0.5 if passed else 0.0, abs=0.1)


def test_the_log_is_asked_once_in_a_while() -> None:
    """One question an edit, again after a while if that said too little; what cannot be read is no word against it."""
    rollouts, _ = edited()
    told: list[Verdict] = []
    questions: list[Asked] = []
    clock = [0.0]

    def judge(asked: Asked) -> Verdict:
        questions.append(asked)
        if len(questions) == 1:
            raise OSError("no such file")
        return Verdict(True, "good")

    def tell(asked: Asked, verdict: Verdict) -> None:
        told.append(verdict)
        rollouts.hear(asked, verdict, now=clock[0], at=clock[0])

    gate = Gate(rollouts.asked, judge, tell, now=lambda: clock[0], again_s=300.0)

    async def scene() -> None:
        for now in (0.0, 2.0, 299.0, 301.0, 700.0):
            clock[0] = now
            await gate.look()

    asyncio.run(scene())
    assert [v.passed for v in told] == [None, True]
    assert "no such file" in told[0].reason
    assert share(rollouts) > 0.0
