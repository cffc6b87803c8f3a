"""The one file that names every concrete class: settings and a policy in, a daemon out."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random

import msgspec
import structlog
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from router.backends.aws.control.serving import ControlPlane
from router.backends.aws.jobs.backend import on_aws
from router.backends.aws.kinds import AWS_BACKENDS
from router.backends.lazy import Backends
from router.backends.openai_http import OpenAIHttpBackend
from router.backends.scrape.reader import MetricsReader
from router.backends.simulated import SimulatedBackend, Truth
from router.backends.simulated_like import fleet_like
from router.complexity.estimator import Estimator
from router.complexity.registry import load_estimator, shipped_prior
from router.complexity.trained import TrainedEstimator
from router.core import snapshot
from router.core.controller import Controller
from router.core.rollouts.gate import Asked, Verdict
from router.core.rollouts.rollouts import Rollouts
from router.core.rollouts.saved import decode, encode
from router.core.rollouts.status import status_of
from router.demo.truth import DemoTruth
from router.domain.deployment import Deployment
from router.domain.errors import RouterError, SettingsError
from router.domain.events import CheckpointSaved, PolicyApplied, PolicyRejected, PolicySource
from router.ingress.http import HttpIngress, HttpOptions
from router.ingress.mqtt import MqttIngress, MqttOptions
from router.policy.policy import Policy
from router.ports.backend import Backend
from router.routing.profile import Profile
from router.runtime.clock import RealClock
from router.runtime.daemon import Background, Daemon, Service
from router.runtime.dispatcher import Dispatcher
from router.runtime.jobs.desk import KIND, JobDesk, booked
from router.runtime.learned.desk import Desk
from router.runtime.load.servers import ServerLoads
from router.runtime.loops import Loops
from router.runtime.reload import PolicyWatch
from router.runtime.reload.gate import Gate
from router.runtime.reload.secret_files import look_at_secrets, refreshed
from router.runtime.reload.source import describe
from router.settings import Settings
from router.storage import checkpoint
from router.storage.decision_log import DecisionLog
from router.storage.decision_records import log_files, read_last
from router.storage.history import History
from router.storage.history_entries import history_file
from router.storage.jobs.store import SqliteJobStore
from router.storage.journal import SqliteJournal
from router.storage.kept_parts import SqliteParts
from router.storage.paid_calls import recover_spending
from router.storage.state_directory import make_state_directory
from router.telemetry import logs
from router.telemetry.keeper import Keeper
from router.telemetry.metrics import Metrics, render
from router.telemetry.policy_status import PolicyStatus
from router.telemetry.recent import RecentDecisions
from router.telemetry.sink import Sink, Subscriber

TICK_S = 0.1
DRAIN_S = 0.02
CHECKPOINT_S = 30.0
GATE_S = 2.0

log = structlog.get_logger("router")


def trained_estimator(artefact: Path | None) -> TrainedEstimator:
    """The trained estimator in a file, or the shipped prior."""
    if artefact is None:
        return shipped_prior()
    try:
        return load_estimator(artefact.read_bytes())
    except OSError as error:
        raise SettingsError(f"the artefact {artefact}: {error.strerror}") from None


def estimator_for(trained: TrainedEstimator, deployments: Iterable[Deployment]) -> Estimator:
    """Narrowed to the models that may be asked for; what is derived from another model starts where that one is."""
    fleet = tuple(deployments)
    bases = {d.model: d.derived_from for d in fleet if d.derived_from is not None}
    return trained.serving({(d.model, d.tier): None for d in fleet}, bases)


def controller_for(
    policy: Policy, trained: TrainedEstimator, *, rng: Random, profile: Profile | None = None
) -> Controller:
    """A controller that has learned nothing yet; `profile` takes the place of the router's own way of deciding."""
    estimator = estimator_for(trained, policy.deployments)
    return Controller(policy, estimator, rng=rng, name=f"d{secrets.token_hex(4)}", profile=profile)


