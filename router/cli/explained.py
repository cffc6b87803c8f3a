"""What would be decided about a request now: a controller with what the daemon has learned, asked once and let go."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from router.core import snapshot
from router.core.controller import Controller
from router.core.evidence import Hold
from router.core.rollouts.saved import decode
from router.core.ticket import Ticket
from router.domain.decision import Candidate, Decision, Exclusion
from router.domain.errors import Expired, Rejected, RequestError, RouterError
from router.domain.request import Request
from router.domain.slo import RequestClass
from router.domain.view import DeploymentView
from router.policy.match_reasons import Considered, considered
from router.routing.need import Need
from router.routing.pickers import Best
from router.routing.profile import Profile, standard
from router.runtime.clock import RealClock
from router.runtime.reload import load_directory
from router.settings import Settings
from router.storage import checkpoint
from router.wire.openai import Envelope, read_request, upstream_body
from router.wiring import controller_for, trained_estimator

_TRANSPORT = frozenset({"model", "stream", "stream_options"})
"""Fields of the body sent on that say nothing about how the answer is made."""


class Learned(Struct, frozen=True):
    """Where the predictions come from: a checkpoint written at `saved_at` (wall seconds) under `policy`; both `None`
    where there is none, and predictions are priors."""

    file: str
    saved_at: float | None = None
    policy: str | None = None


class Explained(Struct, frozen=True):
    """What would become of one request. `outcome`: decided, shed, waits, refused. `decision` is there for the first
    two; `lows` are lower bounds of P(adequate) by deployment; `filled_in` what the class adds to the body."""

    outcome: str
    request_class: RequestClass
    asked: tuple[Considered, ...]
    use_case: str
    complexity: float
    input_tokens: int
    policy: str
    learned: Learned
    message: str = ""
    arm: str = ""
    decision: Decision | None = None
    excluded: tuple[Exclusion, ...] = ()
    lows: Mapping[str, float] = {}
    filled_in: Mapping[str, object] = {}
    limits: Mapping[str, str] = {}
    """What decides how many calls each deployment may have, and how many that is."""


class ShowingBest:
    """The router's own picker, which keeps the evidence of a request that it would shed."""

    name = Best.name

    def __init__(self) -> None:
        self._best = Best()
        self.shed = False

    def pick(
        self, candidates: Sequence[Candidate], views: Sequence[DeploymentView], need: Need, *, rng: Random
    ) -> tuple[int | None, list[float]]:
        """See `router.routing.pickers.Picker`."""
        index, probabilities = self._best.pick(candidates, views, need, rng=rng)
        self.shed = index is None
        if index is not None:
            best = max(range(len(candidates)), key=lambda i: probabilities[i])
            return best, probabilities
        return max(range(len(candidates)), key=lambda i: candidates[i].score), [0.0] * len(candidates)


def read_request_file(path: Path, envelope: Envelope) -> Request:
    """An OpenAI chat-completions body in a file; raises `RequestError` that says where it is wrong."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}") from None
    try:
        json.loads(body)
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: not UTF-8: {error.reason} at byte {error.start}", code="invalid_json") from None
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}:{error.colno}"
        raise RequestError(f"{where}: not JSON: {error.msg}", code="invalid_json") from None
    except RecursionError:
        raise RequestError(f"{path}: nested too deeply", code="invalid_json") from None
    try:
        return read_request(body, envelope)
    except RequestError as error:
        raise RequestError(f"{path}: {error}", code=error.code, param=error.param) from None


class Asking:
    """A controller over the policies and what was learned, as far as the disk knows: nothing is in flight on it, and
    nothing of it is written anywhere."""

    def __init__(self, settings: Settings) -> None:
        self._picker = ShowingBest()
        own = standard()
        profile = Profile(own.name, own.filters, own.scorer, self._picker)
        policy = load_directory(settings.policies)
        trained = trained_estimator(settings.artefact)
        self._controller = controller_for(policy, trained, rng=Random(0), profile=profile)
        self._learned = _take_up(self._controller, checkpoint.checkpoint_file(settings.state_dir))
        self._controller.duals.tick(self._controller.fleet.members.values(), now=RealClock.now())

    def explain(self, request: Request) -> Explained:
        """Admit and decide at the moment of its arrival; raises `RequestError` where the router would say that the
        request itself is wrong."""
        now, controller = request.arrived, self._controller
        ticket = controller.admit(request, now=now)
        common = Explained(
            outcome="refused",
            request_class=ticket.request_class,
            asked=considered(ticket.policy.classes, request, ticket.scored.use_case),
            use_case=ticket.scored.use_case,
            complexity=ticket.scored.complexity,
            input_tokens=request.input_tokens,
            policy=ticket.policy.digest,
            learned=self._learned,
            arm=ticket.arm,
            limits={n: f"{s.kind} {s.requests:.0f}" for n, s in controller.fleet.limits().items()},
        )
        try:
            decided = controller.decide(ticket, now=now)
        except (Rejected, Expired) as refusal:
            return replace(common, message=f"{refusal} ({refusal.code})")
        if isinstance(decided, Hold):
            return replace(common, outcome="waits", excluded=tuple(decided.excluded))
        attempt, _ = controller.start(ticket, now=now)
        return replace(
            common,
            outcome="shed" if self._picker.shed else "decided",
            decision=decided,
            excluded=decided.excluded,
            lows=_lows(controller, ticket, decided),
            filled_in=_added(request.payload, upstream_body(attempt)),
        )


def _take_up(controller: Controller, path: Path) -> Learned:
    """What a checkpoint holds; one that cannot be read is an error here, where the daemon would go on without it."""
    data = checkpoint.load(path)
    if data is None:
        return Learned(str(path))
    try:
        restored = snapshot.restore(controller, data)
        rollouts = checkpoint.load(checkpoint.rollouts_file(path.parent))
        if rollouts is not None:
            controller.resume(decode(rollouts), now=RealClock.now(), at=RealClock.at())
    except RouterError as error:
        raise RouterError(f"{path}: {error}; move it away, or name another --state", code=error.code) from None
    return Learned(str(path), restored.saved_at, restored.policy)


def _lows(controller: Controller, ticket: Ticket, decision: Decision) -> dict[str, float]:
    models = {d.name: d.model for d in controller.policy.deployments}
    return {c.deployment: ticket.qualities[models[c.deployment]][1] for c in decision.candidates}


def _added(asked: bytes, sent: bytes) -> dict[str, object]:
    """Fields of the body sent on that the sender left open."""
    before, after = json.loads(asked), json.loads(sent)
    return {k: v for k, v in after.items() if k not in _TRANSPORT and before.get(k) is None}
