"""Reserved capacity and what is wasted of it, lanes, and how many replicas are wanted.

Only reserved deployments have series of tokens and waste, and only classes with patience those of lanes. Shares and
waste are by the minute: a share is that of the last account that was closed. Which lane a deployment is in stands in
`router_deployment_lane`, to be joined with anything by deployment.
"""

from __future__ import annotations

from itertools import product

from prometheus_client import CollectorRegistry

from router.core.capacity.reserve import FILLING, SPILLING
from router.domain.control.capacity import GroupObserved, LaneChanged, ReserveObserved, SpillChanged, WantedReplicas
from router.domain.deployment import Kind
from router.policy.policy import Policy
from router.telemetry.labels import Allowed, Vocabulary, Words
from router.telemetry.series import Counter, Gauge
from router.telemetry.sink import Handlers

RESOURCES = ("input", "output")
WHY = ("room", "slack")


class CapacityMetrics:
    """By deployment, by group, and by lane."""

    name = "metrics_capacity"

    def __init__(self, registry: CollectorRegistry, policy: Policy, vocabulary: Vocabulary) -> None:
        self._words, self._reasons, self._groups = vocabulary, Words(), Allowed()
        by_deployment, by_group = ("deployment",), ("group",)
        by_resource = ("deployment", "resource")
        self._lane = Gauge(registry, "router_deployment_lane", "1 for the lane it is in.", ("deployment", "lane"))
        self._tokens = Counter(registry, "router_reserved_tokens", "Tokens of reserved capacity used.", by_resource)
        self._ratio = Gauge(registry, "router_reserved_utilisation_ratio", "Share used in a minute.", by_resource)
        self._idle = Counter(registry, "router_reserved_wasted_seconds", "Time paid for and not used.", by_deployment)
        self._usd = Counter(registry, "router_reserved_wasted_usd", "Dollars paid for hours not used.", by_deployment)
        self._spilling = Gauge(registry, "router_reserved_spilling", "1 while load spills to on-demand.", by_deployment)
        self._spills = Counter(
            registry, "router_reserved_spill_changes", "Beginnings and ends of spilling.", ("deployment", "state")
        )
        self._wanted = Gauge(registry, "router_wanted_replicas", "Replicas that the offered work asks for.", by_group)
        self._offered = Gauge(registry, "router_offered_replicas", "Offered work in replicas, not rounded.", by_group)
        self._listed = Gauge(registry, "router_listed_replicas", "Replicas that the policy lists.", by_group)
        self._scalings = Counter(
            registry, "router_wanted_replicas_changes", "Moves of the wanted number.", ("group", "direction")
        )
        self._kept = Counter(
            registry,
            "router_lane_changes",
            "Requests that were kept for a cheaper lane, by where they went and why.",
            ("request_class", "old", "new", "reason"),
        )
        self._kept_s = Counter(registry, "router_lane_kept_seconds", "How long they were kept.", ("request_class",))
        self.create(policy)

    def create(self, policy: Policy) -> None:
        """Series at 0 for what this policy reserves, groups and lets wait."""
        self._lane.clear()
        for d in policy.deployments:
            self._lane.put((self._words.deployments[d.name], d.lane.value), 1.0)
        reserved = [self._words.deployments[d.name] for d in policy.deployments if d.kind is Kind.PROVISIONED]
        self._tokens.create(product(reserved, RESOURCES))
        self._ratio.create(product(reserved, RESOURCES))
        for counter in (self._idle, self._usd):
            counter.create((name,) for name in reserved)
        self._spilling.create((name,) for name in reserved)
        self._spills.create(product(reserved, (FILLING, SPILLING)))
        groups = [d.group for d in policy.deployments if d.kind not in (Kind.PROVISIONED, Kind.JOB)]
        self._groups.allow(groups)
        for gauge in (self._wanted, self._listed):
            for group in dict.fromkeys(groups):
                if not gauge.value((group,)):
                    gauge.put((group,), groups.count(group))
        self._offered.create((group,) for group in groups)
        self._scalings.create(product(groups, ("up", "down")))
        patient = [self._words.classes[c.name] for c in policy.classes if c.patience_s > 0.0]
        lanes = dict.fromkeys(d.lane.value for d in policy.deployments)
        self._kept.create(product(patient, lanes, lanes, WHY))
        self._kept_s.create((name,) for name in patient)

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {
            ReserveObserved: self._on_account,
            SpillChanged: self._on_spill,
            GroupObserved: self._on_group,
            WantedReplicas: self._on_wanted,
            LaneChanged: self._on_lane,
        }

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_account(self, event: ReserveObserved) -> None:
        name = self._words.deployments[event.deployment]
        used = (event.input_tokens, event.output_tokens)
        ratios = (event.input_ratio, event.output_ratio)
        for resource, tokens, ratio in zip(RESOURCES, used, ratios, strict=True):
            self._tokens.add((name, resource), max(tokens, 0.0))
            if ratio is not None:
                self._ratio.put((name, resource), ratio)
        self._idle.add((name,), event.wasted_hours * 3600.0)
        self._usd.add((name,), event.wasted_usd)

    def _on_spill(self, event: SpillChanged) -> None:
        name = self._words.deployments[event.deployment]
        self._spilling.put((name,), float(event.new == SPILLING))
        self._spills.add((name, event.new))

    def _on_group(self, event: GroupObserved) -> None:
        key = (self._groups[event.group],)
        self._wanted.put(key, event.wanted)
        self._offered.put(key, event.offered)
        self._listed.put(key, event.listed)

    def _on_wanted(self, event: WantedReplicas) -> None:
        self._scalings.add((self._groups[event.group], "up" if event.new > event.old else "down"))

    def _on_lane(self, event: LaneChanged) -> None:
        name = self._words.classes[event.request_class]
        self._kept.add((name, event.old, event.new, self._reasons[event.reason]))
        self._kept_s.add((name,), event.waited_s)
