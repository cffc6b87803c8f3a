"""How much sooner does a variant answer than its base, before anybody has measured it?"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from router.domain.deployment import StepProfile
from router.learning.variants.effects import effect


def varied(base: StepProfile, optimizations: Iterable[str]) -> StepProfile:
    """The step of a variant of this model: decoding takes what is documented of its techniques, taking the prompt in is
    bound by arithmetic and stays as it is. What nobody documents starts at its base's speed; `source` says what was
    assumed. It is where learning starts: each deployment fits its own steps."""
    factor, known = 1.0, []
    for name in optimizations:
        found = effect(name)
        if found is not None and found.tpot is not None:
            factor *= found.tpot.expected
            known.append(name)
    if not known:
        return base
    return replace(
        base,
        base_s=base.base_s * factor,
        per_sequence_s=base.per_sequence_s * factor,
        per_context_token_s=base.per_context_token_s * factor,
        source=f"{base.source}; decoding times {factor:.2g} for {', '.join(known)}",
    )
