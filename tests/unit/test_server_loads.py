"""Servers are asked for their load for as long as the policy wants it, and what they tell reaches the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from itertools import pairwise
from random import Random

import pytest
from msgspec.structs import replace

from router.domain.control.servers import ServerAsked, ServerHeard
from router.domain.control.stability import KnowledgeChanged
from router.domain.deployment import Address, Deployment, TelemetryTerms
from router.runtime.load.servers import PAUSE_MOST_S, TOLD_AFTER, ServerLoads
from router.wire.server_metrics import NoLoad, Scrape, ServerLoad
from tests.regressions.house import House, LoopClock, deployment, virtually

FULL = ServerLoad("vLLM", 30, 10, 0.6)
NOT_FOUND = NoLoad(Scrape.REFUSED, "it answered 404")
EVERY_S = 0.5


def terms(host: str) -> TelemetryTerms:
    return TelemetryTerms(f"http://{host}/metrics", EVERY_S, EVERY_S / 2)


def asked(name: str, host: str = "a") -> Deployment:
    return replace(deployment(name), telemetry=terms(host))


class Servers:
    """A reader whose servers answer `took_s` later with what `says` has for their host."""

    def __init__(self, took_s: float = 0.0) -> None:
        self.says: dict[str, ServerLoad | NoLoad | Exception] = {}
        self.took_s = took_s
        self.asked: list[tuple[str, float]] = []
        self.forgotten: list[str] = []
        self.is_closed = False

    async def read(self, terms: TelemetryTerms, ca_file: str | None) -> ServerLoad | NoLoad:
        host = terms.url.split("/")[2]
        self.asked.append((host, asyncio.get_running_loop().time()))
        await asyncio.sleep(self.took_s)
        found = self.says.get(host, FULL)
        if isinstance(found, Exception):
            raise found
        return found

    def forget(self, files: Collection[str]) -> None:
        self.forgotten += files

    async def close(self) -> None:
        self.is_closed = True

    def times(self, host: str = "a") -> list[float]:
        return [at for name, at in self.asked if name == host]


def between(times: list[float]) -> list[float]:
    """The pauses."""
    return [after - before for before, after in pairwise(times)]


def loads(house: House, reader: Servers) -> ServerLoads:
    return ServerLoads(house.controller, reader, LoopClock(), house, rng=Random(1))


def edit(house: House, *deployments: Deployment) -> None:
    house.controller.apply(replace(house.controller.policy, deployments=deployments, digest="p2"), now=0.0, at=0.0)


def test_the_load_of_others_reaches_the_ledger_as_of_the_question() -> None:
    """Forty sequences that we did not send are seen; their age counts from when the server was asked, not from when it
    answered."""

    async def scene() -> None:
        house, reader = House(deployments=(asked("one"),)), Servers(took_s=0.2)
        servers = loads(house, reader)
        await servers.start()
        await house.beat(10.0)
        account = house.member("one").account
        assert account.outside == pytest.approx(40.0, rel=0.01)
        assert account.load(10.0, 0.0).sequences == 40
        assert account.scraped_at in reader.times()
        told = house.of(ServerAsked)[-1]
        assert (told.result, told.running, told.waiting, told.kv_ratio) == ("ok", 30, 10, 0.6)
        await servers.stop(0.0)

    virtually(scene)


def test_a_server_is_asked_at_its_own_pace_and_not_in_step_with_others() -> None:
    """About every period, never two servers at one instant."""

    async def scene() -> None:
        house = House(deployments=tuple(asked(f"d{i}", f"h{i}") for i in range(4)))
        reader = Servers(took_s=0.1)
        servers = loads(house, reader)
        await servers.start()
        await asyncio.sleep(20.0)
        for i in range(4):
            times = reader.times(f"h{i}")
            gaps = between(times)
            assert all(0.9 * EVERY_S <= gap <= 1.1 * EVERY_S + 1e-9 for gap in gaps)
            assert 36 <= len(times) <= 44
        assert len({at for _, at in reader.asked}) == len(reader.asked)
        await servers.stop(0.0)

    virtually(scene)


def test_one_server_behind_two_deployments_is_asked_once() -> None:
    """Each of them is told its whole load: what the other one sent there is load of others to it."""

    async def scene() -> None:
        house, reader = House(deployments=(asked("one"), asked("two"))), Servers()
        servers = loads(house, reader)
        await servers.start()
        await house.beat(1.0)
        assert servers.asked == ("http://a/metrics",)
        assert len(reader.asked) <= 3
        assert {event.deployment for event in house.of(ServerAsked)} == {"one", "two"}
        assert all(house.member(name).account.outside > 0.0 for name in ("one", "two"))
        await servers.stop(0.0)

    virtually(scene)


def test_a_server_that_fails_is_asked_less_often_and_at_once_as_before_when_it_answers() -> None:
    """Pauses double up to ten seconds; nothing is made up meanwhile."""

    async def scene() -> None:
        house, reader = House(deployments=(asked("one"),)), Servers()
        reader.says["a"] = NOT_FOUND
        servers = loads(house, reader)
        await servers.start()
        await asyncio.sleep(60.0)
        times = reader.times()
        gaps = between(times)
        expected = [min(EVERY_S * 2.0**i, PAUSE_MOST_S) for i in range(len(gaps))]
        assert gaps == pytest.approx(expected, rel=0.11)
        assert house.member("one").account.outside == 0.0
        reader.says.clear()
        await asyncio.sleep(11.0 + 5.0)
        gaps = between(reader.times()[-6:])
        assert gaps == pytest.approx([EVERY_S] * 5, rel=0.11)
        await servers.stop(0.0)

    virtually(scene)


def test_silence_is_told_once_and_so_is_its_end() -> None:
    """Not at the first failure, and not at every one: a change of state, with the reason."""

    async def scene() -> None:
        house, reader = House(deployments=(asked("one"),)), Servers()
        servers = loads(house, reader)
        await servers.start()
        await asyncio.sleep(2.0)
        reader.says["a"] = NOT_FOUND
        while [event.result for event in house.of(ServerAsked)].count("refused") < TOLD_AFTER - 1:
            await asyncio.sleep(0.1)
        assert [event.tells for event in house.of(ServerHeard)] == [True]
        await asyncio.sleep(30.0)
        reader.says.clear()
        await asyncio.sleep(30.0)
        said = [(event.tells, event.reason) for event in house.of(ServerHeard)]
        assert said == [(True, "it answers as vLLM"), (False, "it answered 404"), (True, "it answers as vLLM")]
        await servers.stop(0.0)

    virtually(scene)


def test_a_hiccup_is_not_told() -> None:
    """One answer that is missing between others is counted and not said."""

    async def scene() -> None:
        house, reader = House(deployments=(asked("one"),)), Servers()
        servers = loads(house, reader)
        await servers.start()
        await asyncio.sleep(2.0)
        reader.says["a"] = NOT_FOUND
        await asyncio.sleep(EVERY_S)
        reader.says.clear()
        await asyncio.sleep(5.0)
        results = [event.result for event in house.of(ServerAsked)]
        assert results.count("refused") == 1
        assert len(house.of(ServerHeard)) == 1
        await servers.stop(0.0)

    virtually(scene)


def test_a_fault_of_our_own_ends_no_loop() -> None:
    """What a reader should never raise counts as no answer, and the server is asked again."""

    async def scene() -> None:
        house, reader = House(deployments=(asked("one"),)), Servers()
        reader.says["a"] = LookupError("a fault")
        servers = loads(house, reader)
        await servers.start()
        await asyncio.sleep(3.0)
        reader.says.clear()
        await asyncio.sleep(6.0)
        assert house.of(ServerAsked)[-1].result == "ok"
        await servers.stop(0.0)

    virtually(scene)


def test_a_server_that_falls_silent_is_known_less_and_less() -> None:
    """First only by what we sent ourselves, after half a minute with caution; the load of others fades. Once it answers
    again everything is known again."""

    async def scene() -> None:
        house, reader = House(deployments=(asked("one"),)), Servers()
        servers = loads(house, reader)
        await servers.start()
        await house.beat(20.0)
        reader.says["a"] = NOT_FOUND
        await house.beat(4.0)
        assert [(event.old, event.new) for event in house.of(KnowledgeChanged)] == [("fresh", "ledger")]
        await house.beat(60.0)
        assert house.of(KnowledgeChanged)[1].new == "conservative"
        assert house.member("one").account.outside < 1.0
        reader.says.clear()
        await house.beat(20.0)
        assert house.of(KnowledgeChanged)[-1].new == "fresh"
        assert house.member("one").account.outside > 30.0
        await servers.stop(0.0)

    virtually(scene)


def test_an_edit_begins_and_ends_asking() -> None:
    """A new address is asked, one that is gone is not, one that stays goes on in its rhythm; files are forgotten."""

    async def scene() -> None:
        house, reader = House(deployments=(asked("one", "a"), asked("two", "b"))), Servers()
        servers = loads(house, reader)
        await servers.start()
        await asyncio.sleep(2.0)
        edit(house, asked("one", "a"), asked("two", "c"), deployment("three"))
        at = asyncio.get_running_loop().time()
        servers.follow(("/run/key",))
        assert set(servers.asked) == {"http://a/metrics", "http://c/metrics"}
        await asyncio.sleep(5.0)
        assert [t for t in reader.times("b") if t > at] == []
        assert len(reader.times("c")) >= 8
        assert max(between(reader.times("a"))) <= 1.1 * EVERY_S + 1e-9
        assert reader.forgotten == ["/run/key"]
        await servers.stop(0.0)

    virtually(scene)


def test_a_policy_that_comes_before_the_start_or_after_the_end_asks_nobody() -> None:
    """Tasks live from `start` to `stop`, which leaves none and closes the connections."""

    async def scene() -> None:
        house, reader = House(deployments=(asked("one"),)), Servers(took_s=0.1)
        servers = loads(house, reader)
        servers.follow()
        await asyncio.sleep(1.0)
        assert reader.asked == []
        await servers.start()
        await asyncio.sleep(1.0)
        await servers.stop(0.0)
        count = len(reader.asked)
        servers.follow()
        await asyncio.sleep(5.0)
        assert (len(reader.asked), reader.is_closed, servers.asked) == (count, True, ())
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtually(scene)


def test_authorities_keep_servers_apart() -> None:
    """The same address under another certificate authority is asked on its own."""

    async def scene() -> None:
        other = replace(asked("two"), address=Address("scripted", "two", ca_file="/ca.pem"))
        servers = loads(House(deployments=(asked("one"), other)), Servers())
        await servers.start()
        assert len(servers.asked) == 2
        await servers.stop(0.0)

    virtually(scene)
