"""`telemetry` in a deployment: whom it asks, what cannot be meant, and what an edit of it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.domain.deployment import TelemetryTerms
from router.policy.compile import compile_policy
from router.policy.meaning.change import How
from router.policy.meaning.compare import changes
from router.policy.meaning.fleet import new_environment
from router.policy.parse import PolicyErrors
from router.policy.policy import Policy
from router.policy.rules.document import rules_document
from router.policy.rules.proof import proof
from router.policy.rules.servers import SERVERS
from router.runtime.reload import load_to_serve
from router.runtime.reload.secret_files import look_at_secrets, refreshed
from tests.unit.policy_mistakes import Mistake, told_once

HEAD = """\
deployments:
  - name: far
    model: llama
    tier: small
    price_usd_per_mtok: {input: 0.1, output: 0.1}
"""
HTTP = "    backend: openai_http\n    url: http://vllm:8000/v1\n"


def policy(*lines: str, head: str = HEAD + HTTP) -> Policy:
    return compile_policy([("fleet.yaml", head + "".join(f"    {line}\n" for line in lines))])


def terms(*lines: str) -> list[TelemetryTerms | None]:
    return [d.telemetry for d in policy(*lines).deployments]


def test_who_says_nothing_is_not_asked() -> None:
    """Nobody is sent requests that nobody asked for."""
    assert terms() == [None]


def test_an_empty_block_asks_the_server_itself() -> None:
    """/metrics on the host of its url, twice a second, with half of that to answer in."""
    assert terms("telemetry: {}") == [TelemetryTerms("http://vllm:8000/metrics", 0.5, 0.25)]


def test_everything_may_be_said() -> None:
    """An address of its own, a period, a timeout and a token by reference."""
    told = "telemetry: {url: https://side:9000/m, every: 2s, timeout: 300ms, api_key_env: TOKEN}"
    assert terms(told) == [TelemetryTerms("https://side:9000/m", 2.0, 0.3, "TOKEN")]


@pytest.mark.parametrize("url", ["", "url: 'http://vllm-{replica}:9000/metrics'"])
def test_each_replica_is_asked_itself(url: str) -> None:
    """By the number of the copy, whether it stands in the url of the deployment or of its telemetry."""
    head = HEAD + HTTP.replace("vllm", "vllm-{replica}")
    found = policy(f"telemetry: {{{url}}}", "replicas: 2", head=head).deployments
    port = 9000 if url else 8000
    assert [d.telemetry.url for d in found if d.telemetry] == [f"http://vllm-{i}:{port}/metrics" for i in (0, 1)]


_MISTAKES = {
    "a backend that has none": Mistake(
        HEAD + "    backend: simulated\n    ▸telemetry: {}\n",
        "deployments[0].telemetry",
        "`telemetry` means nothing to the backend simulated",
    ),
    "a batch deployment": Mistake(
        HEAD + HTTP + "    kind: batch\n    batch_ms: {base: 10, per_item: 1}\n    ▸telemetry: {}\n",
        "deployments[0].telemetry",
        "a batch deployment is known by what is sent to it: drop `telemetry`",
    ),
    "a timeout that is too long": Mistake(
        HEAD + HTTP + "    telemetry: {every: 500ms, timeout: ▸500ms}\n",
        "deployments[0].telemetry.timeout",
        "it is asked every 500ms: write less than that",
    ),
    "too often": Mistake(
        HEAD + HTTP + "    telemetry: {every: ▸10ms}\n", "deployments[0].telemetry.every", "from 50ms to 30s"
    ),
    "too seldom": Mistake(
        HEAD + HTTP + "    telemetry: {every: ▸1m}\n", "deployments[0].telemetry.every", "from 50ms to 30s"
    ),
    "two keys": Mistake(
        HEAD + HTTP + "    telemetry: {api_key_env: A, ▸api_key_file: /a}\n",
        "deployments[0].telemetry.api_key_file",
        "`api_key_env` and `api_key_file` both name a key: keep one",
    ),
    "one address for all replicas": Mistake(
        HEAD
        + HTTP.replace("vllm", "vllm-{replica}")
        + "    replicas: 2\n    telemetry: {url: ▸http://vllm:9000/metrics}\n",
        "deployments[0].telemetry.url",
        "put `{replica}` where the number goes",
    ),
    "a word that there is not": Mistake(
        HEAD + HTTP + "    telemetry: {▸evry: 1s}\n", "deployments[0].telemetry.evry", "did you mean `every`"
    ),
}


@pytest.mark.parametrize("mistake", _MISTAKES.values(), ids=_MISTAKES.keys())
def test_a_mistake_is_told_where_it_is(mistake: Mistake) -> None:
    """File, line, column, and what to write instead."""
    told_once(mistake, "bounds: {queue_wait: 10s}\n")


def test_an_edit_is_live_and_forgets_nothing() -> None:
    """What was learned of the deployment stays: it is the same server."""
    old, new = policy("telemetry: {every: 1s}"), policy("telemetry: {every: 2s, timeout: 100ms}")
    assert [(c.move.field, c.move.old, c.move.new, c.effect.how) for c in changes(old, new)] == [
        ("telemetry.every", "1s", "2s", How.LIVE),
        ("telemetry.timeout", "500ms", "100ms", How.LIVE),
    ]
    (begun,) = changes(policy(), old)
    assert (begun.move.field, begun.move.old, begun.effect.how) == ("telemetry", "none", How.LIVE)


def test_its_variable_is_one_of_those_that_a_process_must_have_begun_with() -> None:
    """As the key of the deployment is."""
    fleets = [policy(f"telemetry: {{{told}}}").deployments for told in ("", "api_key_env: TOKEN")]
    assert new_environment(*fleets) == ("TOKEN",)


def test_its_key_file_is_watched_and_must_hold_a_key(tmp_path: Path) -> None:
    """A file that is not there is told at the field that names it; one that changes, by the same name."""
    key = tmp_path / "token"
    root = tmp_path / "policies"
    root.mkdir()
    (root / "fleet.yaml").write_text(f"{HEAD}{HTTP}    telemetry:\n      api_key_file: {key}\n")
    with pytest.raises(PolicyErrors) as refused:
        load_to_serve(root)
    (problem,) = refused.value.problems
    assert (problem.path, problem.line) == ("deployments[0].telemetry.api_key_file", 9)
    key.write_text("sk-one")
    fleet = load_to_serve(root).deployments
    assert look_at_secrets(fleet).prints.keys() == {str(key)}
    assert refreshed(fleet, {str(key)}) == (f"deployment far: telemetry.api_key_file {key} holds something else",)


def test_a_silent_server_is_alerted_on_where_one_is_asked() -> None:
    """The rule and its proof are written for policies with telemetry, and for no other."""
    asked, plain = (str(rules_document(policy(*lines))) for lines in (("telemetry: {}",), ()))
    assert "RouterServerSilent" in asked
    assert "RouterServerSilent" not in plain
    assert ("RouterServerSilent" in str(proof(policy("telemetry: {}"), "r.yml")), SERVERS) == (True, "router-servers")
