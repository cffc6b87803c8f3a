"""Every HTTP route but chat: models, feedback, decisions, metrics, health, keys, wrong paths."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from tests.unit.http_door import CHAT, Door, open_door


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with open_door() as one:
        yield one


async def test_keys_guard_the_api_but_not_health_and_metrics() -> None:
    """With keys set, /v1 wants one of them as bearer; health and metrics stay open."""
    async with open_door(api_keys=frozenset({"one", "two"})) as door:
        for headers in ({}, {"authorization": "Bearer three"}, {"authorization": "Basic one"}):
            status, got, body = await door.post(CHAT, **headers)
            assert status == 401
            assert json.loads(body)["error"]["code"] == "invalid_api_key"
            assert got["www-authenticate"] == "Bearer"
            assert (await door.get("/v1/models", **headers))[0] == 401
        assert door.router.requests == []
        assert (await door.post(CHAT, authorization="Bearer two"))[0] == 200
        assert (await door.get("/v1/models", authorization="bearer one"))[0] == 200
        assert (await door.get("/healthz"))[0] == 200
        assert (await door.get("/metrics"))[0] == 200


async def test_models_are_auto_the_classes_the_models_and_the_deployments(door: Door) -> None:
    """All that may be asked for as `model` is listed, and can be had one by one."""
    _, _, body = await door.get("/v1/models")
    said = json.loads(body)
    assert said["object"] == "list"
    assert [model["id"] for model in said["data"]] == ["auto", "chat", "llama", "small-0"]
    assert json.loads((await door.get("/v1/models/small-0"))[2])["owned_by"] == "llama"
    status, _, body = await door.get("/v1/models/none")
    assert status == 404
    assert json.loads(body)["error"]["code"] == "model_not_found"


async def test_feedback_teaches_known_decisions_only(door: Door) -> None:
    """Quality for a known decision, by its id or its answer's, is taken; for others it is a 404."""
    assert (await door.post({"decision_id": "chatcmpl-d1", "quality": 0.5}, "/v1/feedback"))[0] == 200
    status, _, body = await door.post({"decision_id": "nope", "quality": 1}, "/v1/feedback")
    assert status == 404
    assert json.loads(body)["error"]["code"] == "decision_not_found"
    assert door.router.taught == [("d1", 0.5), ("nope", 1.0)]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"decision_id":"d1","quality":1.5}', b"\xff"])
async def test_bad_feedback_teaches_nothing(door: Door, body: bytes) -> None:
    """Feedback that cannot be read, or out of range, is a 400."""
    assert (await door.post(body, "/v1/feedback"))[0] == 400
    assert door.router.taught == []


async def test_decision_is_shown_by_id(door: Door) -> None:
    """A known decision is shown as it is, an unknown one is a 404."""
    assert (await door.get("/v1/decisions/chatcmpl-d1"))[2] == b'{"id":"d1"}'
    assert (await door.get("/v1/decisions/d2"))[0] == 404


async def test_health_readiness_and_metrics(door: Door) -> None:
    """Health is always well, readiness follows the router with its reason, metrics are what was passed in."""
    assert (await door.get("/readyz"))[0] == 200
    door.router.ready = (False, "no policy")
    status, _, body = await door.get("/readyz")
    assert (status, json.loads(body)["detail"]) == (503, "no policy")
    assert (await door.get("/healthz"))[0] == 200
    _, headers, page = await door.get("/metrics")
    assert (headers["content-type"], page) == ("text/plain; version=0.0.4", b"router_up 1\n")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [("/v1/none", 404, "not_found"), ("/v1/chat/completions", 405, "method_not_allowed")],
)
async def test_wrong_path_or_method_has_an_openai_body(door: Door, path: str, status: int, code: str) -> None:
    """404 and 405 come in the same form as any other error."""
    got, _, body = await door.get(path)
    assert got == status
    assert json.loads(body)["error"]["code"] == code
