"""The rule for servers that are asked for their own load."""

from __future__ import annotations

from typing import Final

from router.policy.rules.burn import TICKET
from router.policy.rules.rule import Alert, Group

SERVERS: Final = "router-servers"
SERVERS_TROUBLE: Final = {'router_server_up{deployment="s"}': 0}
"""Series that the alert fires on, for the proof of the rules."""
SERVERS_DUE: Final = (("RouterServerSilent", {"severity": TICKET, "deployment": "s"}),)


def servers_group() -> Group:
    """Alerts for telemetry of servers."""
    return Group(SERVERS, (_silent(),))


def _silent() -> Alert:
    return Alert(
        "RouterServerSilent",
        "max by (deployment) (router_server_up) == 0",
        TICKET,
        summary="The server of {{ $labels.deployment }} has not told its load for ten minutes",
        description="Requests go on by what the router sent there itself; what others send to the server is not seen.",
        runbook="The log line `server_heard` of the router has the reason; `telemetry` of the deployment says whom it"
        " asks.",
        pending_s=600.0,
    )
