"""Who is let into the queue, who gives way, and what is told to those who are not served."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from router.core.queueing.drain import Drain
from router.core.queueing.tenants import Shares
from router.domain.errors import Rejected
from router.domain.events import PriceUpdate, QueueObserved, RequestRejected
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.policy.compile import compile_policy
from router.policy.diff import difference
from router.policy.meaning.compare import changes
from router.policy.parse import PolicyErrors
from router.policy.policy import Bounds, Policy
from router.telemetry.metrics import Metrics
from tests.regressions.house import House, cancel, code_of, deployment, never, speaking, virtually

PROMISE = Objectives(ttft=Objective(Indicator.TTFT, 1.0))
ONE = (deployment("only", max_in_flight=1),)
FLEET = (
    "deployments: [{name: a, model: m, tier: small, backend: simulated, price_usd_per_mtok: {input: 1, output: 1}}]\n"
)


def test_who_would_come_too_late_is_refused_at_once_with_a_real_prediction() -> None:
    """Once it is known how fast the line moves: behind more than a second of others, at once, told after how long."""

    async def scene() -> None:
        house = House(
            RequestClass("all", objectives=PROMISE, sheddable=True), RequestClass("firm", priority=1), deployments=ONE
        )
        house.backend.scripts = {"only": speaking("x", first_s=0.01, tokens=4, gap_s=0.03)}
        firm = [house.going(f"f{i}", request_class="firm") for i in range(40)]
        await house.beat(2.0)
        with pytest.raises(Rejected) as refused:
            await house.ask("spare")
        assert refused.value.code == "slo_unreachable"
        left = sum(code_of(task) == "waiting" for task in firm)
        assert refused.value.retry_after_s == pytest.approx(left * 0.1 - 1.0, rel=0.3)
        rejected = house.only(RequestRejected)
        assert (rejected.code, rejected.now) == ("slo_unreachable", rejected.request.arrived)
        await house.beat(refused.value.retry_after_s or 0.0)
        later = house.going("later")
        await house.beat(2.0)
        assert code_of(later) == "ok"
        await cancel(*firm)

    virtually(scene)


def test_who_may_not_be_shed_is_never_refused_for_its_objective() -> None:
    """However long the line."""

    async def scene() -> None:
        house = House(RequestClass("all", objectives=PROMISE), deployments=ONE)
        house.backend.scripts = {"only": speaking("x", first_s=0.01, tokens=4, gap_s=0.03)}
        tasks = [house.going(f"r{i}") for i in range(60)]
        await house.beat(10.0)
        assert {code_of(task) for task in tasks} == {"ok"}

    virtually(scene)


def test_what_is_past_use_when_its_turn_comes_is_told_so() -> None:
    """Without a heartbeat in between: its turn comes after its objective, and it is not sent."""

    async def scene() -> None:
        spare = RequestClass("spare", objectives=PROMISE, sheddable=True)
        house = House(spare, RequestClass("firm"), deployments=ONE)
        house.backend.scripts = {"only": speaking("x", first_s=2.0)}
        firm = house.going("firm", request_class="firm")
        await asyncio.sleep(0.0)
        late = house.going("spare", request_class="spare")
        await asyncio.wait([firm, late])
        assert (code_of(firm), code_of(late)) == ("ok", "slo_unreachable")
        assert len(house.backend.calls) == 1

    virtually(scene)


def test_a_tenant_has_no_more_places_than_the_policy_gives_it() -> None:
    """Half of four: the third of one tenant is refused, another tenant is not."""

    async def scene() -> None:
        house = House(deployments=ONE, bounds=Bounds(queue_requests=4, tenant_queue_ratio=0.5))
        house.backend.scripts = {"only": never}
        tasks = [house.going(f"a{i}", tenant="a") for i in range(4)] + [house.going("b", tenant="b")]
        await house.beat(0.2)
        assert [code_of(task) for task in tasks] == ["waiting"] * 3 + ["tenant_queue_full", "waiting"]
        await cancel(*tasks)

    virtually(scene)


def test_one_tenant_alone_may_fill_the_queue_and_gives_way_when_another_comes() -> None:
    """Of what may not be shed too: the last of the crowd is pushed out for one of a tenant that has nothing there, and
    that tenant gets its half and no more."""

    async def scene() -> None:
        house = House(deployments=ONE, bounds=Bounds(queue_requests=4))
        house.backend.scripts = {"only": never}
        crowd = [house.going(f"a{i}", tenant="a") for i in range(5)]
        await asyncio.sleep(0.0)
        others = [house.going(f"b{i}", tenant="b") for i in range(3)]
        await house.beat(0.2)
        assert [code_of(task) for task in crowd] == ["waiting"] * 3 + ["evicted"] * 2
        assert [code_of(task) for task in others] == ["waiting", "waiting", "queue_full"]
        await cancel(*crowd, *others)

    virtually(scene)


CLASSES = (
    RequestClass("firm"),
    RequestClass("spare", sheddable=True, objectives=PROMISE),
    RequestClass("urgent", sheddable=True, priority=5),
)


@settings(max_examples=25, deadline=None)
@given(
    asked=st.lists(
        st.tuples(st.sampled_from([c.name for c in CLASSES]), st.sampled_from("abc"), st.floats(0.0, 0.3)), max_size=25
    ),
    places=st.integers(1, 5),
    share=st.sampled_from([0.3, 1.0]),
)
def test_everybody_is_answered_once_and_the_bounds_hold(
    asked: list[tuple[str, str, float]], places: int, share: float
) -> None:
    """Whoever comes whenever: no more wait than there are places, no tenant has more than its own, and each request is
    answered or told why not, once."""

    async def scene() -> None:
        bounds = Bounds(queue_requests=places, tenant_queue_ratio=share, queue_wait_s=3.0)
        house = House(*CLASSES, deployments=ONE, bounds=bounds)
        tasks = []
        for i, (name, tenant, pause_s) in enumerate(asked):
            tasks.append(house.going(str(i), request_class=name, tenant=tenant))
            await asyncio.sleep(pause_s)
            seen = house.dispatcher.queue.observed()
            assert house.dispatcher.queue.waiting == seen.waiting <= places
            assert sum(n for _, n, _ in seen.tenants) == sum(n for _, n, _ in seen.classes) == seen.waiting
            assert all(n <= bounds.tenant_queue_requests for _, n, _ in seen.tenants)
            house.dispatcher.tick()
        await house.beat(8.0)
        codes = {"ok", "evicted", "queue_full", "tenant_queue_full", "queue_timeout", "slo_unreachable", "overloaded"}
        assert {code_of(task) for task in tasks} <= codes
        assert (len(house.dispatcher.queue), house.in_flight()) == (0, 0)
        assert all(
            code_of(t) != "slo_unreachable" for t, (name, _, _) in zip(tasks, asked, strict=True) if name == "firm"
        )

    virtually(scene)


def test_tenants_take_turns_at_one_deployment() -> None:
    """Ten of one came first: the first of another goes second, not eleventh."""

    async def scene() -> None:
        house, order = House(deployments=ONE), []

        async def ask(name: str, tenant: str) -> None:
            await house.ask(name, tenant=tenant)
            order.append(tenant)

        tasks = [asyncio.ensure_future(ask(f"a{i}", "a")) for i in range(10)]
        await asyncio.sleep(0.0)
        tasks.append(asyncio.ensure_future(ask("b", "b")))
        await asyncio.wait(tasks)
        assert order.index("b") <= 2

    virtually(scene)


def test_the_queue_is_told_by_class_and_by_tenant() -> None:
    """Tenants that nobody named are others together, so that no sender makes a series."""
    policy = Policy("p", (RequestClass("chat"), RequestClass("code")), ONE, tenants={"gold": 2.0})
    registry = CollectorRegistry()
    metrics = Metrics(policy, registry)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    def tell(event: QueueObserved) -> None:
        for subscriber in metrics.subscribers:
            if handler := subscriber.handlers().get(QueueObserved):
                handler(event)
            subscriber.flush()

    assert value("router_queue_tenant_requests", tenant="gold") == 0
    tenants = (("gold", 3, 1.0), ("x", 2, 4.0), ("y", 1, 2.0))
    tell(QueueObserved(8, 4.0, (("chat", 8, 4.0),), tenants))
    assert value("router_queue_class_requests", request_class="chat") == 8
    assert value("router_queue_class_oldest_seconds", request_class="chat") == 4.0
    assert value("router_queue_tenant_requests", tenant="gold") == 3
    assert value("router_queue_tenant_requests", tenant="other") == 5
    assert value("router_queue_tenant_oldest_seconds", tenant="other") == 4.0
    tell(QueueObserved(0, 0.0))
    assert value("router_queue_class_requests", request_class="chat") == 0
    assert value("router_queue_tenant_oldest_seconds", tenant="other") == 0


def test_weights_and_the_bound_of_a_tenant_come_from_the_policy() -> None:
    """And an edit of them says what it changes."""
    old = compile_policy([("p.yaml", FLEET)])
    new = compile_policy([("p.yaml", FLEET + "tenants: {gold: 2, trial: 0.5}\nbounds: {tenant_queue: 25%}\n")])
    assert new.tenants == {"gold": 2.0, "trial": 0.5}
    assert new.bounds.tenant_queue_requests == 2500
    assert old.digest != new.digest
    assert "tenant gold: weight 1 -> 2" in difference(old, new)
    assert {(c.subject, c.move.old, c.move.new) for c in changes(old, new)} >= {("tenant trial", "1", "0.5")}


@pytest.mark.parametrize(
    ("text", "says"),
    [("tenants: {gold: 0}", "greater than 0"), ("tenants: {gold: much}", "number"), ("bounds: {tenant_queue: 0}", "0")],
)
def test_a_wrong_weight_is_refused_where_it_stands(text: str, says: str) -> None:
    """With its place."""
    with pytest.raises(PolicyErrors) as refused:
        compile_policy([("p.yaml", FLEET + text + "\n")])
    assert refused.value.problems[0].line == 2
    assert says in str(refused.value)


def test_a_tenant_is_weighed_in_one_file_only() -> None:
    """Two would contradict each other."""
    with pytest.raises(PolicyErrors, match="already in another file"):
        compile_policy([("a.yaml", FLEET + "tenants: {gold: 2}\n"), ("b.yaml", "tenants: {gold: 3}\n")])


def test_nobody_is_judged_by_a_line_of_which_little_is_known() -> None:
    """Until eight were granted, whatever is ahead may still move; then ten a second reach about ten in a second."""
    drain = Drain(0.0)
    for i in range(7):
        drain.on_granted(i / 10)
    assert drain.reaches(1e6, 1.0, 0.7)
    for i in range(7, 100):
        drain.on_granted(i / 10)
    assert drain.rate(9.9) == pytest.approx(10.0, rel=0.05)
    assert drain.reaches(10, 1.0, 9.9)
    assert not drain.reaches(14, 1.0, 9.9)
    assert drain.retry_after_s(50, 1.0, 9.9) == pytest.approx(4.0, rel=0.1)


def ask_for_a_while(shares: Shares, rates: dict[str, float], *, refused: dict[str, float]) -> list[PriceUpdate]:
    told = []
    for beat in range(300):
        for tenant, rate in rates.items():
            shares.on_asked(tenant, rate * 0.1 * (1.0 - refused.get(tenant, 0.0)), refused=False)
            shares.on_asked(tenant, rate * 0.1 * refused.get(tenant, 0.0), refused=True)
        told += [event for event in shares.tick(now=beat * 0.1) if isinstance(event, PriceUpdate)]
    return told


def test_who_is_within_its_share_is_relieved_while_others_are_refused() -> None:
    """Five to one, a third refused: the one pays nothing for capacity, the five find less room; that is told once."""
    shares = Shares()
    told = ask_for_a_while(shares, {"flood": 5.0, "quiet": 1.0}, refused={"flood": 0.4})
    assert shares.terms("quiet") == (0.0, 1.0)
    assert shares.terms("flood") == (1.0, 0.9)
    assert shares.terms("never seen") == (1.0, 1.0)
    assert shares.caution > 1.0
    assert [(event.kind, event.subject) for event in told] == [("tenant", "flood")]


@pytest.mark.parametrize(
    ("rates", "refused"),
    [
        ({"flood": 5.0, "quiet": 1.0}, {}),
        ({"alone": 5.0}, {"alone": 0.5}),
        ({"a": 3.0, "b": 3.0}, {"a": 0.3, "b": 0.3}),
    ],
    ids=["nothing is refused", "one tenant", "both ask for too much"],
)
def test_there_is_no_relief_without_need(rates: dict[str, float], refused: dict[str, float]) -> None:
    """Everybody pays the same, as if there were no tenants."""
    shares = Shares()
    ask_for_a_while(shares, rates, refused=refused)
    assert {shares.terms(tenant) for tenant in rates} == {(1.0, 1.0)}
    assert shares.caution == 1.0


def test_a_share_is_by_weight() -> None:
    """Who weighs ten is within its share at as much as another floods with."""
    shares = Shares()
    shares.weights = {"gold": 10.0}
    ask_for_a_while(shares, {"gold": 2.0, "plain": 5.0}, refused={"plain": 0.4})
    assert shares.terms("gold")[0] < 0.2
    assert shares.terms("plain")[0] == 1.0
