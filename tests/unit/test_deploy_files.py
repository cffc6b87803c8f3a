"""What is deployed agrees with the program: names, ports, paths and metrics."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from bench.traffic import policy
from router.policy.rules.document import rules_document
from router.runtime.reload import load_directory
from router.settings import HttpSettings, load_settings, variables
from router.telemetry.metrics import Metrics
from router.telemetry.sink import Sink

REPO = Path(__file__).parents[2]
DEPLOY = REPO / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
UNIT = (DEPLOY / "router.service").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
EXAMPLE = (DEPLOY / "router.env.example").read_text()
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/router.json").read_text())
PORT = HttpSettings().port


def metric_names() -> set[str]:
    """Every sample name that `/metrics` can show, and label names, which look alike in a query."""
    registry = CollectorRegistry()
    metrics = Metrics(policy(), registry)
    metrics.watch_sink(Sink(()))
    metrics.watch_journal(lambda: 0)
    metrics.watch_decision_log(lost=lambda: 0, written=lambda: 0)
    names = {label for family in registry.collect() for sample in family.samples for label in sample.labels}
    for family in registry.collect():
        for ending in ("", "_total", "_bucket", "_sum", "_count"):
            names.add(family.name + ending)
    return names


def expressions() -> Iterator[str]:
    """Every query of the dashboard and the rules."""
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for group in yaml.safe_load((DEPLOY / "prometheus-rules.yml").read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def test_queries_name_only_metrics_that_exist() -> None:
    """A metric that is renamed breaks its panel here."""
    rules = yaml.safe_load((DEPLOY / "prometheus-rules.yml").read_text())["groups"]
    known = metric_names() | {rule["record"] for group in rules for rule in group["rules"] if "record" in rule}
    used = {
        name for text in expressions() for name in re.findall(r"\b(?:router|gen_ai|process)[_:][a-zA-Z0-9_:]+", text)
    }
    assert len(used) > 40
    assert used - known == set()


def test_the_rules_are_those_of_the_policy_that_compose_mounts() -> None:
    """Not stale: `router policy rules policies/ --out deploy/prometheus-rules.yml` would change nothing."""
    assert "../policies:/etc/router/policies:ro" in SERVICES["router"]["volumes"]
    assert (DEPLOY / "prometheus-rules.yml").read_text() == rules_document(load_directory(REPO / "policies"))


def test_every_metric_is_on_the_dashboard_or_in_a_rule() -> None:
    """What is measured can be seen; the exceptions are views for other dashboards."""
    registry = CollectorRegistry()
    Metrics(policy(), registry)
    shown = " ".join(expressions())
    unseen = {f.name for f in registry.collect() if f.name not in shown and not f.name.startswith("process_")}
    assert unseen == {
        "gen_ai_client_operation_duration_seconds",
        "gen_ai_client_token_usage",
        "router_build_info",
        "router_checkpoint_bytes",
        "router_health_changes",
        "router_policy_last_reload_timestamp_seconds",
        "router_price_updates",
        "router_tenant_requests",
        "router_tenant_spend_usd",
    }


def test_panels_say_what_they_show_and_do_not_overlap() -> None:
    """Each panel has a description, a place of its own, and its queries a legend."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"], panel["title"]
            assert all(target["legendFormat"] for target in panel["targets"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_dashboard_reads_the_provisioned_source() -> None:
    """Panels and provisioning name the same data source, and its folder is where compose puts the file."""
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/router.yaml").read_text())["providers"]
    used = {t["datasource"]["uid"] for panel in DASHBOARD["panels"] for t in panel.get("targets", ())}
    assert used == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]


def test_every_published_port_is_on_loopback() -> None:
    """Nothing that compose starts can be reached from another machine."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert sorted(ports) == sorted(f"127.0.0.1:{port}:{port}" for port in (PORT, 1883, 9090, 3000))


@pytest.mark.parametrize("name", SERVICES)
def test_each_container_is_watched_and_locked_down(name: str) -> None:
    """A health check, no root, a read-only root file system, no capabilities, an image by its plain name."""
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert not service["user"].startswith(("0", "root"))
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "." not in service["image"].split("/")[0].split(":")[0], "no registry host in an image name"


def test_every_mounted_file_exists() -> None:
    """Paths in compose, relative to deploy/, are in the repository."""
    mounts = [volume.split(":")[0] for service in SERVICES.values() for volume in service["volumes"]]
    files = [mount for mount in mounts if mount.startswith(".")]
    assert len(files) >= 6
    assert [file for file in files if not (DEPLOY / file).exists()] == []
    assert {mount for mount in mounts if not mount.startswith(".")} == set(COMPOSE["volumes"])
    build = SERVICES["router"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")


def test_what_the_image_copies_exists() -> None:
    """Each source of a COPY is in the repository and gets past the ignore file."""
    sources = [
        source for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, flags=re.M) for source in line.split()[:-1]
    ]
    kept = re.findall(r"^!(.+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), flags=re.M)
    assert sources
    assert set(sources) == set(kept)
    assert [source for source in sources if not (REPO / source).exists()] == []
    assert re.findall(r"^USER (\S+)$", DOCKERFILE, flags=re.M) == [SERVICES["router"]["user"]]


def test_settings_are_spelt_as_the_program_reads_them() -> None:
    """Every ROUTER_ name in compose, image, unit and example is a setting."""
    known = set(variables())
    assert set(filter(_ours, SERVICES["router"]["environment"])) <= known
    for text in (DOCKERFILE, UNIT, EXAMPLE):
        found = set(re.findall(r"\bROUTER_\w+(?==)", text))
        assert found
        assert found - known == set()


def test_the_example_environment_can_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example as it stands is accepted, and names the default port."""
    for name in variables():
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "router.env"
    path.write_text(EXAMPLE)
    settings = load_settings(path)
    assert settings.http.port == PORT
    assert settings.mqtt.url == "mqtt://127.0.0.1:1883"


def test_ports_agree() -> None:
    """Settings, compose, image, health checks and the scrape all mean the same port."""
    environment = SERVICES["router"]["environment"]
    assert environment["ROUTER_HTTP__PORT"] == str(PORT)
    assert f"EXPOSE {PORT}\n" in DOCKERFILE
    assert f"ROUTER_HTTP__PORT={PORT}" in DOCKERFILE
    assert f":{PORT}/readyz" in SERVICES["router"]["healthcheck"]["test"][-1]
    assert f":{PORT}/healthz" in DOCKERFILE
    (job,) = [
        job
        for job in yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
        if job["job_name"] == "router"
    ]
    assert job["static_configs"] == [{"targets": [f"router:{PORT}"]}]
    assert re.search(r"^listener 1883$", (DEPLOY / "mosquitto.conf").read_text(), flags=re.M)
    assert environment["ROUTER_MQTT__URL"] == "mqtt://mosquitto:1883"


def test_the_broker_drops_and_delays_nothing() -> None:
    """The settings that the traps of mosquitto call for are set."""
    lines = (DEPLOY / "mosquitto.conf").read_text().splitlines()
    assert {"set_tcp_nodelay true", "max_queued_messages 0", "persistence true"} <= set(lines)


def test_the_unit_starts_the_command_that_is_installed() -> None:
    """ExecStart runs the script of the package, as nobody, with the state directory that it is told."""
    scripts = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["scripts"]
    (command,) = re.findall(r"^ExecStart=(.+)$", UNIT, flags=re.M)
    assert Path(command.split()[0]).name in scripts
    assert command.split()[1:] == ["serve"]
    assert "DynamicUser=yes" in UNIT
    (state,) = re.findall(r"^StateDirectory=(.+)$", UNIT, flags=re.M)
    assert f"ROUTER_STATE_DIR=/var/lib/{state}" in UNIT


def _ours(name: str) -> bool:
    return name.startswith("ROUTER_")
