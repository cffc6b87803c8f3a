"""Which answers the response cache keeps, and what an edit of the policy makes of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from router.domain.deployment import Sampling
from router.domain.errors import Expired, Unreachable
from router.domain.slo import CacheTerms, Ceiling, Parameters, RequestClass
from router.policy.policy import Policy
from tests.regressions.house import House, Reader, deployment, failing_once, virtually
from tests.unit.cached_house import ANSWER, CACHED, HELLO, ONLY, TERMS, body, ending, house, text, used


@pytest.mark.parametrize(
    ("request_class", "fields", "results"),
    [
        (CACHED, {"temperature": 0.1}, ["bypass", "bypass"]),
        (RequestClass("all", cache=TERMS), {}, ["bypass", "bypass"]),
        (RequestClass("all", cache=TERMS), {"temperature": 0}, ["miss", "hit"]),
        (RequestClass("all", cache=TERMS), {"temperature": 0, "n": 3}, ["miss", "hit"]),
        (RequestClass("all", cache=CacheTerms(60.0, always=True)), {"temperature": 1.5}, ["miss", "hit"]),
        (RequestClass("all", cache=CacheTerms(60.0, always=True)), {}, ["miss", "hit"]),
        (CACHED, {"tools": [{"type": "function", "function": {"name": "f"}}]}, ["miss", "hit"]),
    ],
)
def test_only_what_is_deterministic_is_kept(
    request_class: RequestClass, fields: dict[str, Any], results: list[str]
) -> None:
    """Temperature 0, asked for or filled in; anything where the class says always. The backend's default is not 0."""

    async def scene() -> None:
        told = house(request_class)
        await told.ask("a", payload=body(**fields))
        await told.ask("b", payload=body(**fields))
        assert used(told) == results

    virtually(scene)


def test_a_request_without_a_body_is_not_cached() -> None:
    """Requests of a workload have none, and are not all the same."""

    async def scene() -> None:
        told = house()
        await told.ask("a")
        await told.ask("b")
        assert used(told) == ["bypass", "bypass"]

    virtually(scene)


@pytest.mark.parametrize(("always", "calls"), [(False, 2), (True, 1)])
def test_a_deployment_that_takes_no_temperature_is_not_deterministic(always: bool, calls: int) -> None:
    """What the class fills in does not reach it, so its answer is given again only where the class says always."""

    async def scene() -> None:
        fixed = deployment("fixed", takes=frozenset({Sampling.MAX_TOKENS}))
        told = house(replace(CACHED, cache=CacheTerms(60.0, always)), deployments=(fixed,))
        await told.ask("a", payload=HELLO)
        await told.ask("b", payload=HELLO)
        assert len(told.backend.calls) == calls

    virtually(scene)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reason", "calls"), [("stop", 1), ("length", 1), ("tool_calls", 1), (None, 2), ("content_filter", 2), ("error", 2)]
)
def test_only_a_finished_answer_is_kept(reason: str | None, calls: int, stream: bool) -> None:
    """An answer that does not say how it ended, or was cut by something other than its bound, is made again."""

    async def scene() -> None:
        told = house()
        told.backend.scripts = {"only": ending(reason)}
        await told.ask("a", payload=HELLO, responder=Reader() if stream else None)
        await told.ask("b", payload=HELLO)
        assert len(told.backend.calls) == calls

    virtually(scene)


@pytest.mark.parametrize(
    ("parameters", "calls"), [(Parameters(0.0, max_tokens=9), 1), (Parameters(0.0, ceiling=Ceiling(9)), 2)]
)
def test_an_answer_that_a_learned_bound_cut_off_is_made_again(parameters: Parameters, calls: int) -> None:
    """The bound may have risen since; a fixed one is part of the question."""

    async def scene() -> None:
        told = house(replace(CACHED, parameters=parameters))
        told.backend.scripts = {"only": ending("length")}
        await told.ask("a", payload=HELLO)
        await told.ask("b", payload=HELLO)
        assert len(told.backend.calls) == calls

    virtually(scene)


def test_a_failure_is_not_kept() -> None:
    """The next who asks gets a call of its own."""

    async def scene() -> None:
        told = house(replace(CACHED, max_retries=0))
        told.backend.scripts = {"only": failing_once(Unreachable("gone"))}
        assert isinstance(await told.attempt("a", payload=HELLO), Unreachable)
        assert text(await told.ask("b", payload=HELLO)) == ANSWER
        assert used(told) == ["miss", "miss"]

    virtually(scene)


def test_an_answer_cut_by_the_deadline_is_not_kept() -> None:
    """It failed."""

    async def scene() -> None:
        told = house()
        assert isinstance(await told.attempt("a", payload=HELLO, deadline_s=0.15), Expired)
        await told.ask("b", payload=HELLO)
        assert used(told) == ["miss", "miss"]

    virtually(scene)


def test_a_class_keeps_no_more_answers_than_it_says() -> None:
    """The least recently used goes first."""

    async def scene() -> None:
        told = house(replace(CACHED, cache=CacheTerms(60.0, max_entries=2)))
        for question in ("a", "b", "a", "c", "a", "b"):
            await told.ask(question, payload=body(question))
        assert used(told) == ["miss", "miss", "hit", "miss", "hit", "miss"]

    virtually(scene)


def edited(told: House, digest: str, request_class: RequestClass, **fields: Any) -> None:
    policy = Policy(digest, (request_class,), fields.get("deployments", told.listed), told.bounds)
    told.controller.apply(policy, now=asyncio.get_running_loop().time(), at=0.0)


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": Parameters(temperature=0.0, top_p=0.5)},
        {"deployments": ("small",)},
        {"input_budget_tokens": 10_000},
        {"cache": CacheTerms(30.0)},
    ],
)
def test_an_edit_of_the_class_asks_anew(change: dict[str, Any]) -> None:
    """Whatever the class means otherwise; and taking the edit back finds the old answers again."""

    async def scene() -> None:
        told = house()
        await told.ask("a", payload=HELLO)
        edited(told, "p2", replace(CACHED, **change))
        await told.attempt("b", payload=HELLO)
        edited(told, "p3", replace(CACHED))
        await told.ask("c", payload=HELLO)
        assert used(told) == ["miss", "miss", "hit"]

    virtually(scene)


def test_an_edit_elsewhere_keeps_the_answers() -> None:
    """Another digest of the policy, the same class."""

    async def scene() -> None:
        told = house()
        await told.ask("a", payload=HELLO)
        edited(told, "p2", replace(CACHED), deployments=(*ONLY, deployment("more")))
        await told.ask("b", payload=HELLO)
        assert used(told) == ["miss", "hit"]

    virtually(scene)


@pytest.mark.parametrize("listed", [(deployment("new"),), (replace(deployment("only"), model="newer"),)])
def test_an_answer_goes_with_the_model_that_made_it(listed: tuple[Any, ...]) -> None:
    """A deployment taken out, or with another model under its name, is not quoted any more."""

    async def scene() -> None:
        told = house()
        await told.ask("a", payload=HELLO)
        edited(told, "p2", replace(CACHED), deployments=listed)
        await told.ask("b", payload=HELLO)
        assert used(told) == ["miss", "miss"]

    virtually(scene)
