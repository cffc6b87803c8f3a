"""The rules for provisioned throughput, by Prometheus's own tools."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.traffic import deployment, policy
from router.domain.deployment import Address, DeploymentName, Kind
from router.policy.rules.document import proof_document, rules_document

PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: apt-get install prometheus)")
def test_every_alert_fires_when_what_it_is_about_goes_wrong(tmp_path: Path) -> None:
    """A commitment that ends, units that fail, counts that differ, a control plane that is silent: each is told."""
    base = policy(classes=1, deployments=1)
    floor = replace(
        deployment(0), name=DeploymentName("floor"), kind=Kind.PROVISIONED, address=Address("bedrock", "arn:x")
    )
    written = replace(base, deployments=(*base.deployments, floor))
    (tmp_path / "rules.yml").write_text(rules_document(written))
    (tmp_path / "tests.yml").write_text(proof_document(written, "rules.yml"))
    assert "RouterCommitmentEnds" in (tmp_path / "tests.yml").read_text()
    command = [str(PROMTOOL), "test", "rules", "tests.yml"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
