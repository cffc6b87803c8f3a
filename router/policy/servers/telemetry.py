"""The `telemetry` part of a deployment as written to `TelemetryTerms`, and what in it cannot be meant."""

from __future__ import annotations

from collections.abc import Iterator

from router.domain.deployment import Kind, TelemetryTerms
from router.domain.errors import PolicyError
from router.policy.parse import Path, Source
from router.policy.schema.fleet import DeploymentSpec
from router.policy.schema.values import duration_text

_BACKEND = "openai_http"


def telemetry_terms(spec: DeploymentSpec, replica: int) -> TelemetryTerms | None:
    """How the server of one copy is asked; `None` where it is not."""
    own = spec.telemetry
    if own is None:
        return None
    url = own.url or _beside(spec.url or "")
    timeout_s = own.every / 2 if own.timeout is None else own.timeout
    return TelemetryTerms(
        url.replace("{replica}", str(replica)), own.every, timeout_s, own.api_key_env, own.api_key_file
    )


def _beside(url: str) -> str:
    """`/metrics` on the host of an address."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/metrics"


def unfit_telemetry(source: Source, path: Path, spec: DeploymentSpec) -> Iterator[PolicyError]:
    """Where nobody would answer, or the answers would serve nothing."""
    own, here = spec.telemetry, (*path, "telemetry")
    if own is None:
        return
    if spec.backend != _BACKEND:
        yield source.problem(here, f"`telemetry` means nothing to the backend {spec.backend}", key=True)
    elif spec.kind not in (Kind.CONTINUOUS, Kind.PROVISIONED):
        message = f"a {spec.kind} deployment is known by what is sent to it: drop `telemetry`"
        yield source.problem(here, message, key=True)
    if own.timeout is not None and own.timeout >= own.every:
        message = f"it is asked every {duration_text(own.every)}: write less than that"
        yield source.problem((*here, "timeout"), message)
    if own.api_key_env is not None and own.api_key_file is not None:
        message = "`api_key_env` and `api_key_file` both name a key: keep one"
        yield source.problem((*here, "api_key_file"), message, key=True)
    if spec.replicas > 1 and own.url is not None and "{replica}" not in own.url:
        message = "every replica would have this address: put `{replica}` where the number goes"
        yield source.problem((*here, "url"), message)


def named_files(spec: DeploymentSpec) -> Iterator[tuple[Path, str]]:
    """Each file that a deployment names, by the field that names it."""
    for field, name in (("api_key_file", spec.api_key_file), ("ca_file", spec.ca_file)):
        if name is not None:
            yield (field,), name
    if spec.telemetry is not None and spec.telemetry.api_key_file is not None:
        yield ("telemetry", "api_key_file"), spec.telemetry.api_key_file
