"""Parameter profiles: which sampling parameters suit a use case, where neither request nor class says any.

Six ship with the router. What has one right answer (extraction, classification) is sampled as narrowly as it goes and
answered in short; code a little wider and at length; a conversation in the middle; invention widely and at length. The
length word is where a learned `max_tokens` starts (see `router.learning.ceiling`); it is a ceiling and not a target, so
that it changes nothing for a model that stops by itself but what is reserved for the call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from router.domain.deployment import Deployment, Sampling
from router.domain.errors import PolicyError
from router.domain.request import Request
from router.domain.slo import BY_USE_CASE, Ceiling, Parameters, RequestClass
from router.policy.compile_class import LENGTHS, sampling
from router.policy.parse import Path, Source
from router.policy.policy import Policy
from router.policy.schema.classes import ClassTerms
from router.policy.schema.json import suggestion

NO_PROFILE = "none"
_SHORT, _MEDIUM, _LONG = (Ceiling(LENGTHS[word]) for word in ("short", "medium", "long"))
SHIPPED = {
    "extraction": Parameters(temperature=0.0, top_p=0.1, ceiling=_SHORT),
    "classification": Parameters(temperature=0.0, top_p=0.1, ceiling=_SHORT),
    "summarization": Parameters(temperature=0.3, top_p=0.5, ceiling=_MEDIUM),
    "creative": Parameters(temperature=0.8, top_p=0.9, ceiling=_LONG),
    "code": Parameters(temperature=0.2, top_p=0.3, ceiling=_LONG),
    "chat": Parameters(temperature=0.5, top_p=0.7, ceiling=_MEDIUM),
}
"""By use case, as the classifier calls it."""
_ALSO = {"chatbot": "chat"}
"""Other names of shipped profiles."""
_BOUNDS = frozenset({Sampling.MAX_TOKENS, Sampling.MAX_COMPLETION_TOKENS})


class Filled(Struct, frozen=True, gc=False):
    """Sampling parameters of one call. Where the request says otherwise, the request's own go out."""

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None


_SILENT, _NOTHING = Parameters(), Filled(None, None, None, None)


def filled_in(parameters: Parameters, request: Request, deployment: Deployment, max_tokens: int | None) -> Filled:
    """What goes to this deployment where the request is silent, as far as the deployment takes it; `max_tokens` is what
    its model is allowed. Nothing bounds an answer that the sender bounds, nor one that would reach the end of the
    context window first: servers refuse a prompt and a bound that do not fit in it together, and stop at its end by
    themselves."""
    if max_tokens is None and parameters == _SILENT:
        return _NOTHING
    takes, window = deployment.takes, deployment.context_tokens
    is_bounded = request.max_tokens is not None or not takes & _BOUNDS
    is_past_window = max_tokens is not None and window is not None and request.input_tokens + max_tokens > window
    return Filled(
        None if is_bounded or is_past_window else max_tokens,
        parameters.temperature if Sampling.TEMPERATURE in takes else None,
        parameters.top_p if Sampling.TOP_P in takes else None,
        parameters.top_k if Sampling.TOP_K in takes else None,
    )


def resolve(policy: Policy, request_class: RequestClass, use_case: str) -> Parameters:
    """What a class fills in for a request of this use case: its own parameters, field by field over its profile's. A
    `max_tokens` of its own, fixed or learned, stands in the place of the profile's."""
    own, name = request_class.parameters, request_class.profile
    if name is None:
        return own
    profile = dict(policy.profiles).get(_name(use_case if name == BY_USE_CASE else name))
    if profile is None:
        return own
    bounded = own if own.max_tokens is not None or own.ceiling is not None else profile
    return Parameters(
        temperature=profile.temperature if own.temperature is None else own.temperature,
        top_p=profile.top_p if own.top_p is None else own.top_p,
        top_k=profile.top_k if own.top_k is None else own.top_k,
        max_tokens=bounded.max_tokens,
        ceiling=bounded.ceiling if bounded.max_tokens is None else None,
    )


def learns_ceiling(policy: Policy, request_class: RequestClass) -> bool:
    """Whether the class has a learned `max_tokens` for any of its requests."""
    use_cases = ("", *(name for name, _ in policy.profiles))
    return any(resolve(policy, request_class, use_case).ceiling is not None for use_case in use_cases)


def compile_profiles(sources: Sequence[Source]) -> tuple[tuple[tuple[str, Parameters], ...], list[PolicyError]]:
    """The shipped profiles and those of the documents, which take the place of a shipped one of the same name; and
    what is wrong with them."""
    found = dict(SHIPPED)
    written: dict[str, str] = {}
    problems: list[PolicyError] = []
    for source in sources:
        for key, spec in source.document.profiles.items():
            name, here = _name(key), ("profiles", key)
            if name in (BY_USE_CASE, NO_PROFILE):
                message = f"`{name}` cannot be a profile: as the profile of a class it already means something else"
                problems.append(source.problem(here, message, key=True))
            elif name in written:
                message = f"the profile `{name}` is already in {written[name]}: keep one"
                problems.append(source.problem(here, message, key=True))
            written.setdefault(name, source.file)
            found[name] = sampling(spec)
    return tuple(sorted(found.items())), problems


def check_profiles(
    source: Source, path: Path, terms: ClassTerms, profiles: Sequence[tuple[str, Parameters]]
) -> Iterator[PolicyError]:
    """A class, or an arm of its experiment, that names a profile which is not there."""
    known = sorted({name for name, _ in profiles} | {BY_USE_CASE, NO_PROFILE})
    named: list[tuple[Path, str | None]] = [(("parameters", "profile"), terms.parameters.profile)]
    named += [(("rollout", "arms", i, "profile"), arm.profile) for i, arm in enumerate(terms.rollout.arms)]
    for where, name in named:
        if name is not None and _name(name) not in known:
            hint = suggestion(name, known) or f"; there are: {', '.join(known)}"
            yield source.problem((*path, *where), f"no parameter profile is called `{name}`{hint}")


def _name(written: str) -> str:
    return _ALSO.get(written, written)
