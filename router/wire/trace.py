"""W3C trace context: read a `traceparent`, make one for the calls below it.

The form is `version-trace_id-parent_id-flags` in lower-case hex of 2, 32, 16 and 2 digits (W3C Trace Context,
level 1). Ids of zeros and version ff are invalid; a later version may carry more fields, which are ignored.
"""

from __future__ import annotations

import re
from random import Random

from msgspec import Struct

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
SAMPLED = 1


class Trace(Struct, frozen=True):
    """Where a request stands in a trace that began elsewhere, or here."""

    trace_id: str
    parent_id: str
    flags: int = SAMPLED

    @property
    def header(self) -> str:
        """The `traceparent` value."""
        return f"00-{self.trace_id}-{self.parent_id}-{self.flags:02x}"

    def child(self, rng: Random) -> Trace:
        """The same trace with a new parent id: what is sent on to a backend."""
        return Trace(self.trace_id, _hex(rng, 16), self.flags)


def read_trace(header: str | None) -> Trace | None:
    """The trace a `traceparent` names; `None` where there is none or it is not valid."""
    found = _TRACEPARENT.fullmatch(header) if header else None
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(parent_id, 16):
        return None
    return Trace(trace_id, parent_id, int(flags, 16))


def new_trace(rng: Random) -> Trace:
    """The beginning of a trace."""
    return Trace(_hex(rng, 32), _hex(rng, 16))


def _hex(rng: Random, digits: int) -> str:
    return f"{rng.getrandbits(4 * digits) or 1:0{digits}x}"
