"""The wanted number of replicas: prompt upwards, patient downwards, deaf to noise."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from router.control.profiles import profile_for
from router.control.replicas import Offered, Replicas
from router.core.capacity.promised import Promised
from router.core.capacity.scaling import Scaling
from router.core.fleet import Fleet
from router.domain.control.capacity import GroupObserved, WantedReplicas
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier, TokenQuota
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.domain.view import DeploymentView, Load
from router.policy.policy import Bounds

PROMISED = Promised([RequestClass("all", objectives=Objectives(tpot=Objective(Indicator.TPOT, 0.05)))])


def member(name: str, group: str, **fields: object) -> Deployment:
    kind = fields.pop("kind", Kind.CONTINUOUS)
    return Deployment(
        DeploymentName(name), group, "m", Tier.LARGE, kind, Address("simulated", "m"), Price(1.0, 1.0), **fields
    )  # type: ignore[arg-type, misc]


def view(deployment: Deployment, work_s: float, tokens: float) -> DeploymentView:
    load = Load(0, 0, 0, 0.0)
    return DeploymentView(
        deployment, "", load, None, 1.0, 1.0, tokens, 0.1, 0.02, 1.0, 1.0, 0.0, work_s, 0.0, 0.0, True, True
    )


def played(rate: list[tuple[float, float]], seed: int, *, start: int = 1) -> list[tuple[float, int]]:
    """The changes, where work of exponential size (mean .1) arrives at these rates (until, a second)."""
    rng, offered, replicas = Random(seed), Offered(), Replicas(start)
    now, looked, changes = 0.0, 0.0, [(0.0, start)]
    for until, per_s in rate:
        while now < until:
            now += rng.expovariate(per_s)
            offered.add(rng.expovariate(10.0), now=now)
            while looked < now:
                looked += 1.0
                load = offered.at(looked)
                if load is not None and replicas.update(load, now=looked) != changes[-1][1]:
                    changes.append((looked, replicas.value))
    return changes


@pytest.mark.parametrize("seed", range(5))
def test_a_step_of_three_up_and_down_settles_without_a_flip(seed: int) -> None:
    """Load of 2.5 replicas, 7.5 and 2.5 again: up within two minutes, down within nine, and no way back between."""
    changes = played([(400.0, 25.0), (900.0, 75.0), (1800.0, 25.0)], seed)
    up = [(at, n) for at, n in changes if 400.0 <= at < 900.0]
    down = [(at, n) for at, n in changes if at >= 900.0]
    assert [n for _, n in up] == sorted(n for _, n in up)
    assert [n for _, n in down] == sorted((n for _, n in down), reverse=True)
    assert next(at for at, n in changes if n >= 7) < 400.0 + 120.0
    assert changes[-1][1] in (3, 4)
    assert changes[-1][0] < 900.0 + 540.0


@pytest.mark.parametrize("seed", range(5))
def test_steady_load_moves_at_most_once_in_five_minutes(seed: int) -> None:
    """An hour of steady load right at the edge of two numbers: the raises and falls are minutes apart."""
    changes = played([(3600.0, 30.0)], seed)
    later = [at for at, _ in changes if at > 400.0]
    assert len(later) <= 8
    falls = [b for (_, a), (b, n) in pairwise(changes) if n < a]
    raises = [at for (_, a), (at, n) in pairwise(changes) if n > a]
    assert all(fall - at >= 300.0 - 1.0 for at in raises for fall in falls if fall > at)


def test_never_less_than_one() -> None:
    """An idle group keeps its last replica."""
    replicas = Replicas(3)
    for second in range(1000):
        replicas.update(0.0, now=float(second))
    assert replicas.value == 1


def test_replicas_are_offered_work_over_what_one_can_do() -> None:
    """W server seconds a second over (1 - k a / .9 tau) and a target of .8, here within a tenth; the operator's bound
    on calls at once asks for more where it binds first."""
    profile = profile_for("llama-3.1-70b", Tier.LARGE)
    for bound, least in ((None, 0.0), (20, 150.0 * 10.0 * 0.045 / 20 / 0.8)):
        deployments = tuple(member(f"l-{i}", "l", step=profile, max_in_flight=bound) for i in range(2))
        fleet, scaling = Fleet(deployments, Bounds()), Scaling()
        scaling.tick(fleet.members.values(), PROMISED, now=0.0)
        for i in range(6000):
            scaling.offer(view(deployments[0], 0.2, 150.0), now=i * 0.1)
        events = scaling.tick(fleet.members.values(), PROMISED, now=600.0)
        observed = next(e for e in events if isinstance(e, GroupObserved))
        wanted = 10.0 * 0.2 / (1.0 - profile.base_s / 0.045) / 0.8
        assert observed.offered == pytest.approx(max(wanted, least), rel=0.1)
        change = next(e for e in events if isinstance(e, WantedReplicas))
        assert (change.old, change.new) == (2, observed.wanted)
        assert change.reason


def test_reserved_capacity_is_bought_not_scaled() -> None:
    """No number of replicas is told of it, and what is best served there is offered to nobody else."""
    reserved, paid = member("r", "r", kind=Kind.PROVISIONED, quota=TokenQuota(1.0, 1.0)), member("o", "o")
    fleet, scaling = Fleet((reserved, paid), Bounds()), Scaling()
    scaling.tick(fleet.members.values(), PROMISED, now=0.0)
    scaling.offer(view(reserved, 0.2, 150.0), now=1.0)
    events = scaling.tick(fleet.members.values(), PROMISED, now=60.0)
    assert [e.group for e in events if isinstance(e, GroupObserved)] == ["o"]
    assert [e.offered for e in events if isinstance(e, GroupObserved)] == [0.0]


def test_what_stays_scarce_though_it_should_fit_asks_for_one_more() -> None:
    """The model of a replica may be wrong: capacity that is dear for half a minute says so."""
    deployments = (member("l-0", "l"), member("l-1", "l"))
    fleet, scaling = Fleet(deployments, Bounds()), Scaling()
    scaling.tick(fleet.members.values(), PROMISED, now=0.0)
    for m in fleet.members.values():
        m.price.integral = 1.0
    told = []
    for second in range(1, 90):
        scaling.offer(view(deployments[0], 0.01, 10.0), now=float(second))
        told += scaling.tick(fleet.members.values(), PROMISED, now=float(second))
    changes = [e for e in told if isinstance(e, WantedReplicas)]
    assert [(e.old, e.new) for e in changes] == [(2, 3)]
    assert "scarce" in changes[0].reason
