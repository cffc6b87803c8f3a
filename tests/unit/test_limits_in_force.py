"""Limits as the operator writes them, as calls meet them, and as they are told."""

from __future__ import annotations

import asyncio
from io import StringIO
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from rich.console import Console

from router.cli.policy.status import _view
from router.control.limits import TokenLimit
from router.domain.deployment import Deployment, DeploymentName, Kind, LimitKind, LimitTerms, TokenQuota
from router.domain.errors import BackendError, Overloaded, Throttled
from router.domain.events import Event, LimitUpdate, LoadObserved
from router.domain.slo import RequestClass
from router.policy.compile import compile_policy
from router.policy.diff import difference
from router.policy.meaning.fleet import deployment_moves
from router.policy.policy import Policy
from router.telemetry.metrics import Metrics
from router.telemetry.sink import Sink
from tests.regressions.house import House, cancel, deployment, failing, never, virtually
from tests.unit.policy_mistakes import Mistake, told_once

PRICES = "prices:\n  models:\n    llama-3.1-8b: {input: 0.22, output: 0.22}\n"


def fleet(limit: str, more: str = "") -> str:
    return (
        "deployments:\n  - name: small\n    model: llama-3.1-8b\n    tier: small\n    backend: simulated\n"
        f"{more}    limit: {limit}\n{PRICES}"
    )


def written(limit: str) -> Deployment:
    (found,) = compile_policy([("fleet.yaml", fleet(limit))]).deployments
    return found


@pytest.mark.parametrize("kind", list(LimitKind))
def test_a_limit_is_chosen_for_each_deployment(kind: LimitKind) -> None:
    """As written; where nothing is, the step model."""
    found = written(f"{{kind: {kind}, requests: 12, tokens: 9000}}")
    assert found.limit == LimitTerms(kind, 12, 9000)
    assert written("{tokens: 9000}").limit.kind is LimitKind.STEP_MODEL
    house = House(deployments=(replace(found, address=deployment("small").address),))
    assert (house.member("small").limit.kind, house.member("small").limit.value) == (kind, 12.0)
    assert house.member("small").tokens.value == 9000


def other(limit: str, more: str = "") -> str:
    return fleet(limit, more).replace("name: small", "name: other").removesuffix(PRICES)


_BATCH = "    kind: batch\n    batch_ms: {base: 10, per_item: 1}\n"
_MISTAKES = {
    "unknown kind": Mistake(other("{kind: ▸vegas}"), "deployments[0].limit.kind", "is not one of step_model, aimd"),
    "fixed at nothing": Mistake(other("▸{kind: fixed}"), "deployments[0].limit", "needs `requests`"),
    "over the other bound": Mistake(
        other("{kind: aimd, requests: ▸40}", "    max_in_flight: 32\n"), "deployments[0].limit.requests", "allows 32"
    ),
    "less than one request": Mistake(
        other("{tokens: ▸4000}", "    context_tokens: 8192\n"), "deployments[0].limit.tokens", "8192 tokens"
    ),
    "no calls at all": Mistake(other("{requests: ▸0}"), "deployments[0].limit.requests", "1"),
    "of a batch": Mistake(
        other("{kind: aimd}", _BATCH).replace("    limit", "    ▸limit"), "deployments[0].limit", "by `max_items`"
    ),
}


@pytest.mark.parametrize("mistake", _MISTAKES.values(), ids=_MISTAKES)
def test_a_limit_that_cannot_be_is_told_where_it_was_written(mistake: Mistake) -> None:
    """File, line and column, and what to do."""
    told_once(mistake)


def test_another_limit_is_told_as_a_change_that_takes_effect_at_once() -> None:
    """Fewer tokens are a tightening; another kind is neither."""
    old, new = written("{kind: aimd, tokens: 9000}"), written("{kind: gradient, tokens: 8000}")
    moves = [(m.field, m.old, m.new, m.direction and m.direction.value) for m in deployment_moves(old, new)]
    assert moves == [("limit.kind", "aimd", "gradient", None), ("limit.tokens", "9000", "8000", "tightened")]
    before, after = (Policy(d.name, (RequestClass("all"),), (d,)) for d in (old, new))
    assert "deployment small: limit.kind aimd -> gradient" in difference(before, after)


