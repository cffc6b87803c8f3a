"""The control service of Bedrock: provisioned throughput here, inference profiles and prompt routers beside.

What is created here is what the runtime then knows, as it does with AWS. Provisioned throughput is Creating until
`World.provisioning_s` have passed by the world's wall clock. One that is committed cannot be deleted before its term is
over, and the same `clientRequestToken` buys nothing twice.
"""

from __future__ import annotations

from typing import Any

from router.doubles.aws.bedrock_jobs import BedrockJobs
from router.doubles.aws.bedrock_profiles import BedrockProfiles, code_of, model_id, page_of, time_of
from router.doubles.aws.call import AwsError, Call, Json
from router.doubles.aws.world import Provisioned, World

_DAY_S = 86_400.0
_TERM_S = {"OneMonth": 30 * _DAY_S, "SixMonths": 180 * _DAY_S}


class BedrockProvisioning:
    """Create, get, list, update and delete provisioned throughput."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tokens: dict[str, str] = {}
        self._changed: dict[str, float] = {}

    async def create_provisioned_model_throughput(self, call: Call) -> Json:
        """Buy model units."""
        params, world = call.params, self._world
        token = params.get("clientRequestToken", "")
        if token in self._tokens:
            return {"provisionedModelArn": self._tokens[token]}
        name = params["provisionedModelName"]
        if any(one.name == name for one in world.provisioned.values()):
            raise AwsError("ValidationException", f"A provisioned model named {name} exists already.")
        arn = f"arn:aws:bedrock:{call.region}:{call.account}:provisioned-model/{code_of(name, token, world.at())}"
        commitment = params.get("commitmentDuration")
        model = model_id(params["modelId"])
        world.model(model)
        world.provisioned[arn] = Provisioned(
            arn,
            name,
            model,
            units=params["modelUnits"],
            status="Creating" if world.provisioning_s > 0.0 else "InService",
            commitment=commitment,
            created_at=world.at(),
            expires_at=None if commitment is None else world.at() + _TERM_S[commitment],
        )
        self._changed[arn] = world.at()
        if token:
            self._tokens[token] = arn
        return {"provisionedModelArn": arn}

    async def get_provisioned_model_throughput(self, call: Call) -> Json:
        """One, by ARN or name."""
        return self._told(self._found(call.params["provisionedModelId"]), call.region)

    async def list_provisioned_model_throughputs(self, call: Call) -> Json:
        """The newest first, in pages."""
        params = call.params
        told = [self._told(self._aged(one), call.region) for one in self._world.provisioned.values()]
        told = [one for one in told if f":{call.region}:" in one["provisionedModelArn"]]
        told = [one for one in told if params.get("statusEquals") in (None, one["status"])]
        told = [one for one in told if params.get("nameContains", "") in one["provisionedModelName"]]
        told = [one for one in told if params.get("modelArnEquals") in (None, one["modelArn"])]
        told.sort(key=lambda one: one["creationTime"], reverse=params.get("sortOrder") != "Ascending")
        page, more = page_of(told, params)
        return {"provisionedModelSummaries": page, "nextToken": more}

    async def update_provisioned_model_throughput(self, call: Call) -> Json:
        """Another name; another model only where it is a custom one."""
        found = self._found(call.params["provisionedModelId"])
        if "desiredModelId" in call.params:
            raise AwsError("ValidationException", "The model of a provisioned base model cannot be changed.")
        found.name = call.params.get("desiredProvisionedModelName", found.name)
        self._changed[found.arn] = self._world.at()
        return {}

    async def delete_provisioned_model_throughput(self, call: Call) -> Json:
        """Not before the commitment is over."""
        found = self._found(call.params["provisionedModelId"])
        if found.expires_at is not None and self._world.at() < found.expires_at:
            raise AwsError("ConflictException", "The commitment term of the provisioned model is not over.")
        if found.status in ("Creating", "Updating"):
            raise AwsError("ConflictException", f"The provisioned model is {found.status}.")
        del self._world.provisioned[found.arn]
        return {}

    def _found(self, named: str) -> Provisioned:
        for one in self._world.provisioned.values():
            if named in (one.arn, one.name):
                return self._aged(one)
        raise AwsError("ResourceNotFoundException", f"There is no provisioned model {named}.")

    def _aged(self, one: Provisioned) -> Provisioned:
        world = self._world
        if one.status == "Creating" and world.at() >= one.created_at + world.provisioning_s:
            one.status = "InService"
        return one

    def _told(self, one: Provisioned, region: str) -> Json:
        model = f"arn:aws:bedrock:{region}::foundation-model/{one.model_id}"
        return _there(
            provisionedModelName=one.name,
            provisionedModelArn=one.arn,
            modelArn=model,
            desiredModelArn=model,
            foundationModelArn=model,
            modelUnits=one.units,
            desiredModelUnits=one.units,
            status=one.status,
            commitmentDuration=one.commitment,
            commitmentExpirationTime=None if one.expires_at is None else time_of(one.expires_at),
            creationTime=time_of(one.created_at),
            lastModifiedTime=time_of(self._changed.get(one.arn, one.created_at)),
        )


class BedrockControl(BedrockProvisioning, BedrockProfiles, BedrockJobs):
    """The service `bedrock`; each base has operations of its own."""

    service = "bedrock"

    def __init__(self, world: World) -> None:
        BedrockProvisioning.__init__(self, world)
        BedrockProfiles.__init__(self, world)
        BedrockJobs.__init__(self, world)


def _there(**members: Any) -> Json:
    return {name: value for name, value in members.items() if value is not None}
