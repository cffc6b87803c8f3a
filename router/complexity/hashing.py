"""Hashed word and character n-grams, the same code in training and serving.

A polynomial hash modulo 2**64 with an odd base B has two properties that make it fast in numpy: the hash of every
substring is a difference of prefix sums, `(P[end] - P[start]) * B**-start`, and it depends on bytes alone, never on
PYTHONHASHSEED or the platform. Low bits of such a hash are weak, so a multiply-xorshift finaliser (the construction of
MurmurHash3's fmix64, other constants) runs before the top bits become a bucket.

What is scanned: the first `CAP_CHARS / 2` and the last `CAP_CHARS / 2` characters. The cap is part of the model.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

CAP_CHARS: Final = 4096
WORD_BITS: Final = 14
CHAR_BITS: Final = 14
BUCKETS: Final = (1 << WORD_BITS) + (1 << CHAR_BITS)
CHAR_SIZES: Final = (3, 4, 5)
HASHING_VERSION: Final = 1

_BASE: Final = 0x9E3779B97F4A7C15
_SALT_WORD: Final = np.uint64(0xA0761D6478BD642F)
_SALT_MIX: Final = np.uint64(0xD6E8FEB86659FD93)
_CAP_BYTES: Final = 4 * CAP_CHARS + 16

Bytes = NDArray[np.uint8]
Hashes = NDArray[np.uint64]
Ids = NDArray[np.int64]


def _powers(base: int) -> Hashes:
    factors = np.full(_CAP_BYTES, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)


_POWERS: Final = _powers(_BASE)
_INVERSES: Final = _powers(pow(_BASE, -1, 1 << 64))


def _fold_table() -> bytes:
    """Lower case, every digit 0, white space and control characters a space; other bytes as they are."""
    table = bytearray(range(256))
    for code in range(128):
        char = chr(code)
        if char.isupper():
            table[code] = ord(char.lower())
        elif char.isdigit():
            table[code] = ord("0")
        elif char.isspace() or code < 32:
            table[code] = ord(" ")
    return bytes(table)


_FOLD: Final = _fold_table()
_IS_WORD: Final = np.array([code >= 128 or chr(code).isalnum() for code in range(256)])


class Scan(Struct, frozen=True):
    """One text prepared once: `raw` and `folded` bytes with a space at both ends, prefix hashes of `folded`
    (one longer), and the byte offsets where words start and end."""

    text: str
    raw: Bytes
    folded: Bytes
    prefix: Hashes
    starts: Ids
    ends: Ids
    words: Hashes
    """The hash of each word, in order."""


def capped(text: str) -> str:
    """The part of `text` that is scanned."""
    if len(text) <= CAP_CHARS:
        return text
    half = CAP_CHARS // 2
    return f"{text[:half]}\n{text[-half:]}"


def scan(text: str) -> Scan:
    """Prepare a text for features and n-grams."""
    text = capped(text)
    raw = b" " + text.encode("utf-8", "replace") + b" "
    folded = np.frombuffer(raw.translate(_FOLD), np.uint8)
    size = len(folded)
    prefix = np.zeros(size + 1, np.uint64)
    np.cumsum((folded + np.uint64(1)) * _POWERS[:size], out=prefix[1:])
    inside = _IS_WORD[folded]
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    words = (prefix[ends] - prefix[starts]) * _INVERSES[starts]
    return Scan(text, np.frombuffer(raw, np.uint8), folded, prefix, starts, ends, words)


def word_hash(word: str) -> int:
    """The hash that `scan` gives this word."""
    return int(scan(word).words[0])


def _buckets(hashes: Hashes, bits: int) -> Ids:
    mixed = (hashes ^ (hashes >> np.uint64(29))) * _SALT_MIX
    mixed ^= mixed >> np.uint64(32)
    return ((mixed * _SALT_WORD) >> np.uint64(64 - bits)).astype(np.int64)
