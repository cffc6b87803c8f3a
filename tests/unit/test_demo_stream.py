"""The demo's traffic: as bursty and as long as what it was fitted to, varied, and with a truth that can be learned."""

from __future__ import annotations

from itertools import islice, pairwise
from pathlib import Path
from random import Random
from statistics import fmean, pstdev

import msgspec
import pytest

from router.demo.prompts import USE_CASES, UseCase, write
from router.demo.stream import TRAFFIC, DemoRequest, requests
from router.demo.truth import ABILITY, DemoTruth
from router.domain.deployment import Kind, Tier
from router.domain.request import Prompt, Request, RequestId
from router.runtime.reload import load_directory

SMALL, LARGE = "llama-3.1-8b", "llama-3.1-70b"


@pytest.fixture(scope="module")
def stream() -> list[DemoRequest]:
    return list(islice(requests(seed=1, per_s=8.0), 4000))


def received(request: DemoRequest, text: str = "") -> Request:
    return Request(id=RequestId(request.id), arrived=0.0, at=0.0, prompt=Prompt(text or request.prompt), input_tokens=1)


@pytest.mark.parametrize("name", TRAFFIC)
def test_arrivals_keep_the_fitted_rate(name: str) -> None:
    """Over ten hours the rate is within a tenth of the long-run mean of the two states."""
    traffic = TRAFFIC[name]
    count = 0
    for at in traffic.arrivals(Random(1), 0.3):
        if at > 36_000:
            break
        count += 1
    assert count / 36_000 == pytest.approx(0.3 * traffic.mean_per_s, rel=0.1)


def test_code_comes_in_bursts_and_conversation_hardly() -> None:
    """Gaps of the code source vary several times as much as Poisson's, those of conversation about as much."""

    def variation(name: str) -> float:
        times = list(islice(TRAFFIC[name].arrivals(Random(2), 1.0), 5000))
        gaps = [after - before for before, after in pairwise(times)]
        return pstdev(gaps) / fmean(gaps)

    assert variation("code") > 3
    assert 0.9 < variation("conversation") < 1.3


def test_the_stream_is_in_order_and_at_the_rate_asked_for(stream: list[DemoRequest]) -> None:
    """4,000 requests at 8 a second take about 500 seconds."""
    times = [request.at_s for request in stream]
    assert times == sorted(times)
    assert 350 < times[-1] < 700


def test_the_stream_is_varied(stream: list[DemoRequest]) -> None:
    """At least eight use cases, thousands of prompts, ids that never repeat, some streams and some not."""
    assert len({request.use_case for request in stream}) == len(USE_CASES) >= 8
    assert len({request.prompt for request in stream}) > 3000
    assert len({request.id for request in stream}) == len(stream)
    assert {request.stream for request in stream} == {True, False}


def test_the_same_seed_is_the_same_stream(stream: list[DemoRequest]) -> None:
    """And another seed another one, under other ids."""
    again = list(islice(requests(seed=1, per_s=8.0), 50))
    other = list(islice(requests(seed=2, per_s=8.0), 50))
    assert again == stream[:50]
    assert not {request.id for request in other} & {request.id for request in stream}


@pytest.mark.parametrize("use_case", USE_CASES, ids=lambda use_case: use_case.name)
def test_prompts_are_filled_in_and_as_long_as_asked(use_case: UseCase) -> None:
    """No slot stays empty; a prompt with material comes near the tokens that the traffic called for."""
    assert len({text for _, text in use_case.templates}) >= 12
    rng = Random(3)
    texts = [write(rng, use_case, 500)[1] for _ in range(200)]
    assert not any("{material}" in text or "{topic}" in text or "{{" in text for text in texts)
    with_material = [text for text in texts if len(text) > 1000]
    assert all(1500 < len(text) < 2400 for text in with_material)


def test_small_is_adequate_for_about_two_thirds_and_large_for_nearly_all(stream: list[DemoRequest]) -> None:
    """Large is never worse: adequacy is ability against one hidden difficulty."""
    truth = DemoTruth()
    for request in stream:
        truth.announce(request)
    small = [truth.quality(request.id, SMALL) for request in stream]
    large = [truth.quality(request.id, LARGE) for request in stream]
    assert 0.6 < fmean(q for q in small if q is not None) < 0.7
    assert fmean(q for q in large if q is not None) > 0.95
    assert all(s <= g for s, g in zip(small, large, strict=True) if s is not None and g is not None)


def test_feedback_can_teach_which_kinds_are_hard(stream: list[DemoRequest]) -> None:
    """The small model does most of what is to be labelled and little of what is to be proved."""
    truth = DemoTruth()
    for request in stream:
        truth.announce(request)

    def adequate(use_case: str) -> float:
        judged = [truth.quality(r.id, SMALL) for r in stream if r.use_case == use_case]
        return fmean(q for q in judged if q is not None)

    assert adequate("classify") > 0.7
    assert adequate("reason") < 0.35


def test_answers_have_the_announced_length_and_words_for_it(stream: list[DemoRequest]) -> None:
    """One word a token; the small model talks longer."""
    truth, request = DemoTruth(), stream[0]
    truth.announce(request)
    large, small = (truth.answer(received(request), model) for model in (LARGE, SMALL))
    assert large.output_tokens == request.output_tokens
    assert small.output_tokens >= large.output_tokens
    assert large.text is not None
    assert len(large.text.split()) == large.output_tokens


def test_anybody_else_is_answered_too(stream: list[DemoRequest]) -> None:
    """A request that the producer did not send has a length of its own and no known quality."""
    truth = DemoTruth()
    one, two = (truth.answer(received(stream[0], text), LARGE) for text in ("Hello", "Good evening"))
    assert one.output_tokens != two.output_tokens
    assert truth.quality(stream[0].id, LARGE) is None


def test_the_fleet_is_one_small_one_large_one_provisioned() -> None:
    """The shipped policies hold what the demo promises, for models whose ability is known."""
    fleet = load_directory(Path(__file__).parents[2] / "policies").deployments
    assert [(d.tier, d.kind) for d in fleet] == [
        (Tier.SMALL, Kind.CONTINUOUS),
        (Tier.LARGE, Kind.CONTINUOUS),
        (Tier.LARGE, Kind.PROVISIONED),
    ]
    assert {d.model for d in fleet} == set(ABILITY)


def test_a_request_is_plain_data(stream: list[DemoRequest]) -> None:
    """It survives JSON, so a stream can be written down and sent again."""
    assert msgspec.json.decode(msgspec.json.encode(stream[:20]), type=list[DemoRequest]) == stream[:20]
