"""What may go wrong on purpose, what is bounded, and what is counted."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from random import Random

from msgspec import Struct


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds of the broker. `receive_max` and `max_packet_size_bytes` are announced to clients and held to;
    `max_queued` is how many messages wait for one session, or for one shared subscription."""

    receive_max: int = 65535
    max_packet_size_bytes: int = 16 * 1024 * 1024
    max_queued: int = 10_000


@dataclass
class Faults:
    """Fault switches, changed by a test at any time while the broker runs.

    * `drop_next`, `drop_ratio`: messages toward clients vanish. The broker forgets them as if they had been
      acknowledged, which is what a broker that dies without a journal does.
    * `duplicate_next`, `duplicate_ratio`: messages toward clients are delivered twice, as two messages.
    * `delay_s`: publishes toward clients leave that much later, in order.
    * `cut_after_publishes[client_id] = n`: the connection breaks when n more publishes have left for the client.
    * `cut_after_packets[client_id] = n`: it breaks when n more packets from the client are read and handled;
      the answer to the last one never leaves.
    * `refuse_connections`: CONNECT is answered with 0x88 (server unavailable).

    The counts go before the ratios, and those are drawn from a generator seeded with `seed`.
    """

    drop_next: int = 0
    drop_ratio: float = 0.0
    duplicate_next: int = 0
    duplicate_ratio: float = 0.0
    delay_s: float = 0.0
    cut_after_publishes: dict[str, int] = field(default_factory=dict)
    cut_after_packets: dict[str, int] = field(default_factory=dict)
    refuse_connections: bool = False
    seed: InitVar[int] = 0

    def __post_init__(self, seed: int) -> None:
        self._rng = Random(seed)

    def copies(self) -> int:
        """How often the next message toward a client is delivered: 0, 1 or 2."""
        if self.drop_next:
            self.drop_next -= 1
            return 0
        if self.drop_ratio and self._rng.random() < self.drop_ratio:
            return 0
        if self.duplicate_next:
            self.duplicate_next -= 1
            return 2
        if self.duplicate_ratio and self._rng.random() < self.duplicate_ratio:
            return 2
        return 1


def count_down(cuts: dict[str, int], client_id: str) -> bool:
    """Take one off the client's entry; true when that was the last, which removes the entry."""
    left = cuts.get(client_id)
    if left is None:
        return False
    if left > 1:
        cuts[client_id] = left - 1
        return False
    del cuts[client_id]
    return True


class Stats(Struct):
    """Counters since the broker was made; they go on over a restart.

    `received` counts publishes from clients (wills included), `sent` publishes that left for clients. `lost_full`,
    `lost_expired` and `lost_oversized` say why a message was not delivered; `dropped` and `duplicated` are the
    fault switches' work.
    """

    connects: int = 0
    refused: int = 0
    taken_over: int = 0
    resumed: int = 0
    sessions_ended: int = 0
    violations: int = 0
    received: int = 0
    unmatched: int = 0
    sent: int = 0
    redelivered: int = 0
    acknowledged: int = 0
    lost_full: int = 0
    lost_expired: int = 0
    lost_oversized: int = 0
    dropped: int = 0
    duplicated: int = 0
    cut: int = 0