def test_a_reload_that_changes_the_kind_keeps_the_number() -> None:
    """What one kind has found is where the next begins, inside the bounds; a fixed number is believed."""
    house = House(deployments=(deployment("only", limit=LimitTerms(LimitKind.AIMD, 40)),))
    member = house.member("only")

    def turn(terms: LimitTerms, **fields: Any) -> tuple[str, float]:
        now = deployment("only", limit=terms, **fields)
        house.controller.fleet.change((now,), house.bounds)
        assert house.member("only") is member
        return member.limit.kind.value, member.limit.value

    assert turn(LimitTerms(LimitKind.GRADIENT)) == ("gradient", 40.0)
    assert turn(LimitTerms(LimitKind.STEP_MODEL, 7)) == ("step_model", 40.0)
    assert turn(LimitTerms(LimitKind.AIMD), max_in_flight=24) == ("aimd", 24.0)
    assert turn(LimitTerms(LimitKind.FIXED, 9)) == ("fixed", 9.0)
    assert turn(LimitTerms(LimitKind.FIXED, 11)) == ("fixed", 11.0)
    assert turn(LimitTerms(LimitKind.AIMD)) == ("aimd", 11.0)


def test_cold_limits_begin_small_unless_the_policy_says_where() -> None:
    """A limit that knows nothing of the server does not begin at the operator's upper bound; the step model does."""
    kinds = {kind: deployment(kind.value, limit=LimitTerms(kind)) for kind in LimitKind}
    house = House(deployments=tuple(kinds.values()))
    values = {kind: house.member(kind.value).limit.value for kind in kinds}
    assert values == {
        LimitKind.STEP_MODEL: 1024.0,
        LimitKind.AIMD: 32.0,
        LimitKind.GRADIENT: 32.0,
        LimitKind.FIXED: 1024.0,
    }


def test_tokens_are_limited_as_well_as_calls() -> None:
    """Two prompts of 600 tokens do not fit into 1,000 at once; one of 5,000 goes to a deployment that is idle, for
    nothing it could wait for would make it fit."""

    async def scene() -> None:
        house = House(deployments=(deployment("only", limit=LimitTerms(tokens=1000)),))
        house.backend.scripts = {"only": never}
        first = house.going("first", input_tokens=600)
        await asyncio.sleep(0.0)
        second = house.going("second", input_tokens=600)
        small = house.going("small", input_tokens=300)
        await asyncio.sleep(0.0)
        await house.beat(0.2)
        assert house.backend.open_now == 2
        assert len(house.dispatcher.queue) == 1
        await cancel(first, small)
        await house.beat(0.2)
        assert house.backend.open_now == 1
        await cancel(second)
        long = house.going("long", input_tokens=5000)
        await asyncio.sleep(0.0)
        assert house.backend.open_now == 1
        await cancel(long)

    virtually(scene)


@pytest.mark.parametrize("error", [Throttled("busy", retry_after_s=1.0), Overloaded("busy"), Throttled("busy")])
def test_a_refused_call_cuts_the_limit_in_the_same_moment(error: BackendError) -> None:
    """Ten in flight and the eleventh refused: nine from now on."""

    async def scene() -> None:
        house = House(
            RequestClass("all", max_retries=0), deployments=(deployment("only", limit=LimitTerms(LimitKind.AIMD)),)
        )
        house.backend.scripts = {"only": never}
        going = [house.going(f"r{i}") for i in range(10)]
        await house.beat(0.5)
        house.backend.scripts = {"only": failing(error)}
        await house.attempt("one more")
        (update,) = house.of(LimitUpdate)
        assert (update.what, update.reason, update.old, update.new) == ("in_flight", "refused", 32.0, 9.0)
        assert house.member("only").limit.value == 9.0
        await cancel(*going)

    virtually(scene)


def test_reserved_tokens_that_are_used_up_say_nothing_of_how_many_at_once() -> None:
    """A throttle of provisioned capacity empties its buckets; the limit stays."""

    async def scene() -> None:
        reserved = deployment(
            "only", kind=Kind.PROVISIONED, quota=TokenQuota(1e6, 1e6), limit=LimitTerms(LimitKind.AIMD)
        )
        house = House(RequestClass("all", max_retries=0), deployments=(reserved,))
        house.backend.scripts = {"only": failing(Throttled("used up"))}
        await house.attempt()
        assert house.member("only").limit.value == 32.0
        assert [e for e in house.of(LimitUpdate) if e.what == "in_flight"] == []

    virtually(scene)


