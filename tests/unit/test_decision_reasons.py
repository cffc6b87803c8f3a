"""A decision for whoever asks: quantiles of what was predicted, and what decided, in a sentence."""

from __future__ import annotations

import json
import math
from random import Random

import msgspec
import pytest

from bench.traffic import BINDINGS, policy, request_events
from router.complexity.estimator import Scored
from router.core import snapshot
from router.core.controller import Controller
from router.domain.decision import Candidate, Decision, DecisionId, Exclusion, Prices, Spread, Terms
from router.domain.deployment import DeploymentName, Tier
from router.domain.events import DecisionMade
from router.domain.reasons import because, evidence, latencies
from router.domain.request import Prompt, Request, RequestId
from router.stats.normal import below
from router.storage.decision_records import VERSION, DecisionRecord, read_record
from router.telemetry.recent import RecentDecisions

POLICY = policy(classes=1, deployments=2)
SPREAD = Spread(0.105, 0.25, -0.02, 0.12, 0.6)


class Estimator:
    """The same for every prompt."""

    def estimate(self, request: Request) -> Scored:
        return Scored(0.5, "chat", {}, {Tier.SMALL: 0.6, Tier.LARGE: 0.95})


def terms(**told: float) -> Terms:
    zeros = dict.fromkeys(Terms.__struct_fields__, 0.0)
    return Terms(**{**zeros, "ttft_s": 0.2, "tpot_s": 0.02, "e2e_s": 4.0, **told})


def candidate(name: str, score: float = 0.5, **told: float) -> Candidate:
    return Candidate(DeploymentName(name), score, terms(**told), 0.5, SPREAD)


def decision(binding: str, *candidates: Candidate, excluded: tuple[Exclusion, ...] = ()) -> Decision:
    return Decision(
        id=DecisionId("d-1"),
        request_id="r",
        request_class="chat",
        tenant="default",
        at=1e9,
        now=10.0,
        policy="p",
        picker="best",
        complexity=0.5,
        features=(),
        candidates=candidates,
        excluded=excluded,
        chosen=candidates[0].deployment,
        propensity=0.5,
        binding=binding,
        prices=Prices(1.5, 50.0, {}),
        input_tokens=100,
    )


def controller() -> Controller:
    return Controller(POLICY, Estimator(), rng=Random(0))


def asked(number: int, now: float) -> Request:
    return Request(RequestId(str(number)), now, now, Prompt("hello"), 100)


def decided(of: Controller, number: int, now: float) -> Decision:
    made = of.decide(of.admit(asked(number, now), now=now), now=now)
    assert isinstance(made, Decision)
    return made


def test_a_quantile_is_kept_with_its_probability() -> None:
    """P(latency <= p90) is .9 and P(latency <= p99) is .99 under the model that P(in SLO) comes from."""
    known = latencies(candidate("a"))
    assert known is not None
    for predicted, mean, sigma, told in (
        (0.2, 0.105, 0.25, known.ttft_s),
        (0.02, -0.02, 0.12, known.tpot_s),
        (4.0, 0.0, 0.6, known.e2e_s),
    ):
        kept = [below(math.log(x / predicted), mean, sigma) for x in (told.p50, told.p90, told.p99)]
        assert kept == pytest.approx([0.5, 0.9, 0.99])


@pytest.mark.parametrize("binding", BINDINGS)
def test_every_constraint_has_its_sentence(binding: str) -> None:
    """Each names the pick, and the runner-up where there is one; none falls back to naming a code."""
    others = () if binding == "only" else (candidate("slow", 0.4, p_slo=0.2),)
    told = because(decision(binding, candidate("quick", 0.6, p_slo=0.9), *others))
    assert "quick" in told
    assert f"by {binding}" not in told
    assert ("slow" in told) is (binding not in ("only", "forced"))


def test_the_only_one_left_says_who_fell_out() -> None:
    """Whoever asks need not look for why there was no choice."""
    fallen = (Exclusion(DeploymentName("b"), "at_limit", "8 in flight, limit 8"),)
    assert "b fell out as at_limit" in because(decision("only", candidate("a"), excluded=fallen))


def test_decisions_carry_how_far_predictions_are_off() -> None:
    """One object a deployment from one heartbeat to the next; what first tokens teach is in the next one."""
    of = controller()
    first, second = decided(of, 1, 0.0), decided(of, 2, 0.01)
    for a, b in zip(first.candidates, second.candidates, strict=True):
        assert a.spread is not None
        assert a.spread is b.spread
    member = of.fleet.members[first.candidates[0].deployment]
    for i in range(50):
        member.latency.observe_first_token(0.1, 0.3, now=0.02 + 0.01 * i)
    member.beat(None, now=0.6)
    third = decided(of, 3, 0.6)
    assert third.candidates[0].spread is not None
    assert third.candidates[0].spread.ttft_log_mean == pytest.approx(math.log(3), abs=0.4)
    assert third.candidates[1].spread is first.candidates[1].spread


def test_a_restored_controller_has_the_spread_it_had() -> None:
    """A checkpoint is enough to explain from: no heartbeat is needed first."""
    taught = controller()
    member = next(iter(taught.fleet.members.values()))
    for i in range(50):
        member.latency.observe_tpot(0.01, 0.02, now=0.1 * i)
    fresh = controller()
    snapshot.restore(fresh, snapshot.take(taught, at=0.0))
    assert fresh.fleet.members[member.deployment.name].spread == member.latency.spread()


def test_the_log_keeps_the_spread_compactly_and_reads_lines_without() -> None:
    """About forty bytes a candidate; a line from before it was kept says nothing of it, and is read."""
    made = decision("cost", candidate("a"), candidate("b"))
    line = msgspec.json.encode(DecisionRecord(VERSION, made))
    record = read_record(line)
    assert isinstance(record, DecisionRecord)
    assert record.decision == made
    document = json.loads(line)
    for one in document["decision"]["candidates"]:
        del one["spread"]
    for name in ("use_case", "topic", "model", "asked_class", "waited_s", "deadline_s", "arm"):
        del document["decision"][name]
    older = json.dumps(document, separators=(",", ":")).encode()
    record = read_record(older)
    assert isinstance(record, DecisionRecord)
    assert [latencies(c) for c in record.decision.candidates] == [None, None]
    with_spread = len(msgspec.json.encode(made.candidates[0]))
    assert with_spread - len(msgspec.json.encode(msgspec.structs.replace(made.candidates[0], spread=None))) < 40


def test_the_page_of_a_decision_has_quantiles_and_the_sentence() -> None:
    """What GET /v1/decisions/{id} answers is the decision itself and what people ask of it, and reads back."""
    recent = RecentDecisions()
    events = request_events(1, Random(1), POLICY)
    made = next(e.decision for e in events if isinstance(e, DecisionMade))
    told = msgspec.structs.replace(
        made, candidates=tuple(msgspec.structs.replace(c, spread=SPREAD) for c in made.candidates)
    )
    recent.handlers()[DecisionMade](DecisionMade(told))
    page = recent.page(told.id)
    assert page is not None
    document = json.loads(page)
    assert document["because"] == because(told)
    for one in document["candidates"]:
        quantiles = one["quantiles"]["ttft_s"]
        assert 0.0 < quantiles["p50"] < quantiles["p90"] < quantiles["p99"]
    assert msgspec.json.decode(page, type=Decision) == told
    assert recent.page("nobody") is None
    assert evidence(made)["candidates"][0]["quantiles"] is None  # type: ignore[index]
