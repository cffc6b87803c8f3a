"""What is paid of a call that is not waited for any more."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from router.core.spending.billing import unheard
from router.domain.deployment import Address
from router.domain.outcome import Attempt, Usage
from tests.regressions.house import House, deployment, virtually


def attempt(backend: str, *, stream: bool) -> Attempt:
    """A call of a prompt of ten tokens."""
    made: list[Attempt] = []

    async def scene() -> None:
        house = House(deployments=(deployment("only"),))
        ticket = house.controller.admit(house.request(), now=0.0)
        house.controller.decide(ticket, now=0.0)
        made.append(house.controller.start(ticket, now=0.0)[0])

    virtually(scene)
    called = replace(made[0].deployment, address=Address(backend, "x"))
    return replace(made[0], deployment=called, stream=stream)


@pytest.mark.parametrize(
    ("backend", "stream", "heard", "paid"),
    [
        ("bedrock", False, 0, 41),
        ("bedrock", False, 7, 7),
        ("bedrock", True, 0, 0),
        ("bedrock", True, 7, 7),
        ("openai_http", False, 0, 0),
    ],
)
def test_bedrock_makes_a_whole_answer_to_its_end(backend: str, stream: bool, heard: int, paid: int) -> None:
    """Of a whole answer of Bedrock the expected length is paid, of all else what was heard; the prompt always."""
    assert unheard(attempt(backend, stream=stream), Usage(10, heard, 4), 41.4) == Usage(10, paid, 4)
