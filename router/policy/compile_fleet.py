"""Deployments as written to deployments as routed: replicas spread out, prices and step figures looked up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from router.control.profiles import family, known_families, profile_for
from router.domain.deployment import (
    LANE_OF,
    Address,
    BatchProfile,
    Deployment,
    DeploymentName,
    Kind,
    Lane,
    LimitKind,
    LimitTerms,
    Mode,
    Sampling,
    StepProfile,
    TokenQuota,
)
from router.domain.errors import PolicyError
from router.policy.aws.compile import aws_terms, unfit_aws, unfit_tier
from router.policy.aws.job import backend_of, job_terms, unfit_job
from router.policy.aws.targets import unfit_target
from router.policy.aws.variants import varied
from router.policy.parse import Path, Source
from router.policy.prices.book import PriceBook
from router.policy.prices.pricing import Priced, no_price, priced
from router.policy.schema.fleet import DeploymentSpec
from router.policy.schema.json import suggestion
from router.policy.servers.telemetry import named_files, telemetry_terms, unfit_telemetry

RESERVED = frozenset({"auto"})
_NEEDS: dict[str, tuple[str, ...]] = {
    "openai_http": ("url",),
    "bedrock": ("target",),
    "sagemaker": ("target",),
    "simulated": (),
}
_TAKES: dict[str, tuple[str, ...]] = {
    "openai_http": ("url", "api_key_env", "api_key_file", "ca_file"),
    "bedrock": ("url", "region", "ca_file"),
    "sagemaker": ("url", "region", "ca_file"),
    "simulated": (),
}
_TAKEN: dict[str, frozenset[Sampling]] = {
    "openai_http": frozenset({Sampling.TEMPERATURE, Sampling.TOP_P, Sampling.MAX_TOKENS}),
    "bedrock": frozenset({Sampling.TEMPERATURE, Sampling.TOP_P, Sampling.TOP_K, Sampling.MAX_TOKENS}),
    "sagemaker": frozenset({Sampling.TEMPERATURE, Sampling.TOP_P, Sampling.TOP_K, Sampling.MAX_TOKENS}),
    "simulated": frozenset(Sampling),
}
"""What each backend takes unless its deployment says otherwise. OpenAI itself refuses `top_k`, vLLM and Ollama take it;
Converse is given it in the words of the model's family, where that has any."""
_ONLY_WITH: dict[str, Kind] = {
    "batch_ms": Kind.BATCH,
    "max_items": Kind.BATCH,
    "tokens_per_min": Kind.PROVISIONED,
    "hourly_usd": Kind.PROVISIONED,
    "job": Kind.JOB,
}
_ALSO_WITH = frozenset({("hourly_usd", "sagemaker")})
_REQUIRED_BY: dict[Kind, tuple[str, ...]] = {
    Kind.CONTINUOUS: (),
    Kind.BATCH: ("batch_ms",),
    Kind.PROVISIONED: ("hourly_usd",),
    Kind.JOB: ("job",),
}


_ASKED_FOR = frozenset({Lane.PRIORITY, Lane.FLEX})


def compile_fleet(
    sources: Sequence[Source], prices: PriceBook, mode: Mode = Mode.ACT
) -> tuple[tuple[Deployment, ...], list[PolicyError]]:
    """Every deployment of every document in order, and what is wrong with them."""
    fleet: dict[str, Deployment] = {}
    groups: set[str] = set()
    problems: list[PolicyError] = []
    for source, path, spec in _each(sources):
        found = [*_unfit(source, path, spec)]
        price = priced(spec, prices)
        if price is None:
            found.append(source.problem(path, no_price(spec, prices)))
        names = [spec.name] if spec.replicas == 1 else [f"{spec.name}-{i}" for i in range(spec.replicas)]
        taken = next((n for n in (spec.name, *names) if n in fleet or n in groups), None)
        if taken is not None:
            found.append(source.problem((*path, "name"), f"the name `{taken}` is taken by an earlier deployment"))
        if spec.name in RESERVED:
            found.append(source.problem((*path, "name"), f"`{spec.name}` as `model` already means any deployment"))
        problems += found
        groups.add(spec.name)
        if not found and price is not None:
            fleet |= {name: _deployment(spec, name, i, price, mode) for i, name in enumerate(names)}
    return tuple(fleet.values()), problems


