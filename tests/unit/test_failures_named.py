"""A call that fails says how its service named the failure, up to the event that is logged."""

from __future__ import annotations

import pytest

from router.domain.errors import RequestError, Said, Throttled, named
from router.domain.events import AttemptEnded
from tests.regressions.house import House, failing, virtually


def test_what_the_service_said_reaches_the_event() -> None:
    """Of the failed attempt alone."""
    told = Said(429, "ThrottlingException", "1f0c-77")

    async def scene() -> None:
        house, error = House(), Throttled("slow down")
        error.said = told
        house.backend.scripts = {"large": failing(error)}
        await house.ask(deadline_s=60.0)
        assert [e.outcome.said for e in house.of(AttemptEnded)] == [told, None]

    virtually(scene)


def test_an_error_of_the_routers_own_says_nothing_of_a_service() -> None:
    """Such as one whose answer may not get any larger."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {
            "large": failing(RequestError("too large")),
            "small": failing(RequestError("too large")),
        }
        with pytest.raises(RequestError):
            await house.ask(deadline_s=60.0)
        assert {e.outcome.said for e in house.of(AttemptEnded)} == {None}

    virtually(scene)


@pytest.mark.parametrize("text", ["two words", "", "x" * 129, "line\nbreak", "Grüße", '{"a"}', None, 7])
def test_what_could_be_a_senders_text_is_left_out(text: object) -> None:
    """Names and ids are closed alphabets without a space, and short."""
    assert named("429", text, text) == Said(None, None, None)
