"""The control plane of AWS through the real SDK against the double: what is bought, how it stands, what is counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from bench.ports import free_port
from bench.traffic import deployment
from router.backends.aws.control.clients import ControlClients
from router.backends.aws.control.counts import OwnCounts
from router.backends.aws.control.provisioned import (
    Commitment,
    Order,
    create,
    delete,
    describe,
    list_provisioned,
    until_in_service,
)
from router.backends.aws.control.watch import ProvisionedWatch
from router.control.circuit import Circuit
from router.domain.control.provisioned import ControlPlaneHeard, ProvisionedChanged, ProvisionedObserved, Reconciled
from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Lane
from router.domain.errors import RouterError
from router.domain.events import AttemptEnded, Event
from router.domain.outcome import Attempt, AttemptId, Ending, Outcome
from router.domain.request import Prompt, Request, RequestId
from router.domain.view import Health
from router.doubles.aws.server import AwsDouble, aws_double
from router.doubles.aws.world import World

REGION = "us-east-1"
ARN = f"arn:aws:bedrock:{REGION}:123456789012:provisioned-model"
MODEL = "anthropic.claude-3-haiku-20240307-v1:0"


class Time:
    """A wall clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = 1_790_000_040.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "double")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "double")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def double(time: Time) -> AsyncIterator[AwsDouble]:
    async with aws_double(World(at=time, provisioning_s=300.0, optimizing_s=600.0)) as running:
        yield running
        assert running.world.drift == []


@pytest.fixture
async def clients(double: AwsDouble) -> AsyncIterator[ControlClients]:
    made = ControlClients(endpoint_url=double.url)
    yield made
    await made.close()


@pytest.fixture
async def bedrock(clients: ControlClients) -> Any:
    return await clients.client("bedrock", Address(backend="bedrock", target="", region=REGION))


async def test_units_are_bought_once_and_serve_when_their_time_has_come(bedrock: Any, time: Time) -> None:
    """The same token buys nothing more; Creating becomes InService, the commitment's end is told."""
    order = Order("floor", MODEL, 2, "token-1", Commitment.ONE_MONTH)
    arn = await create(bedrock, order)
    assert await create(bedrock, order) == arn
    (found,) = await list_provisioned(bedrock)
    assert (found.arn, found.status, found.units, found.model) == (arn, "Creating", 2, MODEL)
    assert found.ends_at == time.at + 30 * 86_400
    statuses = []

    def seen(one: Any) -> None:
        statuses.append(one.status)
        time.at += 200.0

    assert (await until_in_service(bedrock, arn, poll_s=0.0, seen=seen)).status == "InService"
    assert statuses == ["Creating", "Creating", "InService"]


async def test_a_commitment_is_kept_and_what_has_none_is_given_back(bedrock: Any, time: Time) -> None:
    """Deleting before the term is over is refused by AWS; without a term it is gone, and deleting again is no error."""
    kept = await create(bedrock, Order("kept", MODEL, 1, "a", Commitment.SIX_MONTHS))
    loose = await create(bedrock, Order("loose", MODEL, 1, "b"))
    time.at += 400.0
    await delete(bedrock, loose)
    await delete(bedrock, loose)
    assert await describe(bedrock, loose) is None
    with pytest.raises(bedrock.exceptions.ConflictException):
        await delete(bedrock, kept)


async def test_what_fails_says_why(bedrock: Any, double: AwsDouble) -> None:
    """A purchase that ends Failed, or is gone, is an error and no endless wait."""
    arn = await create(bedrock, Order("gone", MODEL, 1, "c"))
    double.world.provisioned[arn].status = "Failed"
    with pytest.raises(RouterError, match="does not say why"):
        await until_in_service(bedrock, arn, poll_s=0.0, seen=lambda _: None)


