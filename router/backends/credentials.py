"""Keys and certificate authorities, by reference: an environment variable or a file.

Files are read at the first call that needs them and kept until `forget`. A connection belongs to the authority it was
checked against, so none made under an old one is used again; a key goes with each call.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Collection, Mapping
from pathlib import Path

from router.domain.errors import Refused


class Credentials:
    """`environ` holds the keys that are named by variable."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._keys: dict[str, str] = {}
        self._authorities: dict[str, ssl.SSLContext] = {}

    def forget(self, files: Collection[str]) -> None:
        """These files hold something else now: read them again when a call needs them. Calls under way go on."""
        for file in files:
            self._keys.pop(file, None)
            self._authorities.pop(file, None)

    def trust(self, ca_file: str | None) -> ssl.SSLContext | bool:
        """What aiohttp takes as `ssl`; raises `OSError` where the file cannot be used."""
        if ca_file is None:
            return True
        if ca_file not in self._authorities:
            self._authorities[ca_file] = ssl.create_default_context(cafile=ca_file)
        return self._authorities[ca_file]

    def key(self, env: str | None, file: str | None) -> str | None:
        """The key in a file, else in a variable, where one is named; raises `Refused` where it is not there."""
        if file is not None:
            return self._key_in(file)
        if env is None:
            return None
        key = self._environ.get(env)
        if not key:
            raise Refused(f"the environment variable {env} is not set", code="backend_forbidden")
        return key

    def _key_in(self, file: str) -> str:
        key = self._keys.get(file)
        if key is None:
            try:
                key = Path(file).read_text("ascii").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = "it is not text" if isinstance(error, UnicodeDecodeError) else error.strerror
                raise Refused(f"the key file {file} cannot be read: {reason}", code="backend_forbidden") from None
            if not key or not key.isprintable():
                raise Refused(f"the key file {file} does not hold a key alone", code="backend_forbidden")
            self._keys[file] = key
        return key
