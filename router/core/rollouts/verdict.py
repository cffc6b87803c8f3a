"""Does an edit go on, stay, or go back?

Back, where any of these holds:

* an objective's error budget burns past the fast-burn threshold in both windows of a pair: 1 h with 5 min at
  `fast_burn`, or 6 h with 30 min at 6/14.4 of it. A rate is a share of bad requests, and a share cannot exceed 1: for
  loose targets the threshold is half way between the share allowed and all;
* what it spent of the class's whole error budget, counted over all the class's traffic, exceeds 1 %;
* its quality is surely under the floor, or under the floor and surely below that of the other side.

On, once it has been long enough on its step, with enough requests, and no objective burns faster than its budget allows
(or than on the other side, where that has the same objective: then it is not the edit that burns).
"""

from __future__ import annotations

from msgspec import Struct

from router.core.rollouts.evidence import Evidence, all_judged
from router.domain.rollout import Measure, Rollout
from router.domain.slo import Indicator, QualityFloor

_PAIRS = ((3600.0, 300.0, 1.0), (6 * 3600.0, 1800.0, 6.0 / 14.4))
"""Long window, short window, share of the fast-burn rate (SRE workbook, chapter 5, table 5-8)."""
_LEAST_BAD = 5
"""So many bad requests are no accident where one in a hundred is allowed."""
_BUDGET_SHARE = 0.01
_LEAST_BAD_OF_LITTLE = 2
"""Where a month's error budget is a few requests, so many are waited for: one bad request says nothing."""
_SETTLED_S = 60.0
"""Before that, the rate of requests is not known well enough to say how large a month's error budget is."""


class Sides(Struct, frozen=True):
    """What is compared: the edit, what is in force, and since when (on the clock of `now`) both run."""

    edit: Evidence
    stable: Evidence
    began: float


def must_go_back(sides: Sides, terms: Rollout, floor: QualityFloor | None, *, now: float) -> str | None:
    """Why the edit must be taken back, or `None`."""
    for indicator in sides.edit.burns:
        why = _burns(sides, indicator, terms.fast_burn, now=now) or _spends(sides, indicator, now=now)
        if why is not None:
            return why
    return None if floor is None else _too_poor(sides, floor, terms.min_requests)


def _burns(sides: Sides, indicator: Indicator, fast_burn: float, *, now: float) -> str | None:
    meter = sides.edit.burns[indicator]
    allowed = 1.0 - meter.target
    if meter.bad < _LEAST_BAD:
        return None
    for long_s, short_s, part in _PAIRS:
        limit = min(max(part * fast_burn, 1.0) * allowed, 0.5 * (1.0 + allowed))
        late, lately = meter.counts(short_s, now=now)
        if late < _LEAST_BAD or late <= limit * lately:
            continue
        bad, total = meter.counts(long_s, now=now)
        if bad > limit * total:
            return (
                f"{indicator}: burn rate {bad / total / allowed:.1f} over the last {long_s / 3600:.0f} h, "
                f"{bad} of {total} requests bad; more than {limit / allowed:.1f} is taken back"
            )
    return None


def _spends(sides: Sides, indicator: Indicator, *, now: float) -> str | None:
    """The guard over all traffic: a month's error budget is the share allowed of a month's requests."""
    meter, elapsed = sides.edit.burns[indicator], now - sides.began
    if meter.bad < _LEAST_BAD_OF_LITTLE or elapsed < _SETTLED_S:
        return None
    allowed, window_s = 1.0 - meter.target, sides.edit.objectives[indicator].window_s
    budget = allowed * (sides.edit.requests + sides.stable.requests) / elapsed * window_s
    spent = meter.bad - allowed * meter.total
    least = min(max(2.0 * _BUDGET_SHARE * budget, _LEAST_BAD_OF_LITTLE), _LEAST_BAD)
    if meter.bad < int(least) or spent <= _BUDGET_SHARE * budget:
        return None
    return f"{indicator}: {spent / budget:.1%} of the class's error budget of {window_s / 86400:.3g} days is gone"


def _too_poor(sides: Sides, floor: QualityFloor, least: int) -> str | None:
    if sides.edit.answered < least:
        return None
    told = all_judged((sides.edit, sides.stable)) or (sides.edit.is_judged and not sides.stable.answered)
    mine, other = (side.mean(Measure.QUALITY, told=told) for side in (sides.edit, sides.stable))
    _, high = mine.interval()
    if high < floor.ratio and (mine.mean < other.mean or not other.count):
        return f"quality {mine.mean:.3f} is surely under the floor of {floor.ratio:g} (at most {high:.3f})"
    if mine.mean < floor.ratio and high < other.interval()[0]:
        return f"quality {mine.mean:.3f} is under the floor of {floor.ratio:g} and surely below {other.mean:.3f} before"
    return None


def may_go_on(sides: Sides, terms: Rollout, *, on_step_s: float, on_step: int) -> str | None:
    """What the edit still waits for on its step, or `None` where it may go on."""
    if on_step_s < terms.step_s:
        return f"{on_step_s:.0f} of {terms.step_s:.0f} s on this step"
    if on_step < terms.min_requests:
        return f"{on_step} of {terms.min_requests} requests on this step"
    edit, stable = sides.edit, sides.stable
    for indicator, meter in edit.burns.items():
        other, allowed, elsewhere = stable.burns.get(indicator), 1.0 - meter.target, 0.0
        if other is not None and edit.objectives[indicator] == stable.objectives[indicator]:
            elsewhere = other.bad / other.total
        if meter.bad > max(allowed, elsewhere) * meter.total:
            return f"{indicator} burns: {meter.bad} of {meter.total} requests bad, {allowed:.2%} allowed"
    return None