def _each(sources: Sequence[Source]) -> Iterator[tuple[Source, Path, DeploymentSpec]]:
    for source in sources:
        for key in ("deployments", "fleet"):
            for i, spec in enumerate(getattr(source.document, key)):
                yield source, (key, i), spec


def _unfit(source: Source, path: Path, spec: DeploymentSpec) -> Iterator[PolicyError]:
    """Fields that are missing for, or mean nothing to, this backend or this kind."""
    written = spec.model_fields_set
    yield from (
        source.problem(path, f"the backend {spec.backend} needs `{field}`")
        for field in _NEEDS[spec.backend]
        if field not in written
    )
    yield from (
        source.problem((*path, field), f"`{field}` means nothing to the backend {spec.backend}", key=True)
        for field in ("url", "region", "api_key_env", "api_key_file", "ca_file")
        if field in written and field not in _TAKES[spec.backend]
    )
    yield from (
        source.problem(path, f"a {spec.kind} deployment needs `{field}`")
        for field in _REQUIRED_BY[spec.kind]
        if field not in written
    )
    yield from (
        source.problem((*path, field), f"`{field}` is only for {kind} deployments", key=True)
        for field, kind in _ONLY_WITH.items()
        if field in written and spec.kind is not kind and (field, spec.backend) not in _ALSO_WITH
    )
    yield from _unfit_steps(source, path, spec)
    yield from _unfit_lane(source, path, spec)
    yield from unfit_tier(source, path, spec)
    yield from unfit_aws(source, path, spec)
    yield from unfit_target(source, path, spec)
    yield from unfit_job(source, path, spec)
    yield from unfit_telemetry(source, path, spec)
    yield from _unfit_limit(source, path, spec)
    if {Sampling.MAX_TOKENS, Sampling.MAX_COMPLETION_TOKENS} <= set(spec.takes or ()):
        message = "`max_tokens` and `max_completion_tokens` are two names of one bound: keep the one it takes"
        yield source.problem((*path, "takes"), message)
    if spec.api_key_env is not None and spec.api_key_file is not None:
        message = "`api_key_env` and `api_key_file` both name a key: keep one"
        yield source.problem((*path, "api_key_file"), message, key=True)
    if spec.derived_from == spec.model:
        yield source.problem((*path, "derived_from"), "a model is not derived from itself: name another, or drop it")
    if spec.replicas > 1 and spec.url is not None and "{replica}" not in spec.url:
        message = "every replica would have this address: put `{replica}` where the number goes"
        yield source.problem((*path, "url"), message)


def unreadable(sources: Sequence[Source], problems: Mapping[str, str]) -> list[PolicyError]:
    """What is wrong with files that deployments name (path to problem), each told at the field that names it."""
    return [
        source.problem((*path, *field), f"the file {name} {problems[name]}")
        for source, path, spec in _each(sources)
        for field, name in named_files(spec)
        if name in problems
    ]


def _unfit_limit(source: Source, path: Path, spec: DeploymentSpec) -> Iterator[PolicyError]:
    limit, most = spec.limit, spec.max_in_flight
    if limit is None:
        return
    if spec.kind is Kind.BATCH:
        message = "a batch deployment takes one batch at a time: bound it by `max_items`, and drop `limit`"
        yield source.problem((*path, "limit"), message, key=True)
    if limit.kind is LimitKind.FIXED and limit.requests is None:
        yield source.problem((*path, "limit"), "a fixed limit needs `requests`: how many calls at once?")
    if limit.requests is not None and most is not None and limit.requests > most:
        message = f"`max_in_flight` allows {most}: write no more than that, or raise it"
        yield source.problem((*path, "limit", "requests"), message)
    if limit.tokens is not None and spec.context_tokens is not None and limit.tokens < spec.context_tokens:
        message = f"one request may have {spec.context_tokens} tokens (`context_tokens`): allow at least as many"
        yield source.problem((*path, "limit", "tokens"), message)


