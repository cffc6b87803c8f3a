"""Rules for capacity that is bought on AWS: it ends, it does not serve, or others use it."""

from __future__ import annotations

from typing import Final

from router.policy.rules.burn import PAGE, TICKET
from router.policy.rules.rule import Alert, Group

_SOON_S = 7 * 86_400
_GAP = 0.1
_FEW = 100
"""Calls under which a share says nothing."""
PROVISIONED: Final = "router-provisioned"
PROVISIONED_TROUBLE: Final = {
    'router_commitment_end_timestamp_seconds{deployment="p"}': 3600,
    'router_provisioned_status{deployment="p",status="Failed"}': 1,
    'router_reconciled_gap_ratio{deployment="p"}': 0.5,
    'router_reconciled_calls{deployment="p",by="aws"}': 1000,
    'router_aws_control_up{service="bedrock",region="r"}': 0,
}
"""Series that all of the alerts fire on, for the proof of the rules."""
PROVISIONED_DUE: Final = (
    ("RouterCommitmentEnds", {"severity": TICKET, "deployment": "p"}),
    ("RouterProvisionedOut", {"severity": PAGE, "deployment": "p"}),
    ("RouterCountsDiffer", {"severity": TICKET, "deployment": "p"}),
    ("RouterAwsControlSilent", {"severity": TICKET, "service": "bedrock", "region": "r"}),
)


def provisioned_group() -> Group:
    """Alerts for provisioned throughput."""
    return Group(PROVISIONED, (_ends(), _out(), _gap(), _silent()))


def _ends() -> Alert:
    return Alert(
        "RouterCommitmentEnds",
        f"router_commitment_end_timestamp_seconds - time() < {_SOON_S}",
        TICKET,
        summary="The commitment of {{ $labels.deployment }} ends in {{ $value | humanizeDuration }}",
        description="After that its units are no longer committed: their price and how long they are kept are as the"
        " contract says.",
        runbook="`router capacity advise --log state --plan plan.yaml` says what to buy again; `router capacity list`"
        " shows what there is.",
    )


def _out() -> Alert:
    return Alert(
        "RouterProvisionedOut",
        'max by (deployment) (router_provisioned_status{status=~"Creating|Failed|missing"}) == 1',
        PAGE,
        summary="The provisioned throughput of {{ $labels.deployment }} does not serve",
        description="It is out of routing until AWS says that it is in service; its load goes to other deployments, on"
        " demand.",
        runbook="`router capacity list` shows its status, and why it failed.",
        pending_s=300.0,
    )


def _gap() -> Alert:
    return Alert(
        "RouterCountsDiffer",
        f"abs(router_reconciled_gap_ratio) > {_GAP}\n"
        f"and on (deployment) max by (deployment) (router_reconciled_calls) > {_FEW}",
        TICKET,
        summary="AWS and the router count different numbers of calls of {{ $labels.deployment }}",
        description="Above 0 somebody else calls the same model id, and uses capacity that the router takes for its"
        " own; below 0 calls of the router are counted elsewhere.",
        runbook="`router_reconciled_calls` has both counts; look for other callers of the model id in CloudTrail.",
        pending_s=900.0,
    )


def _silent() -> Alert:
    return Alert(
        "RouterAwsControlSilent",
        "router_aws_control_up == 0",
        TICKET,
        summary="{{ $labels.service }} in {{ $labels.region }} does not tell the router how its capacity stands",
        description="Requests are not affected; the status of provisioned throughput is as last heard.",
        runbook="The log line `aws_control_heard` has the reason; the role needs bedrock:GetProvisionedModelThroughput"
        " and cloudwatch:GetMetricData.",
        pending_s=900.0,
    )