async def test_lists_of_many_pages_are_read_to_the_end(bedrock: Any) -> None:
    """A hundred fit one page."""
    for n in range(101):
        await create(bedrock, Order(f"p{n}", MODEL, 1, f"t{n}"))
    assert len(await list_provisioned(bedrock)) == 101


class Member:
    """What the watch needs of a deployment in force."""

    def __init__(self, of: Deployment) -> None:
        self.deployment, self.circuit = of, Circuit()


def reserved(target: str, name: str = "floor") -> Deployment:
    """Provisioned throughput of the policy."""
    return replace(
        deployment(0),
        name=DeploymentName(name),
        kind=Kind.PROVISIONED,
        lane=Lane.PROVISIONED,
        address=Address(backend="bedrock", target=target, region=REGION),
    )


class Watching:
    """A watch with its members and what it told."""

    def __init__(self, clients: ControlClients, time: Time, *deployments: Deployment) -> None:
        self.members = [Member(one) for one in deployments]
        self.told: list[Event] = []
        self.counts = OwnCounts(time)
        self.watch = ProvisionedWatch(
            clients, lambda: self.members, self.counts, self.told.append, now=lambda: 0.0, at=time
        )

    async def look(self) -> list[Event]:
        """Once; what was told by it."""
        self.told.clear()
        await self.watch.look()
        return list(self.told)


async def test_what_does_not_serve_is_out_of_routing_until_it_does(
    bedrock: Any, clients: ControlClients, time: Time
) -> None:
    """While Creating no call may go there, with the status as the reason; in service it is let in by a probe."""
    arn = await create(bedrock, Order("floor", MODEL, 1, "d"))
    watching = Watching(clients, time, reserved(arn))
    circuit = watching.members[0].circuit
    told = await watching.look()
    assert ProvisionedObserved("floor", "Creating", 1, 1) in told
    assert ProvisionedChanged("floor", "", "Creating", "out of routing until it serves") in told
    assert circuit.blocked(now=1e9) == "its provisioned throughput is Creating"
    circuit.on_alive("a call still in flight")
    assert circuit.blocked(now=1e9) is not None
    time.at += 300.0
    told = await watching.look()
    assert ProvisionedChanged("floor", "Creating", "InService", "takes calls") in told
    assert circuit.blocked(now=0.0) is None
    assert circuit.health is Health.PROBING
    assert [event for event in await watching.look() if isinstance(event, ProvisionedChanged)] == []


async def test_what_is_not_there_is_out_of_routing(clients: ControlClients, time: Time) -> None:
    """An ARN that AWS does not know is missing, and says so."""
    watching = Watching(
        clients, time, reserved(f"arn:aws:bedrock:{REGION}:123456789012:provisioned-model/aaaaaaaaaaaa")
    )
    assert ProvisionedObserved("floor", "missing", 0, 0) in await watching.look()
    assert watching.members[0].circuit.blocked(now=0.0) == "its provisioned throughput is missing"


async def test_being_updated_it_goes_on_serving(
    bedrock: Any, clients: ControlClients, time: Time, double: AwsDouble
) -> None:
    """As AWS documents it."""
    arn = await create(bedrock, Order("floor", MODEL, 1, "e"))
    double.world.provisioned[arn].status = "Updating"
    watching = Watching(clients, time, reserved(arn))
    await watching.look()
    assert watching.members[0].circuit.health is Health.OK


async def test_silence_of_the_control_plane_changes_nothing_and_is_told_once(time: Time) -> None:
    """An endpoint that is not there: one event, no exception, and the deployment goes on taking calls."""
    clients = ControlClients(endpoint_url=f"http://127.0.0.1:{free_port()}")
    watching = Watching(clients, time, reserved("arn"))
    told = await watching.look()
    assert [(e.service, e.answers) for e in told if isinstance(e, ControlPlaneHeard)] == [("bedrock", False)]
    assert await watching.look() == []
    assert watching.members[0].circuit.blocked(now=0.0) is None
    await clients.close()


