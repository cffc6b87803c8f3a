"""Where a checkpoint comes from: its content's digest, the checkpoint before it, and what was done in between."""

from __future__ import annotations

from hashlib import sha256

from msgspec import Struct, json

from router import __version__

HISTORY_MAX = 50
BORN, CONTINUED, RESTORED = "born", "continued", "restored"
UNSIGNED = {"lineage": None, "saved_at": 0.0}
"""Fields of a checkpoint that are not its content, and what they are while its digest is taken."""


class Step(Struct, frozen=True):
    """Something that was done to what is known. `what`: born, restored (from a form without lineage), reset, imported,
    frozen, thawed, widened, edited (by hand, outside the router)."""

    at: float
    what: str
    detail: str = ""


class Lineage(Struct, frozen=True):
    """`id` names the content; `parent` the checkpoint it went on from. `done` is what was done since then, `continued`
    where the router only went on learning. `estimator` is the digest of the artefact that the beliefs correct.
    `seen` counts what was learned from since birth: feedback and calls."""

    id: str
    parent: str | None
    router: str
    policy: str
    estimator: str
    created_at: float
    seen: dict[str, int]
    done: str
    history: tuple[Step, ...] = ()


def content_id(checkpoint: object) -> str:
    """Digest of a checkpoint's content, whose `UNSIGNED` fields are empty: the same for the struct and for the object
    that its JSON is read as, also where a later form has more fields."""
    return sha256(json.encode(checkpoint, order="sorted")).hexdigest()[:16]


def descend(
    parent: Lineage | None,
    steps: tuple[Step, ...],
    *,
    content: str,
    policy: str,
    estimator: str,
    seen: dict[str, int],
    at: float,
) -> Lineage:
    """The lineage of a checkpoint with this content, made `at` after `parent`. A checkpoint that says what its parent
    says is its parent."""
    if parent is not None and parent.id == content and not steps:
        return parent
    done = "; ".join(f"{s.what} {s.detail}".rstrip() for s in steps) or (BORN if parent is None else CONTINUED)
    before = () if parent is None else parent.history
    if parent is None and RESTORED not in {step.what for step in steps}:
        before = (Step(at, BORN),)
    return Lineage(
        id=content,
        parent=None if parent is None else parent.id,
        router=__version__,
        policy=policy,
        estimator=estimator,
        created_at=at,
        seen=seen,
        done=done,
        history=(*before, *steps)[-HISTORY_MAX:],
    )
