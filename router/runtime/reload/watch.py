"""Follows a policy directory: each new text is compiled and applied, or refused."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
from msgspec import Struct
from watchfiles import awatch

from router.domain.errors import PolicyError
from router.domain.events import PolicySource
from router.policy.compile import Documents, compile_policy
from router.policy.parse import PolicyErrors
from router.policy.policy import Policy
from router.policy.prices.book import PriceFiles
from router.runtime.reload.price_files import PriceReader
from router.runtime.reload.reading import check_secrets, settled
from router.runtime.reload.secret_files import look_at_secrets
from router.runtime.reload.source import describe

log = structlog.get_logger("router.reload")

Apply = Callable[[Policy, PolicySource], None]
Reject = Callable[[str, tuple[str, ...], PolicySource], None]
"""Digest of the refused text, what is wrong with it and where it is from: the fields of `PolicyRejected`."""


def _print(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _digest(parts: Mapping[str, str]) -> str:
    """Twelve hex digits over names and prints: unlike a policy's digest it changes with a comment."""
    return _print("".join(f"{len(name)}:{name}{part}" for name, part in sorted(parts.items())))


class Found(Struct, frozen=True):
    """What a look at the directory found that is new. `texts` are the prints of its files, by name, `secrets` of those
    that the policy refers to; `policy` is what they make together, unless there are problems."""

    digest: str
    texts: dict[str, str]
    secrets: dict[str, str]
    source: PolicySource
    policy: Policy | None
    problems: tuple[str, ...] = ()

    @property
    def is_refresh(self) -> bool:
        """Whether a key or a certificate authority is another."""
        return any(name in self.secrets for name in self.source.changed)


class _Reader:
    """Reads, compiles, and says what is new. One look at a time, on whatever thread.

    What it knows of the files behind the policy in force is what `accept` was told; before that, only the prints of
    those that the policy refers to.
    """

    def __init__(self, directory: Path, secrets: Mapping[str, str]) -> None:
        self._directory = directory
        self._seen = ""
        self._texts: dict[str, str] = {}
        self._compiled: Policy | tuple[PolicyError, ...] = ()
        self._texts_in_force: dict[str, str] | None = None
        self._secrets_in_force = secrets
        self._prices = PriceReader()

    def accept(self, found: Found) -> None:
        """What was found is in force."""
        self._texts_in_force, self._secrets_in_force = found.texts, found.secrets

    def look(self) -> Found | None:
        """What is there now; `None` if that was seen before."""
        texts: dict[str, str] | None = None
        secrets: dict[str, str] | None = None
        policy: Policy | None = None
        problems: tuple[PolicyError, ...] = ()
        try:
            documents = settled(self._directory)
            texts = {str(Path(file).relative_to(self._directory)): _print(text) for file, text in documents}
            prices = self._prices.read(documents)
            texts |= self._prices.prints
            policy = self._compile(documents, texts, prices)
            looked = look_at_secrets(policy.deployments)
            secrets = looked.prints
            check_secrets(documents, looked)
        except PolicyErrors as error:
            policy, problems = None, error.problems
        told = tuple(str(problem) for problem in problems)
        digest = _digest({**(texts or {}), **(secrets or {}), "": "\n".join(told)})
        if digest == self._seen:
            return None
        self._seen = digest
        changed = [*_changed(self._texts_in_force, texts), *_changed(self._secrets_in_force, secrets)]
        return Found(digest, texts or {}, secrets or {}, describe(self._directory, changed), policy, told)

    def _compile(self, documents: Documents, texts: dict[str, str], prices: PriceFiles) -> Policy:
        """The policy of a text, compiled once."""
        if texts != self._texts:
            self._compiled, self._texts = _compiled(documents, prices), texts
        if isinstance(self._compiled, Policy):
            return self._compiled
        raise PolicyErrors(self._compiled)


def _changed(before: Mapping[str, str] | None, now: Mapping[str, str] | None) -> list[str]:
    """Files that are there and were not, are there no more, or hold something else; none where either is unknown."""
    if before is None or now is None:
        return []
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def _compiled(documents: Documents, prices: PriceFiles) -> Policy | tuple[PolicyError, ...]:
    try:
        return compile_policy(documents, price_files=prices)
    except PolicyErrors as error:
        return error.problems
    except Exception as error:
        log.exception("policy_not_compiled")
        return (PolicyError(f"the router itself fails on this text: {type(error).__name__}: {error}"),)


class PolicyWatch:
    """A service that compiles each new text of a policy directory and applies it, or rejects it once.

    `current` is the digest of the policy in force, `secrets` are the prints of the files it refers to. A text that
    means the same is not applied again, except after a rejected one, so that whoever shows the rejection learns that
    it is over, and after such a file has changed: the source names it then. A bad text changes nothing.
    """

    def __init__(
        self,
        directory: Path,
        *,
        current: str,
        apply: Apply,
        reject: Reject,
        secrets: Mapping[str, str] | None = None,
        quiet_ms: int = 100,
        recheck_ms: int = 5000,
    ) -> None:
        self._directory = directory
        self._reader = _Reader(directory, secrets or {})
        self._current: str | None = current
        self._apply = apply
        self._reject = reject
        self._quiet_ms = quiet_ms
        self._recheck_ms = recheck_ms
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
        found = await asyncio.to_thread(self._reader.look)
        if found is None:
            return
        if found.policy is None:
            self._refuse(found, found.problems)
            return
        try:
            if found.policy.digest != self._current or found.is_refresh:
                self._apply(found.policy, found.source)
            self._current = found.policy.digest
            self._reader.accept(found)
        except Exception as error:
            log.exception("policy_not_applied", digest=found.digest)
            self._refuse(found, (f"could not be applied: {error}",))

    def _refuse(self, found: Found, problems: tuple[str, ...]) -> None:
        self._current = None
        self._reject(found.digest, problems, found.source)
