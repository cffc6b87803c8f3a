"""Backends by kind, made when they are first called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from router.ports.backend import Backend, ReadsFiles


class Backends(Mapping[str, Backend]):
    """Backends by kind, made when first called: the AWS SDK is not loaded for those who do not use it."""

    def __init__(self, makers: Mapping[str, Callable[[], Backend]]) -> None:
        self._makers = makers
        self._made: dict[str, Backend] = {}

    def __getitem__(self, kind: str) -> Backend:
        if kind not in self._made:
            self._made[kind] = self._makers[kind]()
        return self._made[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def made(self, kind: str) -> Backend | None:
        """A backend that has been called already."""
        return self._made.get(kind)

    def forget(self, files: Sequence[str]) -> None:
        """Have those that read one of these files read it again."""
        for backend in self._made.values():
            if isinstance(backend, ReadsFiles):
                backend.forget(files)

    async def close(self) -> None:
        """Close those that were made."""
        for backend in self._made.values():
            await backend.close()
