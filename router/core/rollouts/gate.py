"""Does the decision log speak for an edit before any request gets it?

A canary whose terms `require` something waits until somebody who can read the log has estimated what the edit would
have earned. The core asks and is answered; who reads the log, and on which thread, is the shell's affair.
"""

from __future__ import annotations

from msgspec import Struct

from router.domain.rollout import Require
from router.policy.policy import Policy


class Asked(Struct, frozen=True):
    """An edit that waits: `new` is the policy in force (`old`) with this one class as it is written."""

    request_class: str
    version: str
    require: Require
    old: Policy
    new: Policy


class Verdict(Struct, frozen=True):
    """What the log says, with its figures: `passed` is `None` where it says too little, and what would help is in the
    reason."""

    passed: bool | None
    reason: str