def _unfit_lane(source: Source, path: Path, spec: DeploymentSpec) -> Iterator[PolicyError]:
    lane, own = spec.lane, LANE_OF[spec.kind]
    if lane in _ASKED_FOR and spec.kind is not Kind.CONTINUOUS:
        message = f"a {spec.kind} deployment is in the lane {own}: drop `lane`, or list the model again without `kind`"
        yield source.problem((*path, "lane"), message)
    elif lane is not None and lane not in {*_ASKED_FOR, Lane.RESERVED, own}:
        message = f"a {spec.kind} deployment is in the lane {own}: {lane} needs another `kind`"
        yield source.problem((*path, "lane"), message)
    if spec.kind is Kind.PROVISIONED and "price_factor" in spec.model_fields_set:
        message = "`price_factor` means nothing to reserved capacity: it is paid by the hour"
        yield source.problem((*path, "price_factor"), message, key=True)


def _unfit_steps(source: Source, path: Path, spec: DeploymentSpec) -> Iterator[PolicyError]:
    if spec.profile is not None and family(spec.profile) is None:
        known = known_families()
        hint = suggestion(spec.profile, known) or f"; there are: {', '.join(known)}"
        yield source.problem((*path, "profile"), f"no figures ship for `{spec.profile}`{hint}")
    if spec.profile is not None and spec.step_ms is not None:
        yield source.problem((*path, "step_ms"), "`profile` and `step_ms` say the same: keep one", key=True)
    if spec.step_ms is not None and spec.step_ms.base == 0:
        yield source.problem((*path, "step_ms", "base"), "a step takes some time: write more than 0")


def _deployment(spec: DeploymentSpec, name: str, replica: int, price: Priced, mode: Mode) -> Deployment:
    address = Address(
        backend=backend_of(spec),
        target=spec.target or spec.model,
        url=spec.url.replace("{replica}", str(replica)) if spec.url is not None else None,
        region=spec.region,
        api_key_env=spec.api_key_env,
        ca_file=spec.ca_file,
        api_key_file=spec.api_key_file,
        aws=aws_terms(spec),
    )
    return Deployment(
        name=DeploymentName(name),
        group=spec.name,
        model=spec.model,
        tier=spec.tier,
        kind=spec.kind,
        address=address,
        price=price.price,
        served_prices=price.served,
        step=_step(spec),
        batch=_batch(spec),
        quota=_quota(spec),
        max_in_flight=spec.max_in_flight,
        max_items=spec.max_items,
        context_tokens=spec.context_tokens,
        capabilities=frozenset(spec.capabilities),
        tags=frozenset(spec.tags),
        derived_from=spec.derived_from,
        optimizations=spec.optimizations,
        takes=_TAKEN[spec.backend] if spec.takes is None else frozenset(spec.takes),
        lane=spec.lane or LANE_OF[spec.kind],
        limit=_limit(spec),
        mode=spec.mode or mode,
        job=job_terms(spec),
        telemetry=telemetry_terms(spec, replica),
    )


def _measured(spec: DeploymentSpec) -> str:
    """The model whose figures hold: as the operator says, its own where they ship, else those of its base model."""
    if spec.profile is None and spec.derived_from is not None and family(spec.model) is None:
        return spec.derived_from
    return spec.profile or spec.model


def _step(spec: DeploymentSpec) -> StepProfile | None:
    if spec.kind is Kind.BATCH:
        return None
    if (own := spec.step_ms) is None:
        shipped = varied(profile_for(_measured(spec), spec.tier), () if spec.profile else spec.optimizations)
        return StepProfile(
            shipped.base_s,
            shipped.per_sequence_s,
            shipped.per_context_token_s,
            shipped.per_prefill_token_s,
            step_token_budget=spec.step_token_budget,
            source=shipped.source,
        )
    return StepProfile(
        own.base / 1e3,
        own.per_sequence / 1e3,
        own.per_context_token / 1e3,
        own.per_prefill_token / 1e3,
        step_token_budget=spec.step_token_budget,
        source="policy",
        first_s=own.first / 1e3,
    )


def _batch(spec: DeploymentSpec) -> BatchProfile | None:
    own = spec.batch_ms
    return None if own is None else BatchProfile(own.base / 1e3, own.per_item / 1e3)


def _limit(spec: DeploymentSpec) -> LimitTerms:
    own = spec.limit
    return LimitTerms() if own is None else LimitTerms(own.kind, own.requests, own.tokens)


def _quota(spec: DeploymentSpec) -> TokenQuota | None:
    own = spec.tokens_per_min
    return None if own is None else TokenQuota(own.input, own.output)
