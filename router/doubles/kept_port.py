"""The port of a double that has stopped and will start again."""

from __future__ import annotations

import socket
import weakref
from collections.abc import Callable
from contextlib import suppress


def keep_port(owner: object, host: str, port: int) -> Callable[[], object]:
    """Hold a port that `owner` listens on no more, so that the system gives it to nobody who asks for any; call what
    is given back to let it go. The end of `owner` does so too.

    Nothing listens meanwhile: connections are refused.
    """
    place = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with suppress(OSError):  # somebody has it already: whoever starts is told
        place.bind((host, port))
    return weakref.finalize(owner, place.close)
