"""/v1/learned: what was learned is shown, forgotten, held still and carried elsewhere by whoever may."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import aiohttp
import pytest

from router.complexity.heuristic import HeuristicEstimator
from router.core import snapshot
from router.core.controller import Controller
from router.domain.deployment import Tier
from router.domain.slo import RequestClass
from router.ingress.http import HttpIngress, HttpOptions
from router.policy.policy import Bounds, Policy
from router.runtime.clock import RealClock
from router.runtime.learned.desk import Desk
from tests.regressions.house import deployment
from tests.unit.http_door import FakeRouter

POLICY = Policy("p1", (RequestClass("chat"),), (deployment("small"), deployment("large", Tier.LARGE)), Bounds())


class Asked:
    """A door with a desk behind it, and whoever asks there."""

    def __init__(self, url: str, client: aiohttp.ClientSession, controller: Controller, saves: list[bytes]) -> None:
        self._url, self._client = url, client
        self.controller, self.saves = controller, saves

    async def __call__(self, method: str, path: str = "", body: object = None, **headers: str) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        named = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        url = f"{self._url}/v1/learned{path}"
        async with self._client.request(method, url, data=data, headers=named) as response:
            return response.status, json.loads(await response.read())


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[Asked]:
    controller, saves = Controller(POLICY, HeuristicEstimator(), rng=Random(0)), list[bytes]()
    for i in range(20):
        for model in ("model-small", "model-large"):
            controller.qualities.observe(0.8, model, "code", 0.0)
            controller.lengths.observe("chat", model, 40, now=float(i))

    async def save() -> None:
        saves.append(snapshot.take_for_keeps(controller, at=1.0))

    router = FakeRouter()
    desk = Desk(controller, RealClock(), save)
    ingress = HttpIngress(HttpOptions(port=0, **options), router, router, lambda: (b"", ""), learned=desk)
    await ingress.start()
    try:
        async with aiohttp.ClientSession() as client:
            yield Asked(f"http://127.0.0.1:{ingress.port}", client, controller, saves)
    finally:
        await ingress.stop(grace_s=0)


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    async with opened() as one:
        yield one


async def test_what_is_known_is_shown(asked: Asked) -> None:
    """By model and deployment; looking changes nothing and writes nothing."""
    status, page = await asked("GET")
    assert (status, page["frozen"], asked.saves) == (200, [], [])
    assert page["models"]["model-small"]["quality"]["seen"] == 20
    assert set(page["deployments"]) == {"small", "large"}


async def test_a_reset_is_on_disk_when_it_is_answered(asked: Asked) -> None:
    """One model's quality is forgotten; a crash would not bring it back."""
    status, said = await asked("POST", "/reset", {"what": ["quality"], "models": ["model-small"]})
    assert (status, said) == (200, {"object": "learned", "done": "reset", "rows": 2})
    assert set(asked.controller.qualities.beliefs()) == {"model-large"}
    (written,) = (json.loads(data) for data in asked.saves)
    assert "model-small\t" not in written["qualities"]
    assert written["lineage"]["done"] == "reset quality of model-small"


async def test_learning_stops_and_goes_on(asked: Asked) -> None:
    """Without `what`: all but latency stands still, and all is thawed."""
    status, said = await asked("POST", "/freeze", {})
    assert (status, said["frozen"]) == (200, ["ceilings", "checks", "lengths", "quality"])
    assert asked.controller.qualities.frozen
    assert (await asked("GET"))[1]["frozen"] == said["frozen"]
    assert (await asked("POST", "/freeze", {"what": ["latency"]}))[1]["frozen"] == sorted([*said["frozen"], "latency"])
    assert (await asked("POST", "/thaw", {"what": ["quality"]}))[1]["frozen"] == [
        *("ceilings", "checks", "latency", "lengths")
    ]
    assert (await asked("POST", "/thaw", b""))[1]["frozen"] == []
    assert json.loads(asked.saves[-1])["frozen"] == []


