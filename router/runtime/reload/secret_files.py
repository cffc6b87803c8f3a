"""What does a policy refer to outside its own text? Keys and certificate authorities, in files.

What a file holds is looked at and forgotten: only a fingerprint stays, to tell when it has changed. Whoever uses the
file reads it on its own.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from router.domain.deployment import Deployment

MAX_BYTES = 4 * 1024 * 1024
KEY_CHARS = 8192


class SecretFiles(Struct, frozen=True):
    """By path as the policy writes it: twelve hex digits over what each file holds (of what is wrong with it, where it
    cannot be used), and what is wrong."""

    prints: dict[str, str]
    problems: dict[str, str]


def look_at_secrets(deployments: Iterable[Deployment]) -> SecretFiles:
    """Every file that deployments name, read once."""
    prints: dict[str, str] = {}
    problems: dict[str, str] = {}
    for name, is_key in sorted(set(_named(deployments))):
        data, problem = _read(Path(name))
        if problem is None:
            problem = _key_problem(data) if is_key else _authority_problem(data)
        prints[name] = hashlib.sha256(data if problem is None else problem.encode()).hexdigest()[:12]
        if problem is not None:
            problems[name] = problem
    return SecretFiles(prints, problems)


def refreshed(deployments: Iterable[Deployment], changed: Collection[str]) -> tuple[str, ...]:
    """One line for each deployment and file that holds something else now."""
    return tuple(
        f"deployment {d.name}: {field} {name} holds something else"
        for d in deployments
        for field, name in (
            ("api_key_file", d.address.api_key_file),
            ("ca_file", d.address.ca_file),
            ("telemetry.api_key_file", None if d.telemetry is None else d.telemetry.api_key_file),
        )
        if name in changed
    )


def _named(deployments: Iterable[Deployment]) -> Iterator[tuple[str, bool]]:
    """Each path, and whether it is that of a key."""
    for deployment in deployments:
        address = deployment.address
        if address.api_key_file is not None:
            yield address.api_key_file, True
        if address.ca_file is not None:
            yield address.ca_file, False
        if deployment.telemetry is not None and deployment.telemetry.api_key_file is not None:
            yield deployment.telemetry.api_key_file, True


def _read(path: Path) -> tuple[bytes, str | None]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        return b"", f"cannot be read: {error.strerror}"
    return (b"", f"is longer than {MAX_BYTES} bytes") if len(data) > MAX_BYTES else (data, None)


def _key_problem(data: bytes) -> str | None:
    key = data.strip()
    if not key:
        return "is empty: it must hold the key"
    if len(key) > KEY_CHARS or not key.isascii() or not key.decode("ascii", "replace").isprintable() or b" " in key:
        return "does not hold a key alone: one line of printable characters without spaces"
    return None


def _authority_problem(data: bytes) -> str | None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=data.decode("ascii", "ignore"))
    except (ValueError, ssl.SSLError):
        return "holds no certificate authority: it must be PEM"
    return None
