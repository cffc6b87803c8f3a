"""Cancels that come before their request, or that name none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from router.domain.errors import RequestError
from router.doubles.mqtt_broker import Broker
from router.ingress.cancels.early import REMEMBER_MAX, REMEMBER_S, EarlyCancels
from router.wire.mqtt import read_cancel
from router.wire.mqtt_packet import Publish
from tests.unit.mqtt_site import CANCEL, TOPIC, Site, cancel
from tests.unit.mqtt_world import code, fields


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with Broker() as broker:
        world = Site(broker, tmp_path)
        yield world
        await world.end()


@pytest.mark.parametrize(
    ("payload", "properties"),
    [
        (CANCEL, (("tenant", "acme"),)),
        (b'{"request_id":"r1","tenant":"acme"}', ()),
        (b"", (("request-id", "r1"), ("tenant", "acme"))),
    ],
)
async def test_a_cancel_may_come_before_its_request(
    site: Site, payload: bytes, properties: tuple[tuple[str, str], ...]
) -> None:
    """The broker does not order them. The request is never begun, and it alone."""
    await site.listening()
    producer = await site.producer()
    cancel(producer, payload, *properties)
    await site.sink.saw("cancel_early")
    producer.ask(properties=[("tenant", "acme")])
    assert code(await producer.one()) == "cancelled"
    assert site.dispatch.calls == []
    assert [site.sink.count(what) for what in ("cancel_early", "cancelled", "cancel_unknown")] == [1, 1, 0]
    producer.ask()
    assert "router-decision-id" in fields(await producer.one())


async def test_an_early_cancel_is_forgotten_after_a_while(site: Site) -> None:
    """A request that comes later than that is served."""
    await site.listening()
    producer = await site.producer()
    cancel(producer)
    await site.sink.saw("cancel_early")
    site.clock.pass_by(REMEMBER_S + 1.0)
    producer.ask()
    assert "router-decision-id" in fields(await producer.one())
    assert [site.sink.count(what) for what in ("cancel_early", "cancelled", "cancel_unknown")] == [1, 0, 1]


async def test_another_tenant_takes_nothing_back(site: Site) -> None:
    """An id belongs to its tenant."""
    site.dispatch.gate.clear()
    await site.listening()
    producer = await site.producer()
    producer.ask(properties=[("tenant", "acme")])
    await site.dispatch.called()
    cancel(producer, CANCEL, ("tenant", "other"))
    cancel(producer)
    await site.sink.saw("cancel_early", 2)
    site.dispatch.gate.set()
    assert "router-decision-id" in fields(await producer.one())


async def test_a_malformed_cancel_is_counted_and_harms_nobody(site: Site) -> None:
    """It is acknowledged like any other."""
    await site.listening()
    producer = await site.producer()
    cancel(producer, b"rubbish")
    cancel(producer, b"{}")
    await site.sink.saw("invalid", 2)
    producer.ask()
    await producer.one()
    assert site.broker.stats.redelivered == 0


def test_early_cancels_are_bounded() -> None:
    """The oldest goes first; each is taken once, or given up once: for age, for room, or for its own repetition."""
    now = [0.0]
    given_up: list[float] = []
    early = EarlyCancels(lambda: now[0], lambda: given_up.append(now[0]))
    for number in range(REMEMBER_MAX + 1):
        early.remember(str(number))
    assert len(given_up) == 1
    assert [early.take(key) for key in ("0", "1", "1", str(REMEMBER_MAX))] == [False, True, False, True]
    now[0] = REMEMBER_S + 1.0
    assert not early.take("2")
    assert len(given_up) == REMEMBER_MAX - 1
    early.remember("new")
    now[0] += REMEMBER_S
    assert early.take("new")
    early.remember("again")
    early.remember("again")
    early.forget_old()
    assert len(given_up) == REMEMBER_MAX
    now[0] += REMEMBER_S + 1.0
    early.forget_old()
    early.forget_old()
    assert len(given_up) == REMEMBER_MAX + 1


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"r1",
        b"[]",
        b"{}",
        b"\xff",
        b'{"request_id":""}',
        b'{"request_id":7}',
        b'{"request_id":"r","tenant":""}',
        b'{"request_id":"' + b"x" * 257 + b'"}',
    ],
)
def test_a_malformed_cancel_is_refused(payload: bytes) -> None:
    """Nothing is guessed."""
    with pytest.raises(RequestError):
        read_cancel(Publish(TOPIC, payload))


def test_a_property_names_the_request_before_the_body() -> None:
    """The tenant may be a property though the id is in the body, as where a client sets it on all it sends."""
    by_property = read_cancel(Publish(TOPIC, CANCEL, properties=(("request-id", "r2"), ("tenant", "t"))))
    by_body = read_cancel(Publish(TOPIC, CANCEL, properties=(("tenant", "t"),)))
    assert (by_property.request_id, by_property.tenant) == ("r2", "t")
    assert (by_body.request_id, by_body.tenant) == ("r1", "t")
