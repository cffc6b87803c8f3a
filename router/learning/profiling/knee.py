"""From how many users on do more of them only wait longer?"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from router.learning.profiling.figures import Figures


class Knee(Struct, frozen=True):
    """`is_reached`: a level beyond it was measured and was worse; else it may lie further out."""

    concurrency: int
    is_reached: bool


def knee(levels: Sequence[Figures]) -> Knee | None:
    """The level at which throughput over latency ("power", Kleinrock 1979) is greatest; `None` without answers.

    In a closed loop throughput grows with the users as long as nobody waits, and waiting does after that: the greatest
    power lies between the two.
    """
    power = [
        (one.output_tokens_per_sec / one.client_latency_ms.mean, one.concurrency)
        for one in levels
        if one.client_latency_ms is not None and one.client_latency_ms.mean > 0.0
    ]
    if not power:
        return None
    best = max(power)[1]
    return Knee(best, any(concurrency > best for _, concurrency in power))
