"""Ports for processes that are told theirs before they start."""

from __future__ import annotations

import socket
import sys


def free_port() -> int:
    """A port of 127.0.0.1 that is free and, on Linux, stays so for others: as long as this process lives the kernel
    gives it to nobody who asks for any port, nor to an outgoing connection. Who is told it may listen there, again and
    again, if it sets SO_REUSEADDR, as servers do; until then connections are refused.
    """
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind(("127.0.0.1", 0))
    port = int(probe.getsockname()[1])
    if sys.platform == "linux":
        probe.detach()  # bound and never listening
    else:
        probe.close()
    return port
