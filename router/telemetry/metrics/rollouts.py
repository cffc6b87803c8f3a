"""How edits come into force: where each rollout stands, what a shadow would do otherwise, how the arms compare.

Shadow sums are over the requests that both sides would serve, so that one can be divided by the other; where the edit
would refuse, only `result="refused"` counts. A request with no side (no rollout, no experiment) is not counted here,
nor is one that the cache answered: it says nothing of what its side does.
The figures of an experiment stay after it ends, until the next one of the class begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from math import isfinite

from prometheus_client import CollectorRegistry

from router.core.rollouts.status import RolloutStatus
from router.domain.decision import Terms
from router.domain.events import CACHE, ExperimentObserved, RequestEnded, RolloutChanged, ShadowCompared
from router.domain.rollout import Measure, RolloutMode
from router.domain.slo import RequestClass
from router.policy.policy import Policy
from router.telemetry.labels import CANCELLED, CLIENT_GONE, SIDES, Allowed, Vocabulary
from router.telemetry.series import Counter, Gauge
from router.telemetry.sink import Handlers

STABLE = "stable"
STATES = (STABLE, "shadow", "waiting", "canary", "promoted", "refused", "rolled_back", "superseded", "ab", "concluded")
BEGINNINGS = frozenset({"shadow", "canary", "ab"})
ENDS = {"promoted": 1.0, "refused": 0.0, "rolled_back": 0.0, "superseded": 0.0}
"""Where an edit is after its end, whatever its share was before."""
RESULTS = ("same", "other", "refused")
LIVE, SHADOW = "live", "shadow"
MET = ("false", "true")


class RolloutMetrics:
    """Rollout states, shadow comparisons, arms and experiments, all by class."""

    name = "metrics_rollouts"

    def __init__(self, registry: CollectorRegistry, policy: Policy, vocabulary: Vocabulary) -> None:
        self._words = vocabulary
        self._states = Allowed((state, state) for state in STATES)
        self._measures = Allowed((measure.value, measure.value) for measure in Measure)
        self._versions: dict[str, str] = {}
        self._rollout_series(registry)
        self._shadow_series(registry)
        self._arm_series(registry)
        self.create(policy)

    def _rollout_series(self, registry: CollectorRegistry) -> None:
        by_state = ("request_class", "state")
        self._state = Gauge(
            registry, "router_rollout_state", "1 for what was last said of the class's rollout.", by_state
        )
        self._ratio = Gauge(
            registry, "router_rollout_ratio", "Share of requests that get the new side.", ("request_class",)
        )
        self._changes = Counter(registry, "router_rollout_changes", "Steps of rollouts and experiments.", by_state)

    def _shadow_series(self, registry: CollectorRegistry) -> None:
        self._compared = Counter(
            registry,
            "router_shadow_decisions",
            "Decisions compared with what the edit would have decided.",
            ("request_class", "result"),
        )
        self._picks = Counter(
            registry, "router_shadow_picks", "Picks of both sides.", ("request_class", "side", "deployment")
        )
        by_side = ("request_class", "side")
        self._good = Counter(
            registry, "router_shadow_predicted_slo_good", "Sum of P(SLO met) of the picks compared.", by_side
        )
        self._adequate = Counter(
            registry, "router_shadow_predicted_adequate", "Sum of P(adequate) of the picks compared.", by_side
        )
        self._cost = Counter(
            registry, "router_shadow_cost_usd", "Sum of the cost predicted of the picks compared.", by_side
        )

    def _arm_series(self, registry: CollectorRegistry) -> None:
        by_arm, by_measure = ("request_class", "arm"), ("request_class", "arm", "measure")
        self._arm_requests = Counter(
            registry, "router_arm_requests", "Requests of one side that ended.", (*by_arm, "slo_met")
        )
        self._arm_useful = Counter(
            registry, "router_arm_useful_requests", "Sum of P(adequate) of answers within objectives.", by_arm
        )
        self._arm_cost = Counter(registry, "router_arm_cost_usd", "Dollars paid for one side.", by_arm)
        self._arm_input = Counter(registry, "router_arm_input_tokens", "Prompt tokens of one side.", by_arm)
        self._arm_output = Counter(registry, "router_arm_output_tokens", "Answer tokens of one side.", by_arm)
        self._requests = Gauge(registry, "router_experiment_requests", "Requests behind a mean.", by_measure)
        self._mean = Gauge(registry, "router_experiment_mean", "Mean of a measure over one side.", by_measure)
        self._low = Gauge(registry, "router_experiment_low", "Lower end of the interval of the mean.", by_measure)
        self._high = Gauge(registry, "router_experiment_high", "Upper end of the interval of the mean.", by_measure)

    def create(self, policy: Policy) -> None:
        """Series at 0 for each class, and for the arms and shadows that it may have; a new class is stable."""
        for request_class in policy.classes:
            name = self._words.classes[request_class.name]
            for state in STATES:
                self._state.begin((name, state), float(state == STABLE))
            self._ratio.create(((name,),))
            self._changes.create(product((name,), STATES[1:]))
            self._compared.create(product((name,), RESULTS))
            for counter in (self._good, self._adequate, self._cost):
                counter.create(product((name,), (LIVE, SHADOW)))
            if request_class.rollout.mode is RolloutMode.SHADOW:
                deployments = [self._words.deployments[d.name] for d in policy.deployments]
                self._picks.create(product((name,), (LIVE, SHADOW), deployments))
            self._create_arms(name, request_class)

    def _create_arms(self, name: str, request_class: RequestClass) -> None:
        rollout = request_class.rollout
        sides = SIDES if rollout.mode is RolloutMode.CANARY else tuple(arm.name for arm in rollout.arms)
        arms = [self._words.arms[side] for side in sides]
        self._arm_requests.create(product((name,), arms, MET))
        for counter in (self._arm_useful, self._arm_cost, self._arm_input, self._arm_output):
            counter.create(product((name,), arms))

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {
            RolloutChanged: self._on_changed,
            ShadowCompared: self._on_compared,
            ExperimentObserved: self._on_observed,
            RequestEnded: self._on_ended,
        }

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_changed(self, event: RolloutChanged) -> None:
        name = self._words.classes[event.request_class]
        self._stand(name, event.state, event.ratio)
        self._changes.add((name, self._states[event.state]))
        if event.state in BEGINNINGS and self._versions.get(name) != event.version:
            self._versions[name] = event.version
            for gauge in (self._requests, self._mean, self._low, self._high):
                gauge.forget(lambda labels: labels[0] == name)

    def resume(self, standing: Iterable[RolloutStatus]) -> None:
        """Show where rollouts stand that are on their way since before anybody was told; counts no change."""
        for status in standing:
            self._stand(self._words.classes[status.request_class], status.state, status.ratio)

    def _stand(self, name: str, state: str, ratio: float) -> None:
        self._set_state(name, state)
        self._ratio.put((name,), ENDS.get(state, ratio))

    def _set_state(self, name: str, state: str) -> None:
        for each in STATES:
            self._state.put((name, each), float(each == state))

    def _on_compared(self, event: ShadowCompared) -> None:
        words = self._words
        name = words.classes[event.request_class]
        if event.shadow is None:
            self._compared.add((name, "refused"))
            return
        self._compared.add((name, "same" if event.would == event.chosen else "other"))
        self._add_terms((name, LIVE), words.deployments[event.chosen], event.live)
        self._add_terms((name, SHADOW), words.deployments[event.would], event.shadow)

    def _add_terms(self, key: tuple[str, str], deployment: str, terms: Terms) -> None:
        self._picks.add((*key, deployment))
        self._good.add(key, terms.p_slo)
        self._adequate.add(key, terms.p_adequate)
        self._cost.add(key, terms.cost_usd)

    def _on_observed(self, event: ExperimentObserved) -> None:
        words = self._words
        key = (words.classes[event.request_class], words.arms[event.arm], self._measures[event.measure])
        self._requests.put(key, event.requests)
        self._mean.put(key, event.mean)
        if isfinite(event.low) and isfinite(event.high):
            self._low.put(key, event.low)
            self._high.put(key, event.high)

    def _on_ended(self, event: RequestEnded) -> None:
        if not event.arm or event.deployment == CACHE or event.code == CLIENT_GONE or event.status == CANCELLED:
            return
        key = (self._words.classes[event.request_class], self._words.arms[event.arm])
        self._arm_requests.add((*key, "true" if event.slo_met else "false"))
        self._arm_cost.add(key, event.cost_usd)
        self._arm_input.add(key, event.input_tokens)
        self._arm_output.add(key, event.output_tokens)
        if event.slo_met and event.p_adequate is not None:
            self._arm_useful.add(key, event.p_adequate)
