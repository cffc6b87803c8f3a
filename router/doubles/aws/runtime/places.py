"""What a `modelId` means: a model, a profile over regions, reserved throughput, or a router that picks a model."""

from __future__ import annotations

import re

from msgspec import Struct

from router.doubles.aws.call import AwsError
from router.doubles.aws.models import Model, Quota
from router.doubles.aws.world import World

_GEOGRAPHIES = re.compile(r"(?:us-gov|us|eu|apac|jp|au|ca|sa|global)\.(?=[a-z0-9-]+\.)")
_SERVING = frozenset({"InService", "Updating"})


class Place(Struct, frozen=True):
    """Where a call goes. `kind` tells quotas apart; `invoked` is what a prompt router's trace names."""

    model: Model
    kind: str = "on-demand"
    quota: Quota = Quota()
    invoked: str | None = None

    @property
    def reserved(self) -> bool:
        """Whether it is paid by the hour."""
        return self.kind.startswith("arn:")


def find_place(world: World, model_id: str, tokens: int) -> Place:
    """The place for a `modelId` and a prompt of so many tokens; raises `AwsError` where there is none or it is not
    ready."""
    resource = model_id.split(":", 5)[5] if model_id.startswith("arn:") else model_id
    if resource.startswith("provisioned-model/"):
        return _reserved(world, model_id)
    if model_id in world.prompt_routers:
        picker = world.prompt_routers[model_id]
        chosen = picker.models[tokens >= picker.long_tokens]
        place = find_place(world, chosen, tokens)
        return Place(place.model, place.kind, place.quota, invoked=chosen)
    if model_id in world.profiles:
        return find_place(world, world.profiles[model_id], tokens)
    name = resource.partition("/")[2] or resource
    crossing = _GEOGRAPHIES.match(name)
    model = world.model(name if crossing is None else name[crossing.end() :])
    return Place(model, "on-demand" if crossing is None else "cross-region", model.quota)


def _reserved(world: World, arn: str) -> Place:
    held = world.provisioned.get(arn)
    if held is None:
        if world.models or world.provisioned:
            raise AwsError("ResourceNotFoundException", "Could not find the provisioned model.")
        return Place(world.default, arn)
    if held.status not in _SERVING:
        raise AwsError("ValidationException", f"The provisioned model is {held.status}: it cannot be invoked.")
    tokens = None if held.unit_tokens_per_min is None else held.units * held.unit_tokens_per_min
    return Place(world.model(held.model_id), arn, Quota(tokens_per_min=tokens))
