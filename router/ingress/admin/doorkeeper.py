"""Who may ask for what: producers show one of the API keys, operators one of theirs.

What changes the router's mind, or takes it elsewhere, is for operators alone. Where nobody gave them keys, it is shut,
but for a router that has no keys at all and listens on loopback: who reaches that one is on its machine, unless a proxy
passes it on, or a page in a browser there has its own name lead to loopback.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from router.domain.errors import RequestError
from router.ingress.http_answers import check_key

_SETTING = "ROUTER_HTTP__ADMIN_KEYS"
_PASSED_ON = frozenset({b"forwarded", b"via", b"x-forwarded-for", b"x-real-ip"})
"""Headers that proxies add."""


class Doorkeeper:
    """`None` in place of keys: nobody has any. Raises `RequestError`: `invalid_api_key` for a key that is missing or
    unknown, `admin_key_required` for one that is not an operator's."""

    def __init__(self, api_keys: frozenset[str] | None, admin_keys: frozenset[str] | None, *, host: str) -> None:
        self._admin = admin_keys
        self._all = api_keys if api_keys is None or admin_keys is None else api_keys | admin_keys
        self._is_private = api_keys is None and is_loopback(host)

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse who is neither a producer nor an operator."""
        check_key(headers, self._all)

    def check_reader(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse who is no operator, where operators have keys; else who is no producer."""
        if self._admin is None:
            self.check(headers)
        else:
            self.check_operator(headers)

    def check_operator(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse who is no operator."""
        self.check(headers)
        if self._admin is not None:
            try:
                check_key(headers, self._admin)
            except RequestError:
                if self._all is None:
                    raise
                raise RequestError(
                    f"This takes an operator's key, one of {_SETTING}.", code="admin_key_required"
                ) from None
        elif not (self._is_private and _is_near(headers)):
            raise RequestError(
                f"This takes an operator's key, and the router has none: set {_SETTING} where it runs.",
                code="admin_key_required",
            )


def _is_near(headers: Mapping[bytes, bytes]) -> bool:
    """Whether it comes as from this machine: by no proxy, and to a name of loopback."""
    name = headers.get(b"host", b"").decode("latin-1")
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    return is_loopback(name) and _PASSED_ON.isdisjoint(headers)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