async def test_what_is_exported_can_be_put_back(asked: Asked) -> None:
    """And what is not asked for stays where it is."""
    _, document = await asked("GET", "/export?what=quality&model=model-large")
    assert (set(document["qualities"]), document["lengths"]) == ({"model-large\t", "model-large\tcode"}, {})
    _, whole = await asked("GET", "/export")
    await asked("POST", "/reset", {"what": ["quality", "lengths"]})
    status, said = await asked("PUT", "?what=quality", whole)
    assert (status, said["names"]) == (200, ["model-large", "model-small"])
    assert set(asked.controller.qualities.beliefs()) == {"model-large", "model-small"}
    assert asked.controller.lengths.state() == {}


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        ("POST", "/reset", {}, "required field `what`"),
        ("POST", "/reset", {"what": []}, "say what"),
        ("POST", "/reset", {"what": ["typo"]}, "`what` is a list of quality, lengths"),
        ("POST", "/reset", {"what": ["quality"], "model": ["a"]}, "unknown field `model`"),
        ("POST", "/reset", {"what": ["quality"], "models": ["typo"]}, "known are models: model-large, model-small"),
        ("POST", "/reset", b"{", "cannot be read"),
        ("POST", "/freeze", {"what": ["prices"]}, "prices cannot be frozen"),
        ("PUT", "", {"version": 9}, "version 9, and this router reads 1 and 2"),
        ("PUT", "", b"[]", "Nothing was taken up"),
        ("PUT", "?what=typo", {}, "what=typo"),
        ("GET", "/export?what=typo", None, "what=typo"),
    ],
)
async def test_a_mistake_changes_nothing_and_says_what_to_do(
    asked: Asked, method: str, path: str, body: object, message: str
) -> None:
    """As a 400 whose message names it."""
    before = snapshot.take(asked.controller, at=0.0)
    status, said = await asked(method, path, body)
    assert status == 400
    assert message in said["error"]["message"]
    assert (snapshot.take(asked.controller, at=0.0), asked.saves) == (before, [])


@pytest.mark.parametrize(("method", "path"), [("PUT", ""), ("POST", "/reset"), ("POST", "/freeze"), ("POST", "/thaw")])
async def test_what_a_foreign_page_can_send_changes_nothing(asked: Asked, method: str, path: str) -> None:
    """A browser sends a form or plain text to any address unasked, JSON only where that is allowed."""
    status, said = await asked(method, path, {"what": ["quality"]}, content_type="text/plain")
    assert (status, said["error"]["code"], asked.saves) == (415, "unsupported_media_type", [])


ALL = pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/export"), ("PUT", ""), ("POST", "/reset"), ("POST", "/freeze"), ("POST", "/thaw")],
)


@ALL
async def test_it_is_for_operators_alone(method: str, path: str) -> None:
    """A producer's key opens none of it, an operator's all of it; what is refused changes nothing."""
    async with opened(api_keys=frozenset({"one"}), admin_keys=frozenset({"boss"})) as asked:
        body = {"what": ["quality"]} if method == "POST" else None
        status, said = await asked(method, path, body, authorization="Bearer one")
        assert (status, said["error"]["code"]) == (403, "admin_key_required")
        assert "ROUTER_HTTP__ADMIN_KEYS" in said["error"]["message"]
        assert (await asked(method, path, body))[0] == 401
        assert not asked.saves
        assert (await asked(method, path, body, authorization="Bearer boss"))[0] in (200, 400)


@ALL
@pytest.mark.parametrize("options", [{"api_keys": frozenset({"one"})}, {"host": "0.0.0.0"}])
async def test_without_operators_keys_it_is_shut(method: str, path: str, options: dict[str, Any]) -> None:
    """To everybody, where there are other keys or the router listens on more than loopback; it says what to set."""
    async with opened(**options) as asked:
        body = {"what": ["quality"]} if method == "POST" else None
        status, said = await asked(method, path, body, authorization="Bearer one")
        assert (status, said["error"]["code"], asked.saves) == (403, "admin_key_required", [])
        assert "set ROUTER_HTTP__ADMIN_KEYS" in said["error"]["message"]


async def test_operators_keys_alone_leave_the_other_routes_open() -> None:
    """They guard what is theirs, on loopback too."""
    async with opened(admin_keys=frozenset({"boss"})) as asked:
        assert (await asked("GET"))[0] == 401
        assert (await asked("GET", authorization="Bearer boss"))[0] == 200
        assert (await asked("GET", "/../models"))[0] == 200


@pytest.mark.parametrize("path", ["/../policy", "/../decisions/d1"])
async def test_policy_and_decisions_are_for_operators_where_they_have_keys(path: str) -> None:
    """Else for whoever may ask for anything. An operator's key opens the other routes too."""
    for admin_keys, status in ((frozenset({"boss"}), 403), (None, 404)):
        async with opened(api_keys=frozenset({"one"}), admin_keys=admin_keys) as asked:
            assert (await asked("GET", path, authorization="Bearer one"))[0] == status
            if admin_keys is not None:
                assert (await asked("GET", path, authorization="Bearer boss"))[0] == 404
                assert (await asked("GET", "/../models", authorization="Bearer boss"))[0] == 200


async def test_other_methods_are_refused(asked: Asked) -> None:
    """As on every route."""
    assert (await asked("DELETE"))[0] == 405
    assert (await asked("GET", "/reset"))[0] == 405
