"""Each minute, where the policy has provisioned throughput: how does it stand, and does AWS count what we count?

A deployment whose throughput does not serve is taken out of routing, and is let in again by a probe once it does. While
it is being updated it goes on serving (Amazon Bedrock user guide, "Modify a Provisioned Throughput"). What AWS does not
answer changes nothing: the last status holds, and that it is silent is told once.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from router.backends.aws.control.cloudwatch import PERIOD_S, Counted, model_id, read_counts
from router.backends.aws.control.counts import OwnCounts
from router.backends.aws.control.provisioned import MISSING, SERVING, Provisioned, describe
from router.control.circuit import Circuit
from router.domain.control.provisioned import ControlPlaneHeard, ProvisionedChanged, ProvisionedObserved, Reconciled
from router.domain.deployment import Address, Deployment, Kind
from router.domain.events import Event

EVERY_S = 60.0
WINDOW_S = 600.0
SETTLE_S = 120.0
"""Figures of CloudWatch younger than this may still change."""
_PATIENCE_S = 20.0
_TOLD_MAX = 200

Answer = TypeVar("Answer")


class Clients(Protocol):
    """Where clients of the SDK come from."""

    async def client(self, service: str, address: Address) -> Any:
        """The one client for a service of AWS and the region, role and endpoint of an address."""
        ...


class Watched(Protocol):
    """What is known of a deployment."""

    @property
    def deployment(self) -> Deployment:
        """As the policy in force has it."""
        ...

    @property
    def circuit(self) -> Circuit:
        """Whether it may be called."""
        ...


class ProvisionedWatch:
    """`members` are the deployments in force, `now` and `at` monotonic and wall time; `emit` is told what was seen."""

    def __init__(
        self,
        clients: Clients,
        members: Callable[[], Iterable[Watched]],
        counts: OwnCounts,
        emit: Callable[[Event], None],
        *,
        now: Callable[[], float],
        at: Callable[[], float],
    ) -> None:
        self._clients, self._members, self._counts, self._emit = clients, members, counts, emit
        self._now, self._at = now, at
        self._status: dict[tuple[str, str], str] = {}
        self._answers: dict[tuple[str, str, str | None], bool] = {}
        self._begun_at: float | None = None

    async def look(self) -> None:
        """Describe and reconcile; nothing is asked of AWS where nothing is provisioned."""
        ours = [member for member in self._members() if member.deployment.address.backend == "bedrock"]
        reserved = [member for member in ours if member.deployment.kind is Kind.PROVISIONED]
        if not reserved:
            self._begun_at = None
            return
        if self._begun_at is None:
            self._begun_at = self._at()
        for member in reserved:
            await self._describe(member)
        await self._reconcile([member.deployment for member in ours])

    async def _describe(self, member: Watched) -> None:
        address = member.deployment.address

        async def ask(client: Any) -> tuple[Provisioned | None]:
            return (await describe(client, address.target),)

        answer = await self._asked("bedrock", address, ask)
        if answer is not None:
            self._seen(member, answer[0])

    def _seen(self, member: Watched, found: Provisioned | None) -> None:
        deployment = member.deployment
        name, key = deployment.name, (deployment.name, deployment.address.target)
        if found is None:
            self._emit(ProvisionedObserved(name, MISSING, 0, 0))
        else:
            self._emit(ProvisionedObserved(name, found.status, found.units, found.desired_units, found.ends_at))
        status = MISSING if found is None else found.status
        old = self._status.get(key, "")
        self._status[key] = status
        serves = status in SERVING
        if serves:
            member.circuit.release(f"its provisioned throughput is {status}", now=self._now())
        else:
            member.circuit.withhold(f"its provisioned throughput is {status}")
        if status != old and (old or not serves):
            routed = "takes calls" if serves else "out of routing until it serves"
            why = "" if found is None or found.failure is None else f": {found.failure[:_TOLD_MAX]}"
            self._emit(ProvisionedChanged(name, old, status, f"{routed}{why}"))

    async def _reconcile(self, deployments: Sequence[Deployment]) -> None:
        """Over whole minutes that are settled and that we have seen all of; deployments that AWS cannot tell apart are
        counted together."""
        assert self._begun_at is not None
        end = (self._at() - SETTLE_S) // PERIOD_S * PERIOD_S
        begin = max(end - WINDOW_S, -(-self._begun_at // PERIOD_S) * PERIOD_S)
        if begin >= end:
            return
        for address, ids in _by_place(deployments).items():

            async def ask(client: Any, of: Mapping[str, list[str]] = ids) -> dict[str, Counted]:
                return await read_counts(client, tuple(of), begin=begin, end=end)

            counted = await self._asked("cloudwatch", address, ask) or {}
            for one, found in counted.items():
                names, ours = tuple(ids[one]), self._counts.over(ids[one], begin=begin, end=end)
                self._emit(Reconciled(names, one, end - begin, end, found.tally, ours, found.quota_tokens_per_min))

    async def _asked(self, service: str, address: Address, ask: Callable[[Any], Awaitable[Answer]]) -> Answer | None:
        """What AWS answers; `None` where it does not. That it stopped or began to answer is told once."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                answer = await ask(await self._clients.client(service, address))
        except Exception as error:
            self._heard(service, address, f"{type(error).__name__}: {error}"[:_TOLD_MAX], answers=False)
            return None
        self._heard(service, address, "it answers again", answers=True)
        return answer

    def _heard(self, service: str, address: Address, reason: str, *, answers: bool) -> None:
        role = None if address.aws is None else address.aws.role_arn
        key = (service, address.region or "", role)
        if self._answers.get(key, True) is not answers:
            self._emit(ControlPlaneHeard(service, address.region or "", answers, reason))
        self._answers[key] = answers


def _by_place(deployments: Iterable[Deployment]) -> dict[Address, dict[str, list[str]]]:
    """Names of deployments by ModelId, by where they are asked for: one address stands for its region, role and
    endpoint."""
    places: dict[tuple[object, ...], Address] = {}
    found: defaultdict[Address, dict[str, list[str]]] = defaultdict(dict)
    for deployment in deployments:
        address = deployment.address
        role = None if address.aws is None else address.aws.role_arn
        place = places.setdefault((address.region, role, address.url), address)
        found[place].setdefault(model_id(deployment), []).append(deployment.name)
    return found
