"""What would be changed is said and not done, until an edit turns advice into action."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from router.domain.deployment import Mode, Tier
from router.domain.events import CeilingUpdate, LimitUpdate, PriceUpdate
from router.domain.slo import QualityFloor, RequestClass
from router.policy.compile import compile_policy
from router.policy.policy import Policy
from router.telemetry.metrics import Metrics
from tests.regressions.house import House, deployment

FLEET = """
deployments:
  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated}
  - {name: large, model: llama-3.1-70b, tier: large, backend: simulated}
prices: {models: {llama-3.1-8b: {input: 0.22, output: 0.22}, llama-3.1-70b: {input: 0.99, output: 0.99}}}
classes: [{name: chat, floor: 0.9, match: {tenants: a}}, {name: rest}]
"""


@pytest.fixture
def house() -> House:
    return House()


def modes(policy: Policy) -> dict[str, Mode]:
    """By deployment and class."""
    return {**{str(d.name): d.mode for d in policy.deployments}, **{c.name: c.mode for c in policy.classes}}


def test_advice_is_asked_for_by_document_deployment_or_class() -> None:
    """The document says it for all that say nothing themselves; `act` where nobody does."""
    act, advise = Mode.ACT, Mode.ADVISE
    assert set(modes(compile_policy([("f.yaml", FLEET)])).values()) == {act}
    assert set(modes(compile_policy([("f.yaml", FLEET + "mode: advise\n")])).values()) == {advise}
    mixed = FLEET.replace("tier: small,", "tier: small, mode: act,").replace("name: rest", "name: rest, mode: act")
    assert modes(compile_policy([("f.yaml", mixed + "mode: advise\n")])) == {
        "small": act, "large": advise, "chat": advise, "rest": act
    }  # fmt: skip


def advised_house() -> House:
    small = replace(deployment("small"), mode=Mode.ADVISE)
    return House(
        RequestClass("all", floor=QualityFloor(0.9), mode=Mode.ADVISE),
        deployments=(small, deployment("large", Tier.LARGE)),
    )


def test_advice_on_prices_is_marked_and_not_in_force() -> None:
    """Pressed for a minute: the price that would be is told, decisions see none; so it is with the floor's."""
    house = advised_house()
    controller, told = house.controller, []
    small, large = house.member("small"), house.member("large")
    floor = controller.duals.floors["all"]
    for beat in range(600):
        small.price.observe(1.5)
        large.price.observe(1.5)
        floor.on_served(0.0)
        told += controller.tick(now=beat / 10.0, at=beat / 10.0)
    assert small.price.integral > 1.0
    assert small.price.value(1.5) == small.price.in_force == 0.0
    assert large.price.value(1.5) > 1.0
    assert floor.value > 2.0
    assert controller.duals.floor(controller.policy.classes[0]) == 0.5
    prices = {(e.kind, e.subject): e.advised for e in told if isinstance(e, PriceUpdate)}
    assert prices == {("capacity", "small"): True, ("capacity", "large"): False, ("floor", "all"): True}


def test_advice_turns_into_action_by_an_edit_from_where_it_started() -> None:
    """What a price ran away to while nothing followed it is not what it begins with."""
    house = advised_house()
    controller = house.controller
    member = house.member("small")
    member.price.integral = controller.duals.floors["all"].value = 7.0
    acting = tuple(replace(d, mode=Mode.ACT) for d in controller.policy.deployments)
    classes = tuple(replace(c, mode=Mode.ACT) for c in controller.policy.classes)
    controller.apply(replace(controller.policy, digest="next", deployments=acting, classes=classes), now=1.0, at=1.0)
    assert house.member("small") is member
    assert (member.price.value(0.0), controller.duals.floors["all"].in_force) == (0.0, 0.5)
    member.price.integral = 3.0
    assert member.price.value(0.0) == 3.0
    assert controller.tuning.standing().advised == ()


def test_advice_has_metrics_of_its_own(house: House) -> None:
    """And leaves those of what is in force alone."""
    registry = CollectorRegistry()
    metrics = Metrics(advised_house().controller.policy, registry)
    for event in (
        LimitUpdate("small", "in_flight", 40.0, 12.0, "headroom", advised=True),
        PriceUpdate("capacity", "small", 0.0, 2.0, "pressed", advised=True),
        CeilingUpdate("all", "m", 256, 512, 0.1, "longer", advised=True),
    ):
        for subscriber in metrics.subscribers:
            if (handler := subscriber.handlers().get(type(event))) is not None:
                handler(event)
    value = registry.get_sample_value
    assert value("router_advised_limit_attempts", {"deployment": "small"}) == 12.0
    assert value("router_advised_price", {"kind": "capacity", "subject": "small"}) == 2.0
    assert value("router_limit_attempts", {"deployment": "small"}) != 12.0
    assert value("router_price", {"kind": "capacity", "subject": "small"}) == 0.0
    assert value("router_advise_mode_ratio", {"of": "deployment", "subject": "small"}) == 1.0
    assert value("router_advised_updates_total", {"what": "ceiling"}) == 1.0