async def test_without_reserved_capacity_nothing_is_asked(
    time: Time, double: AwsDouble, clients: ControlClients
) -> None:
    """On demand alone the control plane is left in peace."""
    on_demand = replace(reserved(MODEL), kind=Kind.CONTINUOUS, lane=Lane.DEFAULT)
    assert await Watching(clients, time, on_demand).look() == []
    assert not double.world.calls


def ended(of: Deployment, *, tokens: int, code: str | None = None) -> AttemptEnded:
    """A call of two seconds, its first token after half of one."""
    request = Request(RequestId("r"), 0.0, 0.0, Prompt(""), 100)
    attempt = Attempt(AttemptId("a"), DecisionId("d"), request, of, 0, 10.0, None, stream=True)
    ending = Ending.COMPLETED if code is None else Ending.FAILED
    outcome = Outcome(attempt, ending, 12.0, 10.5, 100, tokens, 0.0, error_code=code)
    return AttemptEnded(outcome, "c", None, 0.5, 1.5)


async def test_counts_of_cloudwatch_are_held_against_our_own(time: Time) -> None:
    """Minutes that are settled, both sides, by ModelId and service tier; a call of somebody else shows as a gap."""
    floor = reserved(f"{ARN}/bbbbbbbbbbbb")
    urgent = replace(reserved(MODEL, "urgent"), kind=Kind.CONTINUOUS, lane=Lane.PRIORITY)
    async with aws_double(World(at=time), stores=True) as double:
        clients = ControlClients(endpoint_url=double.url)
        watching = Watching(clients, time, floor, urgent)
        await watching.look()
        time.at += 60.0
        for _ in range(3):
            watching.counts.handlers()[AttemptEnded](ended(floor, tokens=40))
        watching.counts.handlers()[AttemptEnded](ended(floor, tokens=0, code="throttled"))
        watching.counts.handlers()[AttemptEnded](ended(urgent, tokens=7))
        cloudwatch = await clients.client("cloudwatch", floor.address)
        figures = {
            "Invocations": 4.0,
            "InvocationThrottles": 1.0,
            "InputTokenCount": 400.0,
            "OutputTokenCount": 160.0,
            "InvocationLatency": 1900.0,
            "TimeToFirstToken": 450.0,
            "EstimatedTPMQuotaUsage": 5000.0,
        }
        await put(cloudwatch, floor.address.target, time.at, figures)
        await put(cloudwatch, f"{MODEL}+priority", time.at, {"Invocations": 1.0, "OutputTokenCount": 7.0})
        time.at += 240.0
        reconciled = {e.deployments: e for e in await watching.look() if isinstance(e, Reconciled)}
        await clients.close()
    gap = reconciled["floor",]
    assert (gap.theirs.calls, gap.ours.calls, gap.theirs.throttles, gap.ours.throttles) == (4.0, 3.0, 1.0, 1.0)
    assert (gap.theirs.output_tokens, gap.ours.output_tokens) == (160.0, 120.0)
    assert (gap.theirs.latency_s, gap.ours.latency_s, gap.theirs.ttft_s, gap.ours.ttft_s) == (1.9, 2.0, 0.45, 0.5)
    assert gap.gap_ratio == pytest.approx(0.25)
    assert gap.quota_tokens_per_min == 5000.0
    lane = reconciled["urgent",]
    assert lane.model_id == f"{MODEL}+priority"
    assert (lane.theirs.calls, lane.ours.calls, lane.gap_ratio) == (1.0, 1.0, 0.0)


async def put(cloudwatch: Any, model: str, at: float, figures: dict[str, float]) -> None:
    """As Bedrock would put them."""
    data = [
        {
            "MetricName": name,
            "Dimensions": [{"Name": "ModelId", "Value": model}],
            "Timestamp": datetime.fromtimestamp(at, UTC),
            "Value": value,
        }
        for name, value in figures.items()
    ]
    await cloudwatch.put_metric_data(Namespace="AWS/Bedrock", MetricData=data)
