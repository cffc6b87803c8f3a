"""Once broken where operators' keys, variants, refusals, early cancels and stops meet the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec
import pytest
from typer.testing import CliRunner

from router.cli.main import app
from router.domain.aws.terms import Payload
from router.domain.errors import Refused, RequestError, SettingsError, Throttled
from router.domain.slo import RequestClass
from router.ingress.admin.doorkeeper import Doorkeeper
from router.ingress.cancels.early import EARLY, REMEMBER_S, EarlyCancels
from router.ingress.cancels.mqtt import Cancels
from router.ingress.mqtt_options import MqttOptions
from router.ingress.mqtt_replies import Replies
from router.learning.quality import QualityModel
from router.learning.variants.descent import descents
from router.settings import check_to_serve, load_settings
from router.sim.clock import run_virtual
from router.wire.aws.exchange import exchange_for
from router.wire.aws.sagemaker.request import text_call
from router.wire.aws.sagemaker.response import read_text
from router.wire.aws.sagemaker.stream import TokenReader
from router.wire.mqtt_packet import Publish
from tests.regressions.house import House, code_of, failing, failing_once, virtually
from tests.regressions.test_aws_acceptance_regressions import CLAUDE, attempt
from tests.unit.test_variants import BASE, QUANTISED, fleet

NO_TOOLS = Refused("no tools", code="unsupported", param="tools")
COMPILED = "model: llama-awq-neuron, tier: small, derived_from: llama-awq, optimizations: [compilation-neuron]"
FIVE = ["a1", "b2", "c3", "d4", "e5"]
Change = Callable[[QualityModel], None]


def test_what_can_be_asked_elsewhere_costs_no_retry() -> None:
    """Nothing was called, so nothing was loaded: with every request moved on, the budget that keeps retries from
    becoming the load was spent after thirty, and the rest were refused."""

    async def scene() -> None:
        house = House(RequestClass("all", max_retries=0))
        house.backend.scripts = {"large": failing(NO_TOOLS)}
        replies = [await house.ask(f"r{i}") for i in range(120)]
        assert {reply.receipt.deployment for reply in replies} == {"small"}
        assert house.controller.retries.tokens == pytest.approx(20.0)

    virtually(scene)


def test_a_refusal_that_is_free_ends_all_the_same() -> None:
    """Where one cannot be asked and the other is over its rate: as often as the class retries, and no more."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": failing(NO_TOOLS), "small": failing(Throttled("slow down"))}
        task = house.going(deadline_s=60.0)
        await house.beat(30.0)
        assert code_of(task) == "throttled"
        assert house.backend.calls == ["large", "small", "small"]

    virtually(scene)


def test_who_was_only_busy_is_asked_again_after_one_that_cannot_be_asked() -> None:
    """The first is over its rate, the second has no tools: that refusal was told, though the first had them a moment
    later."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": failing_once(Throttled("slow down")), "small": failing(NO_TOOLS)}
        task = house.going(deadline_s=60.0)
        await house.beat(10.0)
        assert code_of(task) == "ok"
        assert house.backend.calls == ["large", "small", "large"]

    virtually(scene)


@pytest.mark.parametrize("change", [QualityModel.carry_over, QualityModel.reopen])
def test_a_variant_that_is_opened_again_is_not_young(change: Change) -> None:
    """Its belief begins to count anew, but is its own: what it said was lost when its base was judged next."""
    qualities = QualityModel()
    qualities.descents = descents(fleet(BASE, QUANTISED))
    for model, adequate in (("llama-3.1-8b", 1.0), ("llama-awq", 0.0)):
        for _ in range(200):
            qualities.observe(0.9, model, "chat", adequate)
    change(qualities)
    qualities.observe(0.9, "llama-awq", "chat", 0.0)
    believed = qualities.correct(0.9, "llama-awq", "chat")
    qualities.observe(0.9, "llama-3.1-8b", "chat", 1.0)
    assert qualities.correct(0.9, "llama-awq", "chat") == believed


def test_a_variant_of_a_variant_starts_from_the_nearest() -> None:
    """What was learned of the model between it and the first counted no more as soon as the first was judged."""
    qualities = QualityModel()
    qualities.descents = descents(fleet(BASE, QUANTISED, COMPILED))
    for _ in range(60):
        qualities.observe(0.9, "llama-awq", "chat", 0.0)
    qualities.observe(0.9, "llama-awq-neuron", "chat", 0.0)
    believed = qualities.correct(0.9, "llama-awq-neuron", "chat")
    qualities.observe(0.9, "llama-3.1-8b", "chat", 1.0)
    assert qualities.correct(0.9, "llama-awq-neuron", "chat") == believed


def test_what_is_learned_of_a_base_goes_down_the_line() -> None:
    """To a young variant, and from it to that one's own."""
    orders = []
    base, quantised, compiled = [("llama-3.1-8b", 1.0)] * 30, [("llama-awq", 0.0)] * 3, [("llama-awq-neuron", 0.0)]
    for told in (base + quantised + compiled, compiled + quantised + base):
        qualities = QualityModel()
        qualities.descents = descents(fleet(BASE, QUANTISED, COMPILED))
        for model, adequate in told:
            qualities.observe(0.9, model, "chat", adequate)
        orders.append(qualities.correct(0.9, "llama-awq-neuron", "chat"))
    assert orders[0] == pytest.approx(orders[1], abs=1e-3)


