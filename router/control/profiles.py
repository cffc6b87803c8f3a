"""How long does a server step take, for a model nobody has measured here yet?

A step lasts `base + per_sequence*B + per_context_token*ctx + per_prefill_token*P` (see `StepProfile`). The
figures below are where learning starts, not where it ends: every deployment fits its own from what it sees.

Decode (base, per sequence, per context token) of the Llama 3.x and Qwen3 rows is a least-squares fit to the
ML.ENERGY leaderboard's vLLM runs on H100s (batch 8 to 256; R2 .991 or better); the Llama 2 row, decode and
prefill, is a fit to splitwise-sim's measurements on H100s. Prefill (per prompt token) of the others:

* 70B on 4 H100: Vidur's linear-layer profile of Llama-2-70B, H100, TP 4 (.0650 ms a token, R2 .996).
* 8B on 1 H100: Vidur's Llama-3-8B on an A100 (.0666) times what Llama-2-7B gains from A100 to H100
  (.0203/.0645).
* Other sizes: the 8B figure scaled by parameters over GPUs, times 1.415 where there is more than one GPU (as
  the 70B figure shows over that rule).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from router.domain.deployment import StepProfile, Tier


class _Row(NamedTuple):
    """One model family as measured; times in milliseconds."""

    base_ms: float
    per_sequence_ms: float
    per_context_token_ms: float
    per_prefill_token_ms: float
    source: str


_LLAMA_8B = _Row(6.6746, 0.058176, 0.000032, 0.0209, "ML.ENERGY, 1 H100; prefill Vidur, scaled from A100")
_LLAMA_70B = _Row(16.4034, 0.080096, 0.000023, 0.0650, "ML.ENERGY, 4 H100; prefill Vidur")
_FAMILIES: dict[str, _Row] = {
    "llama-3-8b": _LLAMA_8B,
    "llama-3.1-8b": _LLAMA_8B,
    "llama-3-70b": _LLAMA_70B,
    "llama-3.1-70b": _LLAMA_70B,
    "llama-3.3-70b": _Row(16.5165, 0.076475, 0.000023, 0.0650, "ML.ENERGY, 4 H100; prefill Vidur"),
    "qwen-3-8b": _Row(7.9216, 0.066856, 0.000036, 0.0209, "ML.ENERGY, 1 H100; prefill as Llama 8B"),
    "qwen-3-14b": _Row(12.1396, 0.075255, 0.000044, 0.0385, "ML.ENERGY, 1 H100; prefill scaled by size"),
    "qwen-3-32b": _Row(14.5638, 0.091448, 0.000037, 0.0604, "ML.ENERGY, 2 H100; prefill scaled by size"),
    "llama-2-70b": _Row(28.8019, 0.282489, 0.000094, 0.1073, "splitwise-sim, 4 H100"),
}
_PRIORS: dict[Tier, str] = {Tier.SMALL: "qwen-3-14b", Tier.LARGE: "llama-2-70b"}
"""For an unknown model the slowest measured of its tier: to expect too little is the cheaper mistake."""

_NAME = re.compile(r"(llama|qwen)[-_ ]?(\d)(?:[.\-_](\d)(?![\db]))?\D*?(\d+)b(?![a-z0-9])")


def family(model: str) -> str | None:
    """The known family of a model by any of its usual names, such as `meta.llama3-1-8b-instruct-v1:0`."""
    found = _NAME.search(model.lower())
    if found is None:
        return None
    line, major, minor, billions = found.groups()
    key = f"{line}-{major}{'.' + minor if minor else ''}-{billions}b"
    return key if key in _FAMILIES else None


def profile_for(model: str, tier: Tier) -> StepProfile:
    """The measured step of a known model, or the slow prior of its tier (`source` says which)."""
    known = family(model)
    row = _FAMILIES[known or _PRIORS[tier]]
    return StepProfile(
        base_s=row.base_ms / 1e3,
        per_sequence_s=row.per_sequence_ms / 1e3,
        per_context_token_s=row.per_context_token_ms / 1e3,
        per_prefill_token_s=row.per_prefill_token_ms / 1e3,
        source=row.source if known else f"prior of the {tier.value} tier: {row.source}",
    )


def known_families() -> tuple[str, ...]:
    """The models whose figures ship with the router."""
    return tuple(_FAMILIES)
