"""A checkpoint is taken up whole or not at all, and whatever is taken up leaves a router that decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import json

from router.core import snapshot
from router.core.learned import change
from router.core.learned.rows import Choice
from router.core.views import Viewer, aim_of
from router.domain.decision import Candidate
from router.domain.deployment import BatchProfile, Kind, Tier
from router.domain.errors import RouterError
from router.domain.events import DecisionMade
from router.domain.learned import Part
from router.domain.slo import Goal, Indicator, Objective, Objectives, QualityFloor, RequestClass
from router.stats.least_squares import ScaledFit
from tests.regressions.house import WHOLE, House, deployment, speaking, virtually

Document = dict[str, Any]
Change = Callable[[Document], object]

_CLASSES = (
    RequestClass("plain"),
    RequestClass(
        "promised",
        objectives=Objectives(ttft=Objective(Indicator.TTFT, 1.0), tpot=Objective(Indicator.TPOT, 0.1)),
        floor=QualityFloor(0.9),
        deadline_s=100.0,
    ),
    RequestClass("whole", objectives=Objectives(e2e=Objective(Indicator.E2E, 20.0)), goal=Goal.COST),
)


async def instant(attempts: tuple[object, ...]) -> tuple[Any, ...]:
    return (WHOLE,) * len(attempts)


def home() -> House:
    """Three deployments, one of them a batch endpoint, and a class for each way of promising."""
    batch = deployment("b", kind=Kind.BATCH, batch=BatchProfile(0.03, 0.002), max_items=8)
    house = House(*_CLASSES, deployments=(deployment("small"), deployment("large", Tier.LARGE), batch))
    house.backend.scripts = {
        "small": speaking("s", first_s=0.3, tokens=40, gap_s=0.02),
        "large": speaking("l", first_s=0.6, tokens=40, gap_s=0.05),
    }
    house.backend.batch = instant
    return house


async def use(house: House, times: int) -> None:
    """Ask every class for every deployment, tell the quality, and let the heart beat."""
    for i in range(times):
        for name in ("plain", "promised", "whole"):
            for target in ("small", "large", "b", None):
                reply = await house.ask(f"{name}{i}", request_class=name, model=target)
                house.dispatcher.feedback(reply.receipt.decision_id, float(i % 3 > 0))
                house.dispatcher.tick()


@cache
def learned() -> bytes:
    """A real checkpoint of a router that has seen some traffic."""
    saved: list[bytes] = []

    async def scene() -> None:
        house = home()
        await use(house, 8)
        saved.append(snapshot.take(house.controller, at=1.0))

    virtually(scene)
    return saved[0]


def document() -> Document:
    """The same, to be tampered with."""
    found: Document = json.decode(learned())
    return found


def restores(data: bytes) -> bool:
    """Whether the checkpoint is taken up. If so the router goes on to decide and learn in finite numbers; if not it is
    a RouterError, and nothing has changed."""
    taken: list[bool] = []

    async def scene() -> None:
        house = home()
        await use(house, 1)
        before = state(house)
        code = refusal(house, data)
        taken.append(not code)
        if code:
            assert (code, state(house)) == ("invalid_checkpoint", before)
            return
        told = len(house.of(DecisionMade))
        await use(house, 2)
        for event in house.of(DecisionMade)[told:]:
            assert all(map(is_sane, event.decision.candidates))
        assert refusal(home(), snapshot.take(house.controller, at=2.0)) == ""

    virtually(scene)
    return taken[0]


def refusal(house: House, data: bytes) -> str:
    """The code that a checkpoint is refused with; empty where it is taken up."""
    try:
        snapshot.restore(house.controller, data)
    except RouterError as error:
        return error.code
    return ""


def is_sane(candidate: Candidate) -> bool:
    """Numbers of some size, probabilities that are some, and times and lengths that can be."""
    terms = candidate.terms
    numbers = (candidate.score, terms.ttft_s, terms.tpot_s, terms.e2e_s, terms.output_tokens)
    is_likely = 0.0 <= terms.p_slo <= 1.0 and 0.0 < terms.p_adequate < 1.0
    return (
        all(abs(number) < 1e9 for number in numbers) and is_likely and terms.ttft_s > 0.0 and terms.output_tokens >= 1.0
    )


def state(house: House) -> tuple[bytes, list[float]]:
    """Everything a checkpoint holds, and what the router predicts from it."""
    controller = house.controller
    viewer = Viewer(controller.lengths, controller.qualities, controller.ceilings)
    now = asyncio.get_running_loop().time()
    numbers = []
    for request_class in _CLASSES:
        ticket = controller.admit(house.request(request_class=request_class.name), now=now)
        for member in controller.fleet.members.values():
            view = viewer.view(member, ticket, aim_of(ticket, now))
            numbers += [view.ttft_s, view.tpot_s, view.output_tokens, view.p_slo, view.p_adequate, view.p_adequate_low]
            numbers += [view.capacity_price]
    return snapshot.take(controller, at=0.0), numbers


def test_a_real_checkpoint_is_taken_up() -> None:
    """And it says the same when it is taken again."""
    house = home()
    snapshot.restore(house.controller, learned())
    again = json.decode(snapshot.take(house.controller, at=1.0))
    assert again == document()
    assert restores(learned())


def large(found: Document) -> dict[str, list[float]]:
    """The latency state of the large deployment."""
    state: dict[str, list[float]] = found["latency"]["large"][1]
    return state


def put(part: str, value: object) -> Callable[[Document], None]:
    """Write one part of the latency state of the large deployment."""

    def change(found: Document) -> None:
        large(found)[part] = value  # type: ignore[assignment]

    return change


def top(part: str, value: object) -> Callable[[Document], None]:
    """Write one part of the document."""

    def change(found: Document) -> None:
        found[part] = value

    return change


def without(part: str) -> Callable[[Document], None]:
    """Leave out one part of the latency state of the large deployment."""

    def change(found: Document) -> None:
        del large(found)[part]

    return change


REFUSED: dict[str, Change] = {
    "lengths of wrong arity": top("lengths", {"a\tb": [1.0]}),
    "qualities of wrong arity": top("qualities", {"m\t": []}),
    "no moment": without("moment"),
    "no spread": without("spread"),
    "short moment": put("moment", [1.0]),
    "short normal": put("normal", [1.0]),
    "long theta": put("theta", [1.0] * 5),
    "empty samples": put("samples", []),
    "short spread": put("spread", [0.0, 1.0]),
    "huge normal": put("normal", [1e308] * 16),
    "normal that is no square": put("normal", [-1e9] * 16),
    "skew normal": put("normal", [0.0, 1e12, 0.0, 0.0] * 4),
    "huge moment": put("moment", [1e308, -1e308, 1e308, -1e308]),
    "text": put("theta", ["a"] * 4),
    "null": put("theta", None),
    "another version": top("version", 3),
    "no lengths": lambda found: found.pop("lengths"),
    "floors of text": top("floors", {"promised": "high"}),
    "model of wrong type": lambda found: found["latency"].update(large=[3, large(found)]),
}
EITHER: dict[str, Change] = {
    "negative spread": put("spread", [0.0, -1.0, 0.0, -1.0]),
    "wide spread": put("spread", [1e300, 1e300, -1e300, 1e300]),
    "negative theta": put("theta", [-1.0] * 4),
    "many samples": put("samples", [1e300, 1e300]),
    "negative samples": put("samples", [-5.0, -5.0]),
    "endless answers": top(
        "lengths", {"\tmodel-large": [1000.0, 1.0, 1.0], "plain\tmodel-large": [1e308, 1e308, 1e308]}
    ),
    "answers of nothing": top("lengths", {"\tmodel-large": [-1000.0, -1.0, -1.0]}),
    "sure of quality": top("qualities", {"model-large\t": [1e308, -1.0]}),
    "sure of a kind": top("qualities", {"model-large\tchat": [-1e308, 0.0]}),
    "much evidence of little": lambda found: large(found).update(normal=[1.0] + [0.0] * 15, samples=[63.0, 1e300]),
    "mad prices": lambda found: found.update(floors={"promised": -1e308}, capacity={"large": 1e308}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_checkpoint_that_is_none_changes_nothing(name: str) -> None:
    """Wrong lengths, wrong types, missing parts: `invalid_checkpoint`, and all is as it was."""
    found = document()
    REFUSED[name](found)
    assert not restores(json.encode(found))


@pytest.mark.parametrize("name", EITHER)
def test_a_checkpoint_with_mad_numbers_does_no_harm(name: str) -> None:
    """Refused without a change, or taken up and bounded so that every later decision is made in finite numbers."""
    found = document()
    EITHER[name](found)
    restores(json.encode(found))


FOREIGN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda good: b"",
    "cut": lambda good: b"{",
    "null": lambda good: b"null",
    "no text": lambda good: b"\xff\xfe",
    "torn": lambda good: good[:-40],
    "NaN": lambda good: good.replace(b'"theta":[', b'"theta":[NaN,'),
    "deep": lambda good: b'{"x":' * 5000,
}


@pytest.mark.parametrize("name", FOREIGN)
def test_bytes_that_are_no_document_are_refused(name: str) -> None:
    """A torn or foreign file is a RouterError like any other."""
    assert not restores(FOREIGN[name](learned()))


def test_a_refused_checkpoint_leaves_a_router_that_has_learned_as_it_is() -> None:
    """Also where half of it could have been taken up before the fault was found, and where the deployment was far from
    what was expected of it."""

    async def scene() -> None:
        house = home()
        await use(house, 30)
        before = state(house)
        for break_it in REFUSED.values():
            found = document()
            break_it(found)
            with pytest.raises(RouterError):
                snapshot.restore(house.controller, json.encode(found))
            assert state(house) == before

    virtually(scene)


def test_no_checkpoint_takes_the_prior_out_of_a_fit() -> None:
    """However much evidence it claims, a fit to samples that are all alike can still be solved."""
    fit = ScaledFit(2, prior_weight=200.0, decay=0.9995)
    fit.restore({**fit.state(), "samples": [1e300, 1e300]})
    for _ in range(20):
        fit.add((1.0, 1.0), 8.0)
    assert 1.0 < min(fit.solve()) <= max(fit.solve()) < 4.0


_JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=3),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, -1.0, 1e-320, 1e12, 1e13, 1e308, -1e308, [], {}, [[]], [1.0], {"": [0.0]}]),
)


@st.composite
def tampered(draw: st.DrawFn) -> Document:
    """The real checkpoint with one to four parts, at any depth, replaced, left out, shortened or repeated."""
    found = document()
    for _ in range(draw(st.integers(1, 4))):
        parent: Any = found
        while True:
            keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            child = parent[key]
            if isinstance(child, dict | list) and draw(st.integers(0, 4)):
                parent = child
                continue
            deed = draw(st.sampled_from(["replace", "replace", "drop", "repeat"]))
            if deed == "replace":
                parent[key] = deepcopy(draw(_JUNK))
            elif deed == "drop":
                del parent[key]
            elif isinstance(parent, list):
                parent.append(child)
            break
    return found


@settings(max_examples=100, deadline=None)
@given(tampered())
def test_no_tampering_breaks_a_router(found: Document) -> None:
    """Whatever was done to a checkpoint: a RouterError without a change, or a router that decides."""
    restores(json.encode(found))


def test_a_change_of_a_checkpoint_that_lies_still_hides_no_spending() -> None:
    """It stays of the time at which the router saved it: what calls cost between that and the crash is still read from
    the log. One that begins with another router's document knows of no money at all."""
    known = snapshot.read(snapshot.take(home().controller, at=1000.0))
    left, step, _ = change.reset(known, Choice((Part.QUALITY,)), at=5000.0)
    changed = change.descend_from(known, left, step)
    assert changed.saved_at == 1000.0
    assert changed.lineage is not None
    assert changed.lineage.created_at == 5000.0
    assert change.descend_from(change.blank(known), left, step).saved_at == 0.0
