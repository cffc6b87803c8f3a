"""A world written down in YAML: models with their speeds, prices and quotas, what is reserved, what goes wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml
from msgspec import Struct, field
from msgspec.structs import asdict

from router.domain.errors import SettingsError
from router.doubles.aws.faults import Fault
from router.doubles.aws.models import Answer, BatchOrders, Guardrail, Model, ModelTerms, Prices, PromptRouter, Speed
from router.doubles.aws.sagemaker_runtime.endpoint import Endpoint, Variant
from router.doubles.aws.world import Provisioned, World

_WORDS = re.compile(r"\s*\S+\s*")


class _Model(ModelTerms, frozen=True, forbid_unknown_fields=True):
    family: Literal["anthropic", "llama", "mistral", "titan", "nova", "openai"] | None = None
    text: str | None = None
    """What it says to everything; else `answer_tokens` made-up words."""


class _Variant(Struct, frozen=True, forbid_unknown_fields=True):
    name: str = "AllTraffic"
    weight: float = 1.0
    speed: Speed = Speed()
    answer_tokens: int = 8


class _Endpoint(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    payload: Literal["openai", "tgi", "jumpstart"] = "openai"
    variants: tuple[_Variant, ...] = (_Variant(),)


class _Config(Struct, frozen=True, forbid_unknown_fields=True):
    models: list[_Model] = []
    provisioned: list[Provisioned] = []
    profiles: dict[str, str] = {}
    prompt_routers: dict[str, PromptRouter] = {}
    guardrails: dict[str, Guardrail] = {}
    endpoints: list[_Endpoint] = []
    faults: list[Fault] = []
    jobs: BatchOrders = field(default_factory=BatchOrders)
    provisioning_s: float = 0.0
    optimizing_s: float = 0.0


def world_of_any_model() -> World:
    """A world in which every model id answers, at the speed and price of a middling model."""
    speed = Speed(first_token_s=0.3, input_token_s=0.0001, output_token_s=0.01)
    return World(default=Model("default", speed=speed, prices=Prices(3.0, 15.0), answer_tokens=60))


def read_world(file: Path) -> World:
    """The world that a file describes; `SettingsError` says where it cannot be read."""
    try:
        written: Any = yaml.safe_load(file.read_text())
        config = msgspec.convert(written or {}, _Config)
    except (OSError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise SettingsError(f"{file}: {error}") from None
    wrong = [name for name in (*config.profiles, *config.prompt_routers) if not name.startswith("arn:")]
    if wrong:
        message = "a profile or prompt router is named by its ARN; an id over regions, such as us.MODEL, needs no line"
        raise SettingsError(f"{file}: {wrong[0]}: {message}")
    world = world_of_any_model()
    world.models = {model.id: _model(model) for model in config.models}
    world.provisioned = {one.arn: one for one in config.provisioned}
    world.profiles = config.profiles
    world.prompt_routers = config.prompt_routers
    world.guardrails = config.guardrails
    world.endpoints = {one.name: _endpoint(one) for one in config.endpoints}
    world.faults, world.batch = config.faults, config.jobs
    world.provisioning_s, world.optimizing_s = config.provisioning_s, config.optimizing_s
    return world


def _model(written: _Model) -> Model:
    terms = asdict(written)
    text = terms.pop("text")
    return Model(**terms, says=None if text is None else Answer(tuple(_WORDS.findall(text))))


def _endpoint(written: _Endpoint) -> Endpoint:
    return Endpoint(written.name, written.payload, [Variant(**asdict(one)) for one in written.variants])