class House:
    """A daemon and the parts that those who start it may want to reach."""

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        *,
        truth: Truth | None = None,
        subscribers: Sequence[Subscriber] = (),
    ) -> None:
        self.settings = settings
        self.clock = RealClock()
        self.registry = CollectorRegistry()
        self.metrics = Metrics(policy, self.registry)
        self._saving = asyncio.Lock()
        self._event_log = logs.configure(sys.stderr, level=settings.log.level.value, json=settings.log.as_json)
        state = settings.state_dir
        make_state_directory(state)
        self.decision_log = DecisionLog(state / "decisions")
        self.history = History(history_file(state), entries=settings.history_entries)
        self._status = PolicyStatus(policy.digest, at=self.clock.at(), router=settings.mqtt.client_id)
        self._recent = RecentDecisions()
        told = [*self.metrics.subscribers, self._event_log, self.decision_log, self._recent, *subscribers]
        self.aws = ControlPlane(self.clock)
        told += [self.history, self._status, Keeper(self._keep), self.aws.counts]
        self.sink = Sink(told)
        self.metrics.watch_sink(self.sink)
        self.metrics.watch_decision_log(lambda: self.decision_log.lost, lambda: self.decision_log.written)
        self._trained = trained_estimator(settings.artefact)
        self.controller = controller_for(policy, self._trained, rng=Random(settings.seed))
        self._checkpoint, self._rollouts_file = checkpoint.checkpoint_file(state), checkpoint.rollouts_file(state)
        recover_spending(self.controller.spending, self.decision_log.folder, self._restore(), at=self.clock.at())
        self._resume()
        self._follow()
        self._truth = truth or DemoTruth()
        kinds = {**AWS_BACKENDS, KIND: self._jobs, "simulated": self._simulated}
        self._backends = Backends({"openai_http": OpenAIHttpBackend, **kinds})
        self.dispatcher = Dispatcher(self.controller, self._backends, self.clock, self.sink)
        self.dispatcher.remarks.append(self._status.remark)
        parts = self.dispatcher.fanout.store = SqliteParts(state / "parts.sqlite")
        self.http = self._http()
        self.journal: SqliteJournal | None = None
        secrets_now = look_at_secrets(policy.deployments).prints
        watch = PolicyWatch(
            settings.policies, current=policy.digest, apply=self.apply, reject=self._reject, secrets=secrets_now
        )
        self.servers = ServerLoads(self.controller, MetricsReader(), self.clock, self.sink)
        services: list[Service] = [JobDesk(self.dispatcher, self._backends), self.servers, self.http, watch]
        if settings.mqtt.enabled:
            services.append(self._mqtt())
        self.daemon = Daemon(self.dispatcher, services, self._loops(), [self._close, parts.close])

    def _jobs(self) -> Backend:
        store = SqliteJobStore(self.settings.state_dir / "batch_jobs.sqlite")
        return on_aws(store, self.clock, booked(self.controller, self.clock, self.sink), self.dispatcher.deployments)

    def _simulated(self) -> Backend:
        """Servers that behave as the policy's simulated deployments would; nothing is called or paid."""
        fleet = fleet_like(self.controller.policy.deployments)
        assert fleet is not None
        origin_s = asyncio.get_running_loop().time()
        return SimulatedBackend(fleet, self._truth, origin_s=origin_s, seed=self.settings.seed or 0, piece_tokens=1)

    def apply(self, policy: Policy, source: PolicySource | None = None) -> None:
        """Put a policy in force, or have the files read again that it refers to."""
        simulated, fleet = self._backends.made("simulated"), fleet_like(policy.deployments)
        if isinstance(simulated, SimulatedBackend) and fleet is not None:
            simulated.adopt(fleet)
        self.controller.estimator = estimator_for(self._trained, policy.deployments)
        at, changed = self.clock.at(), source.changed if source is not None else ()
        events = self.controller.apply(policy, now=self.clock.now(), at=at)
        self._backends.forget(changed)
        self.servers.follow(changed)
        if not events:
            events.append(PolicyApplied(policy.digest, policy.digest, refreshed(policy.deployments, changed), at))
        for event in events:
            self.sink.emit(replace(event, source=source) if isinstance(event, PolicyApplied) else event)

    def _reject(self, digest: str, problems: tuple[str, ...], source: PolicySource | None = None) -> None:
        self.sink.emit(PolicyRejected(digest, problems, self.clock.at(), source))

    def _http(self) -> HttpIngress:
        http = self.settings.http
        keys, admin = (frozenset(k.get_secret_value() for k in of) or None for of in (http.api_keys, http.admin_keys))
        options = HttpOptions(http.host, http.port, http.max_body_bytes, api_keys=keys, admin_keys=admin)
        if options.lets_anyone_in:
            log.warning("http_open_to_all", host=http.host, detail="set ROUTER_HTTP__API_KEYS")
        return HttpIngress(
            options,
            self.dispatcher,
            self.sink,
            lambda: render(self.registry),
            decisions=self._recent.page,
            policy=self._standing,
            learned=Desk(self.controller, self.clock, self.save),
        )

    def _standing(self) -> bytes:
        """What is told at /v1/policy."""
        controller, now, at = self.controller, self.clock.now(), self.clock.at()
        return msgspec.json.encode(
            {
                "in_force": controller.policy.digest,
                "written": controller.rollouts.written.digest,
                "status": msgspec.Raw(self._status.page()),
                "rollouts": status_of(controller.rollouts, now=now),
                "budgets": controller.spending.balances(at=at),
                "limits": controller.fleet.limits(),
                "tuning": controller.tuning.standing(),
                "mean_budgets": controller.duals.paces.balances(),
            }
        )

    def _mqtt(self) -> Service:
        mqtt = self.settings.mqtt
        options = MqttOptions(
            url=mqtt.url,
            group=mqtt.group,
            prefix=mqtt.prefix,
            callback_prefix=mqtt.callback_prefix,
            client_id=mqtt.client_id,
            username=mqtt.username,
            password=mqtt.password,
            ca_file=mqtt.ca_file,
            cert_file=mqtt.cert_file,
            key_file=mqtt.key_file,
            receive_maximum=mqtt.receive_maximum,
            session_expiry_s=mqtt.session_expiry_s,
            retention_s=mqtt.retention_s,
            keepalive_s=mqtt.keepalive_s,
            max_body_bytes=self.settings.http.max_body_bytes,
        )
        journal = self.journal = SqliteJournal(self.settings.state_dir / "journal.sqlite")
        self.metrics.watch_journal(lambda: journal.backlog)
        ingress = MqttIngress(options, self.dispatcher, journal, self.sink, status=self._status.page)
        self.dispatcher.cascade.verifier = ingress.verdicts
        self._status.on_change.append(ingress.status_changed)
        self.dispatcher.conditions.append(lambda: None if ingress.is_connected else f"no connection to {mqtt.url}")
        return Background(ingress.run, ingress.stop, name="mqtt", on_end=self._stop_on_failure)

    def _stop_on_failure(self, error: BaseException | None) -> None:
        """A door that broke for good takes the daemon down, so that whoever supervises it can start it anew."""
        if error is not None:
            log.error("service_failed", service="mqtt", error=type(error).__name__, detail=str(error))
            self.daemon.stop()

    def _loops(self) -> Loops:
        loops = Loops()
        loops.every(TICK_S, "tick", self.dispatcher.tick)
        loops.every(DRAIN_S, "telemetry", self._drain)
        loops.every(CHECKPOINT_S, "checkpoint", self.save)
        gate = Gate(self.controller.rollouts.asked, self._judge_edit, self._hear, now=self.clock.now)
        loops.every(GATE_S, "gate", gate.look)
        loops.every(GATE_S, "provisioned", lambda: self.aws.beat(self.controller, self.sink.emit))
        return loops

    def _judge_edit(self, asked: Asked) -> Verdict:
        """By the last decisions of the log; reads files, and takes its time."""
        from router.sim.off_policy.gate import judge

        logged = read_last(log_files(self.decision_log.folder), asked.require.decisions)
        return judge(logged, asked.old, asked.new, asked.request_class, asked.require)

    def _hear(self, asked: Asked, verdict: Verdict) -> None:
        for event in self.controller.hear(asked, verdict, now=self.clock.now(), at=self.clock.at()):
            self.sink.emit(event)

    def _drain(self) -> None:
        """One batch; the next at once while more wait, so that the queue cannot grow."""
        if self.sink.drain() > 0:
            asyncio.get_running_loop().call_soon(self._drain)

    def _keep(self) -> None:
        """Write which classes are in force and how their edits stand: a small file, at edits and transitions only."""
        checkpoint.save(self._rollouts_file, encode(self.controller.rollouts.saved(now=self.clock.now())))

    async def save(self) -> None:
        """Write a checkpoint."""
        at = self.clock.at()
        async with self._saving:
            data = snapshot.take_for_keeps(self.controller, at=at)
            await asyncio.shield(asyncio.to_thread(checkpoint.save, self._checkpoint, data))
        self.sink.emit(CheckpointSaved(str(self._checkpoint), len(data), at))

    def _follow(self) -> None:
        """Have the metrics show what is in force, now and after every edit and every step of a rollout."""
        rollouts = self.controller.rollouts
        self.metrics.follow(
            lambda: (rollouts.policy, rollouts.written),
            rollouts=status_of(rollouts, now=self.clock.now()),
            ceilings=self.controller.ceilings.learned(),
        )

    def _restore(self) -> float:
        """Take up what was saved; when that was, 0 where nothing was taken up."""
        data = checkpoint.load(self._checkpoint)
        if data is None:
            return 0.0
        try:
            restored = snapshot.restore(self.controller, data)
            log.info("checkpoint_restored", saved_at=restored.saved_at, policy=restored.policy)
        except RouterError as error:
            aside = self._checkpoint.with_suffix(".unreadable")
            self._checkpoint.replace(aside)
            log.warning("checkpoint_ignored", reason=str(error), kept_as=str(aside))
            return 0.0
        return restored.saved_at

    def _resume(self) -> None:
        """Take up rollouts where an earlier life left them. Where that cannot be read, what is written is in force."""
        path, now, at = self._rollouts_file, self.clock.now(), self.clock.at()
        data = checkpoint.load(path)
        if data is not None:
            try:
                saved = decode(data)
                Rollouts(self.controller.policy).resume(saved, now=now, at=at)
            except (RouterError, ArithmeticError, LookupError, TypeError, ValueError) as error:
                aside = path.with_suffix(".unreadable")
                path.replace(aside)
                log.warning(
                    "rollouts_forgotten", reason=str(error), kept_as=str(aside), consequence="edits are in force"
                )
            else:
                for event in self.controller.resume(saved, now=now, at=at):
                    self.sink.emit(event)
        self._status.resume(status_of(self.controller.rollouts, now=now), at=at)

    async def _close(self) -> None:
        """What was learned and what happened go to disk last, after every request has ended."""
        await self._backends.close()
        await self.aws.close()
        await self.save()
        if self.journal is not None:
            await self.journal.close()
        self.sink.drain_all()
        self.decision_log.close()
        self.history.close()

    async def run(self, ready: Callable[[], None] | None = None) -> None:
        """Run the daemon until it is told to stop."""
        source = await asyncio.to_thread(describe, self.settings.policies, ())
        self._keep()
        self.history.begin(self.controller.rollouts.written.digest, source)
        await self.daemon.run(ready)
