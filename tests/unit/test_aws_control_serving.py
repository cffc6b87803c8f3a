"""The control plane in the daemon's loop: how often it asks, and what it keeps of our own counts."""

from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import replace

from bench.traffic import deployment, policy, request_events
from router.backends.aws.control.clients import shared_endpoint
from router.backends.aws.control.cloudwatch import model_id
from router.backends.aws.control.counts import KEPT_MINUTES, OwnCounts
from router.backends.aws.control.serving import ControlPlane
from router.domain.aws.terms import AwsTerms, Latency
from router.domain.control.provisioned import Tally
from router.domain.deployment import Address, Deployment, Lane
from router.domain.events import AttemptEnded
from router.domain.outcome import Ending

BEDROCK = replace(deployment(0), address=Address("bedrock", "model-id"))


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def now(self) -> float:
        return self.time

    def at(self) -> float:
        return self.time

    def stopwatch(self) -> float:
        return self.time


def ended(of: Deployment, ending: Ending = Ending.COMPLETED, code: str | None = None) -> AttemptEnded:
    """A call of this deployment."""
    event = next(e for e in request_events(1, Random(1), policy()) if isinstance(e, AttemptEnded))
    attempt = replace(event.outcome.attempt, deployment=of)
    outcome = replace(event.outcome, attempt=attempt, ending=ending, error_code=code, input_tokens=10, output_tokens=2)
    return replace(event, outcome=outcome)


async def test_it_asks_once_a_minute_however_often_the_loop_comes_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and again when a minute is over."""
    clock, looks = Clock(), []
    plane = ControlPlane(clock)

    async def look(*_: object) -> None:
        looks.append(clock.time)

    monkeypatch.setattr(plane, "look", look)
    for _ in range(40):
        await plane.beat(None, lambda _: None)  # type: ignore[arg-type]
        clock.time += 2.0
    assert looks == [1_800_000_000.0, 1_800_000_060.0]


def test_calls_are_counted_in_the_minute_in_which_they_end() -> None:
    """Throttled ones apart, cancelled ones and those of other backends not at all; old minutes are forgotten."""
    clock = Clock()
    counts = OwnCounts(clock.at)
    tell = counts.handlers()[AttemptEnded]
    tell(ended(BEDROCK))
    tell(ended(BEDROCK, Ending.FAILED, "throttled"))
    tell(ended(BEDROCK, Ending.FAILED, "unreachable"))
    tell(ended(BEDROCK, Ending.CANCELLED))
    tell(ended(deployment(0)))
    begin = clock.time // 60 * 60
    found = counts.over([BEDROCK.name], begin=begin, end=begin + 60)
    assert (found.calls, found.throttles, found.input_tokens, found.output_tokens) == (1.0, 1.0, 10.0, 2.0)
    assert counts.over([BEDROCK.name], begin=begin + 60, end=begin + 120) == Tally()
    clock.time += 60.0 * (KEPT_MINUTES + 1)
    tell(ended(BEDROCK))
    assert counts.over([BEDROCK.name], begin=begin, end=begin + 60) == Tally()


@pytest.mark.parametrize(
    ("change", "counted"),
    [
        ({}, "model-id"),
        ({"lane": Lane.PRIORITY}, "model-id+priority"),
        ({"lane": Lane.FLEX}, "model-id+flex"),
        ({"lane": Lane.PROVISIONED}, "model-id"),
        (
            {"address": Address("bedrock", "model-id", aws=AwsTerms(latency=Latency.OPTIMIZED))},
            "model-id+latency-optimized",
        ),
    ],
)
def test_cloudwatch_counts_lanes_apart(change: dict[str, object], counted: str) -> None:
    """As AWS documents the ModelId of service tiers and latency-optimised calls."""
    assert model_id(replace(BEDROCK, **change)) == counted


@pytest.mark.parametrize(
    ("url", "shared"),
    [
        (None, None),
        ("https://bedrock-runtime.us-east-1.amazonaws.com", None),
        ("https://vpce-1.bedrock-runtime.us-east-1.vpce.amazonaws.com", None),
        ("http://127.0.0.1:4566", "http://127.0.0.1:4566"),
    ],
)
def test_an_endpoint_of_the_runtime_is_no_endpoint_of_the_control_plane(url: str | None, shared: str | None) -> None:
    """A double serves all services on one address, AWS one service on each."""
    assert shared_endpoint(url) == shared
