"""The text of a policy directory, and what it means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from router.domain.deployment import Deployment
from router.domain.errors import PolicyError
from router.policy.compile import Documents, compile_policy
from router.policy.compile_fleet import unreadable
from router.policy.parse import MAX_CHARS, PolicyErrors, read_document
from router.policy.policy import Policy
from router.runtime.reload.price_files import price_files
from router.runtime.reload.secret_files import SecretFiles, look_at_secrets

SUB_DIRECTORIES = ("classes", "fleet")
SUFFIXES = frozenset({".yaml", ".yml"})
READS_TO_SETTLE = 5


def load_directory(directory: Path, *, deployments: Sequence[Deployment] | None = None) -> Policy:
    """The policy in a directory; raises `PolicyErrors`. `deployments` takes the place of its fleet."""
    documents = read_directory(directory)
    return compile_policy(documents, deployments=deployments, price_files=price_files(documents))


def load_to_serve(directory: Path) -> Policy:
    """The policy in a directory, whose keys and certificate authorities must be there too; raises `PolicyErrors`."""
    documents = read_directory(directory)
    policy = compile_policy(documents, price_files=price_files(documents))
    check_secrets(documents, look_at_secrets(policy.deployments))
    return policy


def check_secrets(documents: Documents, secrets: SecretFiles) -> None:
    """Raise `PolicyErrors` where a file that the documents refer to cannot be used."""
    if secrets.problems:
        sources = [source for file, text in documents if (source := read_document(file, text)[0]) is not None]
        raise PolicyErrors(unreadable(sources, secrets.problems))


def read_directory(directory: Path) -> Documents:
    """(file name, text) of every policy file, in order of name; raises `PolicyErrors` where one is unreadable."""
    documents: list[tuple[str, str]] = []
    problems: list[PolicyError] = []
    try:
        paths = sorted(_files(directory), key=str)
    except OSError as error:
        raise PolicyErrors([_unreadable(directory, f"cannot be read: {error.strerror}")]) from error
    for path in paths:
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
        why = "" if directory.is_dir() else ": there is no such directory"
        problems.append(_unreadable(directory, f"no *.yaml file here, nor in its classes/ or fleet/{why}"))
    if problems:
        raise PolicyErrors(problems)
    return documents


def _files(directory: Path) -> Iterator[Path]:
    for folder in (directory, *(directory / name for name in SUB_DIRECTORIES)):
        with suppress(FileNotFoundError, NotADirectoryError):  # it may go at any moment
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.suffix in SUFFIXES and not path.name.startswith(".") and path.is_file():
                    yield path


def _unreadable(path: Path, message: str) -> PolicyError:
    return PolicyError(message, file=str(path), line=1, column=1)


def settled(directory: Path) -> Documents:
    """The text once two readings agree, so that no reading straddles a swap; the last one if they never do."""
    last: Documents | None = None
    for _ in range(READS_TO_SETTLE):
        documents = read_directory(directory)
        if documents == last:
            break
        last = documents
    return documents
