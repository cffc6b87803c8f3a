"""Security tokens: a role is assumed, and calls with its keys are its account's."""

from __future__ import annotations

from datetime import UTC, datetime

from router.doubles.aws.call import AwsError, Call, Json
from router.doubles.aws.world import World

_LIFE_S = 3600


class Sts:
    """AssumeRole and GetCallerIdentity."""

    service = "sts"

    def __init__(self, world: World) -> None:
        self._world = world

    async def assume_role(self, call: Call) -> Json:
        """Keys of an hour for a role; one that the world forbids is refused."""
        arn = call.params["RoleArn"]
        parts = arn.split(":")
        if arn in self._world.forbidden_roles or len(parts) != 6 or not parts[4].isdigit():
            raise AwsError("AccessDenied", f"not authorized to perform: sts:AssumeRole on resource: {arn}", 403)
        key = f"ASIADOUBLE{len(self._world.keys):010d}"
        self._world.keys[key] = parts[4]
        seconds = int(call.params.get("DurationSeconds", _LIFE_S))
        session = f"arn:aws:sts::{parts[4]}:assumed-{parts[5]}/{call.params['RoleSessionName']}"
        return {
            "Credentials": {
                "AccessKeyId": key,
                "SecretAccessKey": "double",
                "SessionToken": "double",
                "Expiration": datetime.fromtimestamp(self._world.at() + seconds, UTC),
            },
            "AssumedRoleUser": {"AssumedRoleId": f"AROADOUBLE:{call.params['RoleSessionName']}", "Arn": session},
        }

    async def get_caller_identity(self, call: Call) -> Json:
        """The account that the caller's keys are of."""
        arn = f"arn:aws:iam::{call.account}:user/double"
        return {"Account": call.account, "UserId": "AIDADOUBLE", "Arn": arn}
