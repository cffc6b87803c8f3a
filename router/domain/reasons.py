"""A decision for whoever asks about it: what was predicted, as quantiles, and what decided, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
from msgspec import Struct

from router.domain.decision import Candidate, Decision

_NORMAL = (0.0, 1.2815515655446004, 2.3263478740408408)
"""Standard normal quantiles of .5, .9 and .99."""


class Quantiles(Struct, frozen=True):
    """Seconds that a latency stays under with probability .5, .9 and .99."""

    p50: float
    p90: float
    p99: float


class Latencies(Struct, frozen=True):
    """What was predicted of a candidate, in seconds from sending."""

    ttft_s: Quantiles
    tpot_s: Quantiles
    e2e_s: Quantiles


def latencies(candidate: Candidate) -> Latencies | None:
    """The quantiles of a candidate; `None` where its spread was not kept, as in older logs."""
    spread, terms = candidate.spread, candidate.terms
    if spread is None:
        return None
    return Latencies(
        _quantiles(terms.ttft_s, spread.ttft_log_mean, spread.ttft_log_sigma),
        _quantiles(terms.tpot_s, spread.tpot_log_mean, spread.tpot_log_sigma),
        _quantiles(terms.e2e_s, 0.0, spread.e2e_log_sigma),
    )


def _quantiles(predicted_s: float, mean: float, sigma: float) -> Quantiles:
    return Quantiles(*(predicted_s * math.exp(mean + z * sigma) for z in _NORMAL))


def evidence(decision: Decision) -> dict[str, object]:
    """A decision as a JSON document: all its fields, `because` in words, and the quantiles of each candidate."""
    document: dict[str, object] = msgspec.to_builtins(decision)
    document["because"] = because(decision)
    document["candidates"] = [
        {**msgspec.to_builtins(one), "quantiles": msgspec.to_builtins(latencies(one))} for one in decision.candidates
    ]
    return document


def because(decision: Decision) -> str:
    """The constraint that decided, in a sentence."""
    chosen = next((c for c in decision.candidates if c.deployment == decision.chosen), None)
    if chosen is None:
        return f"{decision.chosen} was chosen, and nothing is kept of why"
    if decision.binding == "forced":
        return f"{chosen.deployment} was asked for by name, by the sender or by its class, so nothing was weighed"
    if decision.binding == "fallback":
        return f"a call has failed, and {chosen.deployment} comes first in the fallback order of the class"
    others = [c for c in decision.candidates if c is not chosen]
    if not others:
        return f"{chosen.deployment} was the only one left{_fallen(decision)}"
    other = max(others, key=lambda c: c.score)
    tell = _SENTENCES.get(decision.binding)
    if tell is None:
        return f"{chosen.deployment} was chosen before {other.deployment} by {decision.binding}"
    return f"{tell(decision, chosen, other)} (score {chosen.score:.4g} against {other.score:.4g})"


def _fallen(decision: Decision) -> str:
    if not decision.excluded:
        return ""
    return ": " + ", ".join(f"{e.deployment} fell out as {e.code}" for e in decision.excluded)


def _explored(decision: Decision, chosen: Candidate, other: Candidate) -> str:
    return (
        f"{chosen.deployment} was tried in order to learn, where {other.deployment} scored higher;"
        f" that happens to {chosen.propensity:.2%} of such requests"
    )


def _in_time(decision: Decision, chosen: Candidate, other: Candidate) -> str:
    return (
        f"{chosen.deployment} is likelier to be in time than {other.deployment}:"
        f" P(in SLO) {chosen.terms.p_slo:.3f} against {other.terms.p_slo:.3f}"
    )


def _adequate(decision: Decision, chosen: Candidate, other: Candidate) -> str:
    return (
        f"{chosen.deployment} is likelier to answer well than {other.deployment}:"
        f" P(adequate) {chosen.terms.p_adequate:.3f} against {other.terms.p_adequate:.3f}"
    )


def _above_floor(decision: Decision, chosen: Candidate, other: Candidate) -> str:
    return (
        f"the quality floor decided: at its price of {decision.prices.floor:.3g}, P(adequate)"
        f" {chosen.terms.p_adequate:.3f} of {chosen.deployment} against {other.terms.p_adequate:.3f} of"
        f" {other.deployment} weighs most"
    )


def _cheaper(decision: Decision, chosen: Candidate, other: Candidate) -> str:
    return (
        f"{chosen.deployment} is cheaper than {other.deployment}: USD {chosen.terms.cost_usd:.3g} against"
        f" {other.terms.cost_usd:.3g}, where a dollar stands for {decision.prices.usd:.4g} useful answers"
    )


def _less_scarce(decision: Decision, chosen: Candidate, other: Candidate) -> str:
    return (
        f"{other.deployment} is scarcer than {chosen.deployment}: its capacity takes {other.terms.capacity:.3g}"
        f" from its score against {chosen.terms.capacity:.3g}"
    )


def _can_be_checked(decision: Decision, chosen: Candidate, other: Candidate) -> str:
    return (
        f"the answer of {chosen.deployment} is checked before it is sent and can be made again elsewhere, which adds"
        f" {chosen.terms.cascade:.3g} to its score against {other.terms.cascade:.3g} to that of {other.deployment}"
    )


_SENTENCES: dict[str, Callable[[Decision, Candidate, Candidate], str]] = {
    "explored": _explored,
    "slo": _in_time,
    "quality": _adequate,
    "floor": _above_floor,
    "cost": _cheaper,
    "capacity": _less_scarce,
    "cascade": _can_be_checked,
}
