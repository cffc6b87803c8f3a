"""What the services of the double share: the models there are, what has been called and billed, what goes wrong."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from msgspec import Struct

from router.doubles.aws.call import AwsError, Call
from router.doubles.aws.faults import Fault
from router.doubles.aws.models import BatchOrders, Bill, Guardrail, Model, PromptRouter, Refusal
from router.doubles.aws.runtime.cache import PromptCache
from router.doubles.aws.runtime.quota import Quotas
from router.doubles.aws.sagemaker_runtime.endpoint import Endpoint

ACCOUNT = "123456789012"
"""Whose the calls are, where the keys say nothing else."""

_KEPT = 100_000


class Provisioned(Struct, forbid_unknown_fields=True):
    """Reserved throughput of a model. It answers while `status` is InService; `units` of `None` per-minute tokens
    each are its quota. `model_id` names a foundation model."""

    arn: str
    name: str
    model_id: str
    units: int = 1
    status: str = "InService"
    commitment: str | None = None
    created_at: float = 0.0
    expires_at: float | None = None
    unit_tokens_per_min: float | None = None


@dataclass(slots=True)
class World:
    """Mutable orders, read at each call, and a record of what came.

    Without `models` every id is a model with `default`'s qualities. `now` is monotonic, `at` the wall clock, `sleep`
    how a model takes its time. `gone` counts clients that left before their answer was complete: acquire it to wait
    for one. `drift` lists answers that did not fit the service model: it must stay empty.
    """

    models: dict[str, Model] = field(default_factory=dict)
    default: Model = field(default_factory=lambda: Model("default"))
    provisioned: dict[str, Provisioned] = field(default_factory=dict)
    profiles: dict[str, str] = field(default_factory=dict)
    """Application inference profile (ARN) -> model id."""
    prompt_routers: dict[str, PromptRouter] = field(default_factory=dict)
    guardrails: dict[str, Guardrail] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    """SageMaker's, by name."""
    faults: list[Fault] = field(default_factory=list)
    forbidden_roles: set[str] = field(default_factory=set)
    keys: dict[str, str] = field(default_factory=dict)
    """Access key -> account, for keys of assumed roles."""
    now: Callable[[], float] = time.monotonic
    at: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    s3_url: str | None = None
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=_KEPT))
    bills: deque[Bill] = field(default_factory=lambda: deque(maxlen=_KEPT))
    refusals: deque[Refusal] = field(default_factory=lambda: deque(maxlen=_KEPT))
    metrics_s: float = 60.0
    """How often CloudWatch is told of the calls, where the double serves it."""
    serving: int = 0
    gone: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    drift: list[str] = field(default_factory=list)
    batch: BatchOrders = field(default_factory=BatchOrders)
    provisioning_s: float = 0.0
    """How long provisioned throughput is being created, and an optimisation job runs, by `at`."""
    optimizing_s: float = 0.0
    quotas: Quotas = field(default_factory=Quotas)
    cache: PromptCache = field(default_factory=PromptCache)
    warm_until: dict[str, float] = field(default_factory=dict)

    def account_of(self, access_key: str) -> str:
        """Whose key it is."""
        return self.keys.get(access_key, ACCOUNT)

    def refuse(self, code: str, call: Call | None) -> None:
        """Note a call that is answered with an error; `None`: one that could not be read."""
        model_id = None if call is None else call.params.get("modelId")
        operation, region = (None, None) if call is None else (call.operation, call.region)
        self.refusals.append(Refusal(self.at(), code, operation, model_id, region))

    def drifted(self, what: str) -> AwsError:
        """Note an answer of the double that the service model does not know, and give the error to answer with."""
        self.drift.append(what)
        return AwsError("InternalFailure", f"the double's own answer does not fit the service model: {what}")

    def model(self, model_id: str) -> Model:
        """The foundation model of this id; `AwsError` where there is none."""
        if model_id in self.models:
            return self.models[model_id]
        if self.models:
            raise AwsError("ValidationException", "The provided model identifier is invalid.")
        return self.default