def test_what_is_put_back_as_it_was_leaves_a_variant_young() -> None:
    """As when latency alone is reset, or learning is frozen: all is put back, and this was not changed."""
    found = []
    for is_put_back in (False, True):
        qualities = QualityModel()
        qualities.descents = descents(fleet(BASE, QUANTISED))
        qualities.observe(0.9, "llama-awq", "chat", 0.0)
        if is_put_back:
            qualities.restore(qualities.state())
        for _ in range(20):
            qualities.observe(0.9, "llama-3.1-8b", "chat", 1.0)
        found.append(qualities.correct(0.9, "llama-awq", "chat"))
    assert found[0] == found[1]


def test_a_blank_stop_goes_to_who_takes_it() -> None:
    """Claude refuses it, so that the sender was told that the request is wrong; other models of Bedrock take it."""
    with pytest.raises(Refused) as refused:
        exchange_for(attempt("bedrock", CLAUDE, stop="\n")).arguments()
    assert (refused.value.code, refused.value.param) == ("unsupported", "stop")
    sent = exchange_for(attempt("bedrock", "amazon.nova-lite-v1:0", stop="\n")).arguments()
    assert sent["inferenceConfig"]["stopSequences"] == ["\n"]


@pytest.mark.parametrize("stop", [FIVE, "e5"])
def test_a_stop_ends_an_answer_however_the_container_ended_it(stop: str | list[str]) -> None:
    """One that the container was not sent is cut once it was said, and the container goes on to its bound: that is no
    answer cut short, whole or streamed."""
    call = text_call(attempt("sagemaker", "e", stop=stop), Payload.TGI)
    details = '"details": {"finish_reason": "length", "generated_tokens": 4}'
    whole = read_text(f'{{"generated_text": "x e5 y", {details}}}'.encode(), call)
    assert whole.finish_reason == "stop"
    reader = TokenReader("application/jsonlines", call)
    texts = [f'{{"token": {{"text": "{text}"}}}}' for text in ("x e", "5 y")]
    end = f'{{"token": {{"text": " z"}}, "generated_text": "x e5 y z", {details}}}'
    pieces = reader.feed("\n".join([*texts, end, ""]).encode())
    assert (pieces[-1].finish_reason, b"y" in b"".join(piece.choices for piece in pieces)) == ("stop", False)
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.output_tokens == 4


@pytest.mark.parametrize(
    "headers",
    [
        {b"host": b"127.0.0.1:8080", b"x-forwarded-for": b"203.0.113.9"},
        {b"host": b"localhost", b"forwarded": b"for=203.0.113.9"},
        {b"host": b"evil.example:8080"},
        {},
    ],
)
def test_who_comes_through_a_proxy_or_under_another_name_is_not_near(headers: dict[bytes, bytes]) -> None:
    """A proxy on the machine lets others in; a page whose own name leads to loopback sends what it likes there."""
    with pytest.raises(RequestError) as refused:
        Doorkeeper(None, None, host="127.0.0.1").check_operator(headers)
    assert refused.value.code == "admin_key_required"


@pytest.mark.parametrize("host", [b"127.0.0.1:8080", b"localhost:8080", b"[::1]:8080", b"127.0.0.1"])
def test_who_is_on_the_machine_needs_no_key(host: bytes) -> None:
    """Under any of its names."""
    Doorkeeper(None, None, host="::1").check_operator({b"host": host})


@pytest.mark.parametrize("name", ["ROUTER_API_KEY", "ROUTER_ADMIN_KEY"])
def test_a_key_under_the_name_that_commands_read_opens_no_router(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever sets one thinks that it guards the router: it would start, and admit everyone. With keys of its own it
    may stand beside them, for the commands; no message says the key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, "hush")
    with pytest.raises(SettingsError, match=rf"{name}.*ROUTER_HTTP__{name.removeprefix('ROUTER_')}S") as refused:
        check_to_serve(load_settings(None), None)
    assert "hush" not in str(refused.value)
    result = CliRunner().invoke(app, ["serve"])
    assert isinstance(result.exception, SettingsError)
    monkeypatch.setenv("ROUTER_HTTP__API_KEYS", "own")
    check_to_serve(load_settings(None), None)


def test_early_cancels_hold_one_timer_and_leave_none_behind() -> None:
    """However many come: each held one for ten minutes, beyond what is remembered and beyond the end."""

    async def scene() -> None:
        loop, told = asyncio.get_running_loop(), list[str]()
        replies = Replies(MqttOptions(), lambda event: None, lambda: 0.0, cast("object", None))  # type: ignore[arg-type]
        early = EarlyCancels(loop.time, lambda: told.append("given up"))
        listening = list[Callable[[Publish], None]]()
        replies.listen = lambda topic, take: listening.append(take)  # type: ignore[method-assign]

        def cancel(key: str) -> str:
            early.remember(key)
            return EARLY

        cancels = Cancels(MqttOptions(), replies, cancel, early.forget_old, lambda what, detail: None)
        before = _timers(loop)
        for number in range(50):
            body = msgspec.json.encode({"request_id": f"r{number}"})
            listening[0](Publish(topic="router/cancel", payload=body))
        assert _timers(loop) - before == 1
        await asyncio.sleep(REMEMBER_S + 5.0)
        assert len(told) == 50
        assert _timers(loop) == before
        listening[0](Publish(topic="router/cancel", payload=b'{"request_id": "last"}'))
        running = asyncio.create_task(cancels.run())
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait((running,))
        assert _timers(loop) == before

    run_virtual(scene())


def _timers(loop: asyncio.AbstractEventLoop) -> int:
    return sum(not handle.cancelled() for handle in loop._scheduled)  # type: ignore[attr-defined]
