"""The prompt cache: which tokens of a prompt are read from it, written to it, or neither.

A prompt is tools, system prompt and messages, in this order. Each cache point ends a prefix. The longest prefix that
is still kept is read; what lies between it and the last cache point is written; the rest is neither. A prefix that is
read is kept anew for its time to live. Source: AWS, "Prompt caching for faster model inference".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from msgspec import Struct

_TTL_S = {"5m": 300.0, "1h": 3600.0}


class Prefix(Struct, frozen=True):
    """What a cache point ends: its digest, its tokens from the beginning of the prompt, how long it is to be kept."""

    digest: bytes
    tokens: int
    ttl: str = "5m"


class Split(Struct, frozen=True):
    """The tokens of a prompt. `kept` are the prefixes to keep once they have been computed."""

    read: int
    written: int
    fresh: int
    kept: tuple[Prefix, ...] = ()

    def written_for(self, ttl: str) -> int:
        """The written tokens that are to be kept for so long."""
        before, total = self.read, 0
        for prefix in self.kept:
            new = max(0, prefix.tokens - before)
            total += new if prefix.ttl == ttl else 0
            before += new
        return total


def digest_of(part: bytes, before: bytes) -> bytes:
    """The digest of a prefix from what is new in it and the digest of the prefix before."""
    return blake2b(before + b"\x00" + part, digest_size=16).digest()


@dataclass(slots=True)
class PromptCache:
    """Until when each prefix is kept, by whose and which model's it is."""

    _until: dict[tuple[str, bytes], float] = field(default_factory=dict)

    def look(self, scope: str, prefixes: Sequence[Prefix], total: int, least: int | None, *, now: float) -> Split:
        """How the `total` tokens of a prompt split; prefixes shorter than `least` are not cached."""
        usable = [] if least is None else [prefix for prefix in prefixes if prefix.tokens >= least]
        if not usable:
            return Split(0, 0, total)
        warm = [prefix for prefix in usable if self._until.get((scope, prefix.digest), now) > now]
        read = warm[-1].tokens if warm else 0
        last = usable[-1].tokens
        return Split(read, last - read, total - last, tuple(usable))

    def keep(self, scope: str, prefixes: Sequence[Prefix], *, now: float) -> None:
        """These prefixes have been computed, or read."""
        for prefix in prefixes:
            self._until[scope, prefix.digest] = now + _TTL_S.get(prefix.ttl, _TTL_S["5m"])
