"""Hashed word and character n-grams: one code for training and serving.

A polynomial hash modulo 2**64 with an odd base B makes this fast in numpy: the hash of every substring is a difference
of prefix sums, `(P[end] - P[start]) * B**-start`. It depends on bytes alone, never on PYTHONHASHSEED or the platform.
A bucket is the top bits of hash times an odd constant (multiply-shift hashing, Dietzfelbinger et al. 1997).

Scanned are the first and the last `CAP_CHARS / 2` characters. The cap is part of the model.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

CAP_CHARS: Final = 4096
WORD_BITS: Final = 13
CHAR_BITS: Final = 14
SLOT_BITS: Final = 16
CHAR_SIZES: Final = (3, 5)
WORD_BUCKETS: Final = 1 << WORD_BITS
CHAR_BUCKETS: Final = 1 << CHAR_BITS
BUCKETS: Final = WORD_BUCKETS + CHAR_BUCKETS
SLOTS: Final = 1 << SLOT_BITS
SCHEME: Final = f"poly64/1 cap={CAP_CHARS} words=1,2:{WORD_BITS} chars=3,5:{CHAR_BITS} slots={SLOT_BITS}"
"""Names everything that a weight's place in the table depends on; an artefact of another scheme is refused."""

_BASE: Final = 0x9E3779B97F4A7C15
_WORD_SALT: Final = np.uint64(0xA0761D6478BD642F)
_PAIR_SALT: Final = np.uint64(0xE7037ED1A0B428DB)
_SLOT_SALT: Final = np.uint64(0xD6E8FEB86659FD93)
_WORD_SHIFT: Final = np.uint64(64 - WORD_BITS)
_CHAR_SHIFT: Final = np.uint64(64 - CHAR_BITS)
_SLOT_SHIFT: Final = np.uint64(64 - SLOT_BITS)
_MASK: Final = (1 << 64) - 1
_MAX_BYTES: Final = 4 * CAP_CHARS + 16

Bytes = NDArray[np.uint8]
Hashes = NDArray[np.uint64]
Ids = NDArray[np.int64]
Flags = NDArray[np.float32]


def _powers(base: int, first: int = 1) -> Hashes:
    factors = np.full(_MAX_BYTES, base, np.uint64)
    factors[0] = first
    return np.cumprod(factors, dtype=np.uint64)


_INVERSE_BASE: Final = pow(_BASE, -1, 1 << 64)
_POWERS: Final = _powers(_BASE)
_INVERSES: Final = _powers(_INVERSE_BASE)
_CHAR_INVERSES: Final = tuple(
    (size, _powers(_INVERSE_BASE, first=(0xC2B2AE3D27D4EB4F * (2 * size + 1)) & _MASK)) for size in CHAR_SIZES
)


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
_IN_WORD: Final = bytes(code >= 128 or chr(code).isalnum() for code in range(256))


class Scan(Struct, frozen=True):
    """A text prepared once, in UTF-8 with one space added at both ends.

    `raw` as it came and `folded` (see `_fold_table`), n bytes each; `prefix` hashes of `folded`, n + 1; for each of w
    words its first byte, the byte after its last, its hash, and the hash's slot in [0, SLOTS).
    """

    raw: bytes
    folded: bytes
    prefix: Hashes
    starts: Ids
    ends: Ids
    words: Hashes
    slots: Ids


def capped(text: str) -> str:
    """The part of `text` that is scanned."""
    if len(text) <= CAP_CHARS:
        return text
    half = CAP_CHARS // 2
    return f"{text[:half]}\n{text[-half:]}"


def scan(text: str) -> Scan:
    """Prepare a text for features and n-grams."""
    raw = b" %b " % capped(text).encode("utf-8", "replace")
    folded = raw.translate(_FOLD)
    size = len(raw)
    prefix = np.zeros(size + 1, np.uint64)
    np.cumsum(np.frombuffer(folded, np.uint8) * _POWERS[:size], out=prefix[1:])
    inside = np.frombuffer(raw.translate(_IN_WORD), np.uint8)
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    words = (prefix[ends] - prefix[starts]) * _INVERSES[starts]
    return Scan(raw, folded, prefix, starts, ends, words, slots_of(words))


def slots_of(words: Hashes) -> Ids:
    """The slot of each word hash: an index into tables with `SLOTS` entries."""
    return ((words * _SLOT_SALT) >> _SLOT_SHIFT).view(np.int64)


def word_hash(word: str) -> int:
    """The hash that `scan` gives a single word."""
    return int(scan(word).words[0])


def word_buckets(scanned: Scan) -> Ids:
    """Buckets in [0, WORD_BUCKETS) of the words and of the pairs of neighbours, with repeats."""
    words = scanned.words
    pairs = words[:-1] * _PAIR_SALT + words[1:]
    return ((np.concatenate((words, pairs)) * _WORD_SALT) >> _WORD_SHIFT).view(np.int64)


def char_buckets(scanned: Scan) -> Ids:
    """Buckets in [0, CHAR_BUCKETS) of every substring of `CHAR_SIZES` folded bytes, with repeats."""
    prefix = scanned.prefix
    size = len(prefix) - 1
    parts = [(prefix[n:] - prefix[:-n]) * inverses[: size + 1 - n] for n, inverses in _CHAR_INVERSES if n <= size]
    return (np.concatenate(parts) >> _CHAR_SHIFT).view(np.int64) if parts else np.zeros(0, np.int64)


def presence(scanned: Scan) -> Flags:
    """Which buckets occur, shape (BUCKETS,): words first, then characters, each part of Euclidean length 1 (or 0)."""
    flags = np.zeros(BUCKETS, np.float32)
    words, chars = flags[:WORD_BUCKETS], flags[WORD_BUCKETS:]
    words[word_buckets(scanned)] = 1.0
    chars[char_buckets(scanned)] = 1.0
    words *= 1.0 / max(float(words @ words), 1.0) ** 0.5
    chars *= 1.0 / max(float(chars @ chars), 1.0) ** 0.5
    return flags
