"""What a deployment may say of the metrics of its server."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from router.policy.schema.values import ENV_NAME, URL, Duration, Spec, Text, read_duration

_LEAST_S, _MOST_S = 0.05, 30.0


def _read_every(value: Any) -> float:
    seconds = read_duration(value)
    if not _LEAST_S <= seconds <= _MOST_S:
        raise PydanticCustomError(
            "every", "from 50ms to 30s: more often burdens the server, less often is too old to be believed"
        )
    return seconds


Every = Annotated[float, BeforeValidator(_read_every), WithJsonSchema({"type": ["string", "number"]})]


class TelemetrySpec(Spec):
    """Where the server tells its own load: Prometheus's text as vLLM, SGLang, TGI and llama.cpp write it. With it the
    router sees what others send to the server; what it sent itself it knows anyway."""

    url: Annotated[str, Field(pattern=URL)] | None = None
    """Whole address, such as http://host:8000/metrics; `{replica}` stands for the number of the copy. Absent: /metrics
    on the host of the deployment's `url`."""
    every: Every = 0.5
    """How often it is asked; a server that does not answer is asked less and less often."""
    timeout: Duration | None = None
    """How long an answer is waited for, less than `every`; absent: half of it."""
    api_key_env: Annotated[str, Field(pattern=ENV_NAME)] | None = None
    """Environment variable with a bearer token, where metrics ask for one; the deployment's own key is not sent."""
    api_key_file: Text | None = None
    """File with that token; one put there later is taken up without a restart."""
