"""What a restart must not forget: the classes in force, the edits on their way or taken back, decided experiments.

It is kept apart from what was learned, and with a checksum: a learned state that cannot be read costs accuracy, but
without this an edit that was taken back would be in force.
"""

from __future__ import annotations

from hashlib import sha256

from msgspec import DecodeError, Raw, Struct, ValidationError, json

from router.core.rollouts.experiment import SavedExperiment
from router.core.rollouts.trial import SavedTrial
from router.domain.errors import RouterError
from router.domain.slo import RequestClass

_VERSION = 1


class SavedRollouts(Struct, frozen=True):
    """`classes` are those in force."""

    classes: tuple[RequestClass, ...]
    trials: tuple[SavedTrial, ...] = ()
    experiments: tuple[SavedExperiment, ...] = ()


class _Envelope(Struct, frozen=True):
    version: int
    checksum: str
    rollouts: Raw


def encode(saved: SavedRollouts) -> bytes:
    """As JSON, with a checksum."""
    body = json.encode(saved)
    return json.encode(_Envelope(_VERSION, sha256(body).hexdigest(), Raw(body)))


def decode(data: bytes) -> SavedRollouts:
    """Raises `RouterError` (`invalid_checkpoint`) for what was not written by `encode`, or was changed since."""
    try:
        envelope = json.decode(data, type=_Envelope)
        body = bytes(envelope.rollouts)
        if envelope.version != _VERSION or sha256(body).hexdigest() != envelope.checksum:
            raise ValidationError("its version or its checksum is wrong")
        return json.decode(body, type=SavedRollouts)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RouterError(f"the state of the rollouts cannot be read: {error}", code="invalid_checkpoint") from error
