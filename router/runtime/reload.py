"""Where do policies come from, and when does an edit count?

A policy directory holds `*.yaml` (or `*.yml`) files in itself and in its sub-directories `classes` and `fleet`;
other sub-directories are other people's (such as `policies/bench`), and hidden files belong to editors. A change
counts when the text differs, not when a file event came: so saving by rename, the symlink swap of a mounted
config map, and touching a file all end in the one question, is this another text? The directory is looked at
again every few seconds besides, for file systems that send no events and for swaps above the directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import structlog
from watchfiles import awatch

from router.domain.deployment import Deployment
from router.domain.errors import PolicyError
from router.policy.compile import Documents, compile_policy
from router.policy.parse import MAX_CHARS, PolicyErrors
from router.policy.policy import Policy

SUB_DIRECTORIES = ("classes", "fleet")
SUFFIXES = frozenset({".yaml", ".yml"})
READS_TO_SETTLE = 5

log = structlog.get_logger("router.reload")

Apply = Callable[[Policy], None]
Reject = Callable[[str, tuple[str, ...]], None]
"""Digest of the refused text, and what is wrong with it: the fields of `PolicyRejected`."""


def load_directory(directory: Path, *, deployments: Sequence[Deployment] | None = None) -> Policy:
    """The policy in a directory; raises `PolicyErrors`. `deployments` takes the place of its fleet."""
    return compile_policy(read_directory(directory), deployments=deployments)


def read_directory(directory: Path) -> Documents:
    """(file name, text) of every policy file, in order of name; raises `PolicyErrors` where one is unreadable."""
    documents: list[tuple[str, str]] = []
    problems: list[PolicyError] = []
    for path in sorted(_files(directory), key=str):
        try:
            with path.open(encoding="utf-8") as file:
                documents.append((str(path), file.read(MAX_CHARS + 1)))
        except UnicodeDecodeError as error:
            problems.append(_unreadable(path, f"not UTF-8: {error.reason} at byte {error.start}"))
        except FileNotFoundError:  # renamed away since it was listed: the next reading tells
            continue
        except OSError as error:
            problems.append(_unreadable(path, f"cannot be read: {error.strerror}"))
    if not documents and not problems:
        problems.append(_unreadable(directory, "no *.yaml file here, nor in its classes/ or fleet/"))
    if problems:
        raise PolicyErrors(problems)
    return documents


def _files(directory: Path) -> Iterator[Path]:
    for folder in (directory, *(directory / name for name in SUB_DIRECTORIES)):
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.suffix in SUFFIXES and not path.name.startswith(".") and path.is_file():
                yield path


def _unreadable(path: Path, message: str) -> PolicyError:
    return PolicyError(message, file=str(path), line=1, column=1)


def text_digest(documents: Documents) -> str:
    """Twelve hex digits over names and text: unlike a policy's digest it changes with a comment."""
    parts = hashlib.sha256()
    for name, text in documents:
        parts.update(f"{len(name)}:{name}{len(text)}:{text}".encode())
    return parts.hexdigest()[:12]


class PolicyWatch:
    """A service that compiles each new text of a policy directory and applies it, or rejects it once.

    `current` is the digest of the policy in force. A text that means the same is not applied again, except after
    a rejected one, so that whoever shows the rejection learns that it is over. A bad text changes nothing.
    """

    def __init__(
        self,
        directory: Path,
        *,
        current: str,
        apply: Apply,
        reject: Reject,
        quiet_ms: int = 100,
        recheck_ms: int = 5000,
    ) -> None:
        self._directory = directory
        self._current: str | None = current
        self._apply = apply
        self._reject = reject
        self._quiet_ms = quiet_ms
        self._recheck_ms = recheck_ms
        self._seen = ""
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin watching; what changed since `current` was read is found at the first look."""
        self._task = asyncio.get_running_loop().create_task(self._watch(), name="policy-watch")

    async def stop(self, grace_s: float) -> None:
        """End at once."""
        self._stop.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        await self.look()
        while not self._stop.is_set():
            try:
                await self._follow()
            except (OSError, RuntimeError) as error:  # no such directory, or the kernel's watches are used up
                log.warning("policy_events_unavailable", error=str(error), recheck_ms=self._recheck_ms)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), self._recheck_ms / 1e3)
                await self.look()

    async def _follow(self) -> None:
        changes = awatch(
            self._directory,
            watch_filter=None,
            step=self._quiet_ms,
            rust_timeout=self._recheck_ms,
            yield_on_timeout=True,
            stop_event=self._stop,
        )
        async with contextlib.aclosing(changes):
            async for _ in changes:
                await self.look()

    async def look(self) -> None:
        """Read the directory once, off the event loop, and act if its text is new."""
        digest, outcome = await asyncio.to_thread(_read_and_compile, self._directory, self._seen)
        self._seen = digest
        if isinstance(outcome, PolicyErrors):
            self._refuse(digest, tuple(str(p) for p in outcome.problems))
        elif outcome is not None and outcome.digest != self._current:
            try:
                self._apply(outcome)
                self._current = outcome.digest
            except Exception as error:
                log.exception("policy_not_applied", digest=digest)
                self._refuse(digest, (f"could not be applied: {error}",))

    def _refuse(self, digest: str, problems: tuple[str, ...]) -> None:
        self._current = None
        self._reject(digest, problems)


def _read_and_compile(directory: Path, seen: str) -> tuple[str, Policy | PolicyErrors | None]:
    """The digest of the text and what came of it; nothing came of a text that was seen before."""
    try:
        documents = _settled(directory)
    except PolicyErrors as error:
        digest = text_digest([("", str(error))])
        return digest, None if digest == seen else error
    digest = text_digest(documents)
    if digest == seen:
        return digest, None
    try:
        return digest, compile_policy(documents)
    except PolicyErrors as error:
        return digest, error


def _settled(directory: Path) -> Documents:
    """The text once two readings agree, so that no reading straddles a swap; the last one if they never do."""
    last: Documents | None = None
    for _ in range(READS_TO_SETTLE):
        documents = read_directory(directory)
        if documents == last:
            break
        last = documents
    return documents
