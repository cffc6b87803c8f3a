"""A request whose batch job is under way since an earlier life of the process goes back to it, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from router.core.controller import Controller
from router.core.ticket import Ticket
from router.domain.deployment import DeploymentName
from router.domain.errors import Returned, RouterError
from router.domain.request import Request


class HoldsRequests(Protocol):
    """A backend that has requests of an earlier life. Called from one task."""

    def home(self, request: Request) -> str | None:
        """The deployment whose job has this request, if one has."""
        ...

    async def start(self) -> None:
        """Take up what was left: of each deployment once, as soon as it is in force."""
        ...

    async def tick(self) -> None:
        """See to everything that is due."""
        ...

    def look_out(self) -> None:
        """Give back who must leave, while a tick takes its time."""
        ...


class Homes:
    """Sends requests home. `ask` is `None` where nobody holds any."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.ask: Callable[[Request], str | None] | None = None

    def enter(self, ticket: Ticket) -> None:
        """Hold the request to the deployment that has it already, whatever its slack is by now."""
        if self.ask is None:
            return
        name = self.ask(ticket.request)
        if name is not None and DeploymentName(name) in self._controller.fleet.members:
            ticket.home, ticket.forced = (name, ticket.forced), name

    @staticmethod
    def leave(ticket: Ticket, error: RouterError) -> None:
        """It was given back: any deployment may have it."""
        if ticket.home is not None and isinstance(error, Returned):
            ticket.forced, ticket.home = ticket.home[1], None
