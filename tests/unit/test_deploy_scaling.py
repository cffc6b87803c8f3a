"""What autoscalers are told to follow exists, and asks for one replica for each that is wanted."""

from __future__ import annotations

import re
from pathlib import Path

import promql_parser
import yaml
from prometheus_client import CollectorRegistry

from bench.traffic import policy
from router.telemetry.metrics import Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
KEDA = (DEPLOY / "keda/scaledobject.yaml").read_text()
HPA = (DEPLOY / "kubernetes/hpa.yaml").read_text()


def names() -> dict[str, set[str]]:
    """Labels of every sample that `/metrics` shows, by its name."""
    registry = CollectorRegistry()
    Metrics(policy(), registry)
    return {s.name: set(s.labels) for family in registry.collect() for s in family.samples}


def test_keda_follows_a_metric_that_exists() -> None:
    """Both the query and the one for several routers are PromQL over series with a group."""
    (trigger,) = yaml.safe_load(KEDA)["spec"]["triggers"]
    several = re.search(r"#   (ceil\(.*\))$", KEDA, re.M)
    assert several is not None
    for query in (trigger["metadata"]["query"], several.group(1)):
        promql_parser.parse(query)
        (name,) = re.findall(r"router_\w+", query)
        assert names()[name] == {"group"}


def test_a_wanted_replica_is_a_replica() -> None:
    """The value over a threshold of one is the number, as an average over the pods."""
    spec = yaml.safe_load(KEDA)["spec"]
    (trigger,) = spec["triggers"]
    assert (trigger["type"], trigger["metricType"], trigger["metadata"]["threshold"]) == (
        "prometheus",
        "AverageValue",
        "1",
    )
    assert spec["minReplicaCount"] >= 1
    assert spec["fallback"]["replicas"] <= spec["maxReplicaCount"]
    (metric,) = yaml.safe_load(HPA)["spec"]["metrics"]
    assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}
    assert names()[metric["external"]["metric"]["name"]] == set(metric["external"]["metric"]["selector"]["matchLabels"])


def test_nothing_is_smoothed_twice_and_addresses_stay_in_the_cluster() -> None:
    """The router's own dwell is the only one; no host but one inside the cluster is named."""
    for document in (
        yaml.safe_load(KEDA)["spec"]["advanced"]["horizontalPodAutoscalerConfig"],
        yaml.safe_load(HPA)["spec"],
    ):
        assert {way["stabilizationWindowSeconds"] for way in document["behavior"].values()} == {0}
    hosts = re.findall(r"https?://([^/:\s]+)", KEDA + HPA)
    assert all(host.endswith(".svc") or "{replica}" in host for host in hosts)
