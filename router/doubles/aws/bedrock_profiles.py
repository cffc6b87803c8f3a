"""Application inference profiles and prompt routers of the control service of Bedrock."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from router.doubles.aws.call import AwsError, Call, Json
from router.doubles.aws.models import PromptRouter
from router.doubles.aws.world import World

_FOUNDATION = re.compile(r"(?:arn:aws[^:]*:bedrock:[a-z0-9-]+::foundation-model/)?([^/]+)$")


class BedrockProfiles:
    """Application inference profiles and prompt routers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._names: dict[str, str] = {}
        self._made: dict[str, float] = {}
        self._routers: dict[str, Json] = {}

    async def create_inference_profile(self, call: Call) -> Json:
        """A name of one's own for a model, to be billed apart."""
        model = model_id(call.params["modelSource"]["copyFrom"])
        name = call.params["inferenceProfileName"]
        own = f"application-inference-profile/{code_of(name, model, self._world.at())}"
        arn = f"arn:aws:bedrock:{call.region}:{call.account}:{own}"
        self._world.profiles[arn] = model
        self._names[arn], self._made[arn] = name, self._world.at()
        return {"inferenceProfileArn": arn, "status": "ACTIVE"}

    async def get_inference_profile(self, call: Call) -> Json:
        """One, by ARN or id."""
        return self._profile(_of(self._world.profiles, call.params["inferenceProfileIdentifier"]), call.region)

    async def list_inference_profiles(self, call: Call) -> Json:
        """Those that were created here."""
        told = [self._profile(arn, call.region) for arn in self._world.profiles]
        if call.params.get("typeEquals") == "SYSTEM_DEFINED":
            told = []
        page, more = page_of(told, call.params)
        return {"inferenceProfileSummaries": page, "nextToken": more}

    async def delete_inference_profile(self, call: Call) -> Json:
        """Gone at once."""
        del self._world.profiles[_of(self._world.profiles, call.params["inferenceProfileIdentifier"])]
        return {}

    def _profile(self, arn: str, region: str) -> Json:
        own = arn.rpartition("/")[2]
        at = time_of(self._made.get(arn, 0.0))
        return {
            "inferenceProfileName": self._names.get(arn, own),
            "createdAt": at,
            "updatedAt": at,
            "inferenceProfileArn": arn,
            "models": [{"modelArn": _model_arn(self._world.profiles[arn], region)}],
            "inferenceProfileId": own,
            "status": "ACTIVE",
            "type": "APPLICATION",
        }

    async def create_prompt_router(self, call: Call) -> Json:
        """Two models of one family and the rule between them."""
        params, name = call.params, call.params["promptRouterName"]
        first, *others = [model_id(one["modelArn"]) for one in params["models"]]
        if len(others) != 1:
            raise AwsError("ValidationException", "A prompt router has two models.")
        arn = f"arn:aws:bedrock:{call.region}:{call.account}:default-prompt-router/{name}"
        if arn in self._world.prompt_routers:
            raise AwsError("ConflictException", f"The prompt router {name} exists already.")
        self._world.prompt_routers[arn] = PromptRouter((first, others[0]))
        self._names[arn], self._made[arn], self._routers[arn] = name, self._world.at(), params
        return {"promptRouterArn": arn}

    async def get_prompt_router(self, call: Call) -> Json:
        """One, by ARN."""
        return self._router(_of(self._world.prompt_routers, call.params["promptRouterArn"]), call.region)

    async def list_prompt_routers(self, call: Call) -> Json:
        """All of them, in pages."""
        told = [self._router(arn, call.region) for arn in self._world.prompt_routers]
        told = [one for one in told if call.params.get("type") in (None, one["type"])]
        page, more = page_of(told, call.params)
        return {"promptRouterSummaries": page, "nextToken": more}

    async def delete_prompt_router(self, call: Call) -> Json:
        """Gone at once."""
        del self._world.prompt_routers[_of(self._world.prompt_routers, call.params["promptRouterArn"])]
        return {}

    def _router(self, arn: str, region: str) -> Json:
        models = [{"modelArn": _model_arn(model, region)} for model in self._world.prompt_routers[arn].models]
        asked, at = self._routers.get(arn, {}), time_of(self._made.get(arn, 0.0))
        return {
            "promptRouterName": self._names.get(arn, arn.rpartition("/")[2]),
            "routingCriteria": asked.get("routingCriteria", {"responseQualityDifference": 25.0}),
            "createdAt": at,
            "updatedAt": at,
            "promptRouterArn": arn,
            "models": models,
            "fallbackModel": asked.get("fallbackModel", models[-1]),
            "status": "AVAILABLE",
            "type": "custom",
        }


def _model_arn(model: str, region: str) -> str:
    return f"arn:aws:bedrock:{region}::foundation-model/{model}"


def _of(known: Iterable[str], named: str) -> str:
    """The ARN that was meant."""
    for arn in known:
        if named in (arn, arn.rpartition("/")[2]):
            return arn
    raise AwsError("ResourceNotFoundException", f"There is no {named}.")


def model_id(named: str) -> str:
    """A foundation model by id or ARN; what is neither is taken as it is."""
    found = _FOUNDATION.match(named)
    return found[1] if found else named


def page_of(told: list[Json], params: Mapping[str, Any]) -> tuple[list[Json], str | None]:
    start, most = int(params.get("nextToken", 0)), int(params.get("maxResults", 100))
    end = start + most
    return told[start:end], str(end) if end < len(told) else None


def code_of(*of: object) -> str:
    """Twelve letters and digits, as the ids of AWS are."""
    return hashlib.sha256(repr(of).encode()).hexdigest()[:12]


def time_of(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
