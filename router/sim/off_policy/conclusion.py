"""Does the log say enough? Where it does not, why, and what would.

The thresholds are ours. Below an effective sample size of about a hundred the spread of the weights is itself too
uncertain for an interval; what goes elsewhere must be told by thirty effective samples of its own, or an estimate that
is sure of all that stays would hide that nothing is known of what moves.
"""

from __future__ import annotations

from math import ceil

from msgspec import Struct

from router.learning.off_policy import Support

LEAST_EFFECTIVE = 100.0
LEAST_MOVED = 30.0
MOST_UNSUPPORTED = 0.05
MOVES = 0.01
"""A smaller share of decisions that go elsewhere cannot move a share by more than itself."""
LEAST_REPLAYED = 0.5
_TRIED = (0.05, 0.1, 0.2)


class Needed(Struct, frozen=True):
    """So many requests like those of the log, at this exploration share of the policy that logs."""

    exploration_ratio: float
    requests: int


def refusal(support: Support, *, rests_on: str = "") -> str:
    """Why nothing can be concluded; empty where something can. `rests_on` names what the reward has to be told by."""
    if support.told == 0:
        return f"the log holds no {rests_on or 'outcome'}"
    if support.unsupported > MOST_UNSUPPORTED:
        return (
            f"{support.unsupported:.1%} of what it would pick had no chance of being picked"
            f"{f' and told by {rests_on}' if rests_on else ''} (at most {MOST_UNSUPPORTED:.0%})"
        )
    if 0.0 < support.effective < LEAST_EFFECTIVE or (support.effective == 0.0 and support.moved > 0.0):
        return f"the effective sample size is {support.effective:.0f} (at least {LEAST_EFFECTIVE:.0f})"
    if support.moved > MOVES and support.moved_effective < LEAST_MOVED:
        return (
            f"of the {support.moved:.1%} that would go elsewhere the effective sample size is"
            f" {support.moved_effective:.0f} (at least {LEAST_MOVED:.0f})"
        )
    return ""


def needed(support: Support, *, deployments: float) -> tuple[Needed, ...]:
    """How many requests would be enough, by exploration share. A request that goes elsewhere is told of by the share
    that explores, evenly over `deployments` on average, times the share that is told."""
    share_told = support.told / support.decisions if support.decisions else 0.0
    if share_told == 0.0:
        return ()
    moved = max(support.moved, support.unsupported, MOVES)
    found = []
    for ratio in _TRIED:
        each = ratio / max(deployments, 1.0)
        of_moved = LEAST_MOVED / (moved * each)
        of_all = LEAST_EFFECTIVE * (1.0 - moved + moved / each)
        found.append(Needed(ratio, ceil(max(of_moved, of_all) / share_told)))
    return tuple(found)
