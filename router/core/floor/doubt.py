"""What does an estimate count where it is not to be trusted?"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from router.domain.decision import Candidate
from router.domain.view import DeploymentView

FAMILIAR = 0.1
"""Novelty up to which nothing is doubted. Of MMLU questions that were kept out of training, one in a hundred is over
.094 (`bench/floor_resplits.py --onto` prints it)."""
_STRANGE = 0.4
"""Novelty from which on only the lower bound counts; in between, in proportion, so that no prompt is on an edge."""


def as_counted(p: float, low: float, best: float, novelty: float) -> float:
    """What an answer counts that is adequate with probability `p`, at least `low`, where `best` was to be had."""
    if novelty <= FAMILIAR or p >= best:
        return p
    return p - min((novelty - FAMILIAR) / (_STRANGE - FAMILIAR), 1.0) * (p - low)


def doubted(
    candidates: Sequence[Candidate], views: Sequence[DeploymentView], *, price: float, novelty: float
) -> list[Candidate]:
    """The candidates with a floor term that trusts no estimate further than it reaches."""
    best = max((view.p_adequate for view in views), default=0.0)
    weighed: list[Candidate] = []
    for candidate, view in zip(candidates, views, strict=True):
        missing = view.p_adequate - as_counted(view.p_adequate, view.p_adequate_low, best, novelty)
        if missing:
            terms = replace(candidate.terms, floor=candidate.terms.floor - price * missing)
            weighed.append(replace(candidate, score=candidate.score - price * missing, terms=terms))
        else:
            weighed.append(candidate)
    return weighed