def test_a_refusal_with_fewer_calls_and_more_tokens_than_ever_is_for_the_tokens() -> None:
    """Thirty calls of 500 tokens were taken; ten of 2,000 are refused: not more than nine tenths of them at once."""
    limit = TokenLimit("large", None)
    for i in range(50):
        limit.beat(30, 15_000.0, now=0.1 * i)
    assert not limit.on_refused(29, 15_000.0, now=5.0)
    assert not limit.on_refused(10, 5_000.0, now=5.0)
    assert limit.beat(30, 15_000.0, now=5.0) is None
    assert limit.on_refused(10, 20_000.0, now=5.0)
    assert limit.value == 18_000.0
    told = limit.beat(10, 18_000.0, now=5.1)
    assert told == LimitUpdate("large", "tokens", 20_000.0, 18_000.0, "refused")
    for i in range(600):
        limit.beat(10, 18_000.0, now=5.2 + 0.1 * i)
    assert limit.value is not None
    assert limit.value > 20_000.0


def test_calls_that_stand_still_while_others_go_on_are_a_full_memory() -> None:
    """Two pieces that took ten times as long as usual, others between them, and more tokens than ever; a server that
    is slow for all is not that, nor one call that once stood still."""
    limit = TokenLimit("large", 50_000)
    limit.beat(30, 20_000.0, now=0.0)
    for i in range(20):
        limit.observe_gap(0.03, 0.24, 20_000.0, now=0.1 * i)
    limit.observe_gap(0.5, 4.0, 20_000.0, now=2.0)
    limit.observe_gap(0.5, 4.0, 20_000.0, now=2.1)
    assert limit.value == 50_000
    for i in range(10):
        limit.observe_gap(0.03, 0.24, 20_000.0, now=2.2 + 0.1 * i)
    limit.observe_gap(0.5, 4.0, 20_000.0, now=4.0)
    assert limit.value == 18_000.0
    told = limit.beat(30, 20_000.0, now=4.1)
    assert told == LimitUpdate("large", "tokens", 50_000.0, 18_000.0, "calls stood still")


def loaded(kind: str, limit: float | None, tokens: float | None = None) -> Event:
    return LoadObserved("only", 3, limit, 0, 0, 0.5, 1.0, kind, tokens)


def test_the_limit_in_force_is_a_metric_with_its_kind() -> None:
    """One series for each resource; of a kind that is no longer in force there is none, nor of a bound that is not
    known."""
    registry = CollectorRegistry()
    policy = Policy("p", (RequestClass("all"),), (deployment("only"),))
    sink = Sink(Metrics(policy, registry).subscribers)

    def told(event: Event) -> dict[tuple[str, str], float]:
        sink.emit(event)
        sink.drain_all()
        samples = [s for f in registry.collect() if f.name == "router_limit" for s in f.samples]
        return {(s.labels["kind"], s.labels["resource"]): s.value for s in samples}

    assert told(loaded("aimd", 31.0, 9000.0)) == {("aimd", "requests"): 31.0, ("aimd", "tokens"): 9000.0}
    assert told(loaded("fixed", 30.0)) == {("fixed", "requests"): 30.0}
    assert told(loaded("", None)) == {}


def test_a_running_router_tells_kind_and_numbers() -> None:
    """What `router policy status` shows of a deployment."""
    house = House(deployments=(deployment("only", limit=LimitTerms(LimitKind.GRADIENT, 20, 9000)),))
    limits = house.controller.fleet.limits()
    assert limits[DeploymentName("only")] == ("gradient", 20.0, 9000, 0)
    page: dict[str, Any] = {"in_force": "p", "written": "p", "rollouts": [], "budgets": {}, "limits": limits}
    page["status"] = {"state": "in_force", "rollouts": []}
    screen = Console(record=True, file=StringIO(), width=100)
    screen.print(_view(page))
    assert screen.export_text().splitlines()[-1].split() == ["only", "gradient", "20", "9000", "0"]
