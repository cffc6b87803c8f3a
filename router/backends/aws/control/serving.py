"""The control plane of AWS as the daemon has it: our own counts always, the rest once something is provisioned."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

from router.backends.aws.control.counts import OwnCounts
from router.backends.aws.control.watch import EVERY_S, ProvisionedWatch
from router.core.controller import Controller
from router.core.fleet import Member
from router.domain.deployment import Deployment, Kind
from router.domain.events import Event
from router.ports.clock import Clock


def is_reserved(deployment: Deployment) -> bool:
    """Whether it is provisioned throughput of Bedrock."""
    return deployment.kind is Kind.PROVISIONED and deployment.address.backend == "bedrock"


def _members(controller: Controller) -> Iterable[Member]:
    return controller.fleet.members.values()


class ControlPlane:
    """The SDK is loaded at the first look that finds a deployment to look at."""

    def __init__(self, clock: Clock) -> None:
        self.counts = OwnCounts(clock.at)
        self._clock = clock
        self._due = -math.inf
        self._watch: ProvisionedWatch | None = None

    async def beat(self, controller: Controller, emit: Callable[[Event], None]) -> None:
        """Look once a minute, however often this is called; the first time at once."""
        now = self._clock.now()
        if now >= self._due:
            self._due = now + EVERY_S
            await self.look(controller, emit)

    async def look(self, controller: Controller, emit: Callable[[Event], None]) -> None:
        """Ask AWS how what is provisioned stands, and what it counted."""
        if self._watch is None:
            if not any(is_reserved(deployment) for deployment in controller.policy.deployments):
                return
            from router.backends.aws.control.clients import ControlClients

            self._clients = ControlClients()
            self._watch = ProvisionedWatch(
                self._clients,
                partial(_members, controller),
                self.counts,
                emit,
                now=self._clock.now,
                at=self._clock.at,
            )
        await self._watch.look()

    async def close(self) -> None:
        """Free connections."""
        if self._watch is not None:
            await self._clients.close()
