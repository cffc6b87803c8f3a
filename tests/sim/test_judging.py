"""A judge in closed loop: one that errs a little, a sampled share, and what the router believes in the end."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator
from random import Random

import pytest
from msgspec.structs import replace

from router.backends.simulated_fleet import deployments, read_fleet
from router.domain.deployment import Price, Tier
from router.domain.events import AnswerJudged, DecisionMade, FeedbackReceived, JudgeCompared
from router.domain.outcome import Attempt, Delta, Usage
from router.domain.slo import Judge, RequestClass
from router.policy.policy import Policy
from router.sim.run import Setting, play
from router.sim.workload import Arrival, Workload
from router.wire.openai import whole_choices
from tests.regressions.house import Answer, Estimator, House, deployment, virtually

ASKED = json.dumps({"messages": [{"role": "user", "content": "Is it so?"}]}).encode()
SHARE, ERRS = 0.25, 0.1
FLEET = read_fleet(
    """
deployments:
  - name: small
    model: llama-3.1-8b
    tier: small
    kind: continuous
    price_usd_per_mtok: {input: 0.22, output: 0.22}
    step_ms: {base: 6.7, per_sequence: 0.058, per_context_token: 0.000032, per_prefill_token: 0.0209}
""",
    "fleet.yaml",
)


def answering(good: float, rng: Random) -> Answer:
    """An answer that is right with this probability, and says whether it is."""

    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(0.1)
        text = "RIGHT" if rng.random() < good else "WRONG"
        yield Delta(whole_choices(text, "stop"), 150, "stop", Usage(10, 150), whole=True)

    return script


def judging(rng: Random) -> Answer:
    """A judge that sees whether the answer is right, and says otherwise now and then."""

    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(0.1)
        is_right = "\nRIGHT\n" in json.loads(attempt.request.payload)["messages"][1]["content"]
        said = is_right != (rng.random() < ERRS)
        text = json.dumps({"quality": 0.9 if said else 0.1})
        yield Delta(whole_choices(text, "stop"), 10, "stop", Usage(300, 10), whole=True)

    return script


def house(good: float, judge: Judge) -> House:
    """A small model that is right so often and much cheaper than the large one, which nearly always is."""
    rng = Random(5)
    fleet = (
        deployment("small", price=Price(1.0, 1.0)),
        deployment("large", Tier.LARGE, price=Price(1.0, 45.0)),
        deployment("judge", Tier.LARGE, price=Price(1.0, 1.0)),
    )
    made = House(RequestClass("all", judge=judge, deployments=("model-small", "model-large")), deployments=fleet)
    made.backend.scripts = {"small": answering(good, rng), "large": answering(0.98, rng), "judge": judging(rng)}
    return made


@pytest.mark.parametrize(("good", "favourite"), [(0.15, "large"), (0.97, "small")])
def test_the_router_ends_where_the_truth_would_have_it(good: float, favourite: str) -> None:
    """Nobody tells but the judge, of a quarter of the answers and wrong once in ten: bad models lose their share, good
    ones keep it; drawn answers are as many as they should be."""

    async def scene() -> None:
        made = house(good, Judge("judge", share_ratio=SHARE, usd_per_day=10.0, wait_s=1.0))
        for number in range(600):
            await made.ask(str(number), payload=ASKED)
            await made.beat(0.2)
        await made.beat(2.0)
        chosen = Counter(event.decision.chosen for event in made.of(DecisionMade)[-100:])
        assert chosen[favourite] >= 95, chosen
        drawn = len(made.of(AnswerJudged))
        assert drawn / 600 == pytest.approx(SHARE, abs=4.0 * (SHARE * (1.0 - SHARE) / 600) ** 0.5)
        assert all(event.propensity == SHARE for event in made.of(FeedbackReceived))
        assert len(made.of(FeedbackReceived)) == drawn

    virtually(scene)


def test_how_far_a_judge_errs_is_seen_where_senders_tell() -> None:
    """The share on which judge and sender agree comes near to one less the judge's error."""

    async def scene() -> None:
        made = house(0.6, replace(Judge("judge", share_ratio=1.0, usd_per_day=10.0), wait_s=60.0))
        rng = Random(1)
        made.backend.scripts["small"] = made.backend.scripts["large"] = answering(0.6, rng)
        for number in range(300):
            reply = await made.ask(str(number), payload=ASKED)
            await made.beat(0.3)
            made.dispatcher.feedback(reply.receipt.decision_id, float(b"RIGHT" in reply.choices))
        await made.beat(0.2)
        compared = made.of(JudgeCompared)
        assert len(compared) == 300
        assert compared[-1].agreed_ratio == pytest.approx(1.0 - ERRS, abs=0.07)
        assert {event.source for event in made.of(FeedbackReceived)} == {"sender"}

    virtually(scene)


def test_a_simulation_leaves_judging_out_and_says_so() -> None:
    """The same requests fare the same; a note in the report names the class."""
    arrivals = tuple(Arrival(0.1 * i, 200, 20) for i in range(40))
    runs = []
    for judge in (None, Judge("small", share_ratio=1.0)):
        policy = Policy("p", (RequestClass("all", judge=judge),), deployments(FLEET))
        runs.append(play(Setting(Workload(arrivals), FLEET, policy, Estimator())))
    assert runs[0].served == runs[1].served
    assert runs[0].report["overall"] == runs[1].report["overall"]
    assert "notes" not in runs[0].report
    (note,) = runs[1].report["notes"]  # type: ignore[misc]
    assert note.startswith("judging is left out (all): ")
