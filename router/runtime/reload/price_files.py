"""Price files that a policy names, read again only when they change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from router.policy.compile import Documents
from router.policy.parse import read_document
from router.policy.prices.book import NO_PRICE_FILES, PriceFiles
from router.policy.prices.litellm import LitellmFile, read_litellm

MAX_BYTES = 64 * 1024 * 1024
_KEY = "litellm"
_Stat = tuple[int, int, int]


class PriceReader:
    """`prints` has twelve hex digits over what each file holds (of what is wrong with it, where it cannot be read)."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[_Stat, str, LitellmFile]] = {}
        self.prints: dict[str, str] = {}

    def read(self, documents: Documents) -> PriceFiles:
        """The files that the documents name, by path as written there."""
        found: dict[str, LitellmFile] = {}
        self.prints = {}
        for name in _named(documents):
            self.prints[name], found[name] = self._file(name)
        return found or NO_PRICE_FILES

    def _file(self, name: str) -> tuple[str, LitellmFile]:
        try:
            stat = Path(name).stat()
            now = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            seen = self._seen.get(name)
            if seen is None or seen[0] != now:
                seen = self._seen[name] = (now, *_read(name, stat.st_size))
            return seen[1], seen[2]
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
            return _print(problem.encode()), LitellmFile(problem=problem)


def price_files(documents: Documents) -> PriceFiles:
    """The files that the documents name, read once."""
    return PriceReader().read(documents)


def _named(documents: Documents) -> Iterator[str]:
    """What cannot be read as a document names nothing: whoever compiles it tells what is wrong."""
    for file, text in documents:
        source = read_document(file, text)[0] if _KEY in text else None
        prices = None if source is None else source.document.prices
        if prices is not None and prices.litellm is not None:
            yield prices.litellm


def _read(name: str, size: int) -> tuple[str, LitellmFile]:
    if size > MAX_BYTES:
        problem = f"is longer than {MAX_BYTES} bytes"
        return _print(problem.encode()), LitellmFile(problem=problem)
    data = Path(name).read_bytes()
    return _print(data), read_litellm(data)


def _print(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
