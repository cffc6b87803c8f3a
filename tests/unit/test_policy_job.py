"""The `job` part of a deployment: what it means, what it costs, what is refused, and what an edit of it changes."""

from __future__ import annotations

import pytest

from router.domain.aws.job import JobTerms
from router.domain.deployment import Deployment, Kind, Lane, Price
from router.policy.compile import compile_policy
from router.policy.meaning.compare import changes
from router.policy.meaning.fleet import PARTS
from router.policy.policy import Policy
from tests.unit.policy_mistakes import Mistake, told_once

ROLE = "arn:aws:iam::123456789012:role/batch"
JOB = f"job: {{s3: 's3://bucket/router/', role_arn: '{ROLE}'"
HEAD = "prices: {models: {haiku: {input: 1, output: 5}}}\ndeployments:\n  - {name: x, model: haiku, tier: small, "
BEDROCK = "backend: bedrock, target: m, kind: job, "


def policy(rest: str) -> Policy:
    return compile_policy([("p.yaml", f"{HEAD}{rest}}}\n")])


def one(rest: str) -> Deployment:
    (found,) = policy(rest).deployments
    return found


def test_a_lane_of_jobs_is_compiled_with_its_defaults() -> None:
    """Half the price of the model, the batch lane, a backend of its own, and a hundred records at least."""
    found = one(f"{BEDROCK}{JOB}}}")
    assert found.job == JobTerms("s3://bucket/router", ROLE)
    assert (found.kind, found.lane, found.address.backend) == (Kind.JOB, Lane.BATCH, "bedrock_jobs")
    assert (found.price.input_usd_per_mtok, found.price.output_usd_per_mtok) == (0.5, 2.5)
    assert (found.job.min_records, found.job.max_records) == (100, 50_000)


def test_every_field_has_its_meaning() -> None:
    """Durations as the document spells them."""
    rest = "min_records: 10, max_records: 20, collect_for: 5m, typical: 2h, timeout: 48h, margin: 30s"
    assert one(f"{BEDROCK}{JOB}, {rest}}}").job == JobTerms(
        "s3://bucket/router", ROLE, 10, 20, collect_s=300.0, typical_s=7200.0, timeout_s=172_800.0, margin_s=30.0
    )


@pytest.mark.parametrize(
    ("written", "price"),
    [
        ("price_usd_per_mtok: {input: 0.4, output: 2}, ", Price(0.4, 2.0)),
        ("price_factor: 0.25, ", Price(0.25, 1.25)),
    ],
)
def test_a_price_that_is_written_is_that_of_the_jobs(written: str, price: Price) -> None:
    """Nothing is halved that the operator has said."""
    found = one(f"{BEDROCK}{written}{JOB}}}").price
    assert (found.input_usd_per_mtok, found.output_usd_per_mtok) == (
        price.input_usd_per_mtok,
        price.output_usd_per_mtok,
    )


def mistake(rest: str, field: str, message: str) -> Mistake:
    path = f"deployments[0].{field}" if field else "deployments[0]"
    opening = "" if field else "▸"
    return Mistake(f"{HEAD.replace('{name: x', opening + '{name: x')}{rest}}}\n", path, message)


def of_job(rest: str, field: str, message: str) -> Mistake:
    return mistake(f"{BEDROCK}{JOB}, {rest}}}", f"job.{field}", message)


MISTAKES = {
    "no terms": mistake("backend: bedrock, target: m, kind: job", "", "a job deployment needs `job`"),
    "no kind": mistake(f"backend: bedrock, target: m, ▸{JOB}}}", "job", "`job` is only for job deployments"),
    "elsewhere": mistake(f"backend: simulated, kind: ▸job, {JOB}}}", "kind", "write `backend: bedrock`"),
    "replicas": mistake(f"{BEDROCK}▸replicas: 2, {JOB}}}", "replicas", "drop `replicas`"),
    "a limit": mistake(f"{BEDROCK}▸limit: {{kind: aimd}}, {JOB}}}", "limit", "drop `limit`"),
    "invoke": mistake(f"{BEDROCK}aws: {{▸api: invoke}}, {JOB}}}", "aws.api", "drop `api`"),
    "a tier": mistake(f"{BEDROCK}lane: ▸flex, {JOB}}}", "lane", "in the lane batch"),
    "never full": of_job("min_records: ▸200, max_records: 50", "min_records", "a job could never begin"),
    "half hours": of_job("timeout: ▸1470m", "timeout", "whole hours"),
    "too soon": of_job("timeout: ▸12h", "timeout", "24h"),
    "too many": of_job("max_records: ▸60000", "max_records", "50000"),
    "no bucket": mistake(f"{BEDROCK}job: {{s3: ▸bucket/x, role_arn: '{ROLE}'}}", "job.s3", "s3://bucket"),
}


@pytest.mark.parametrize("wrong", MISTAKES.values(), ids=MISTAKES.keys())
def test_one_mistake_gives_one_message_at_its_place(wrong: Mistake) -> None:
    """File, line, column, path and a sentence that says what to write."""
    told_once(wrong)


def test_every_term_is_weighed_in_an_edit() -> None:
    """Each field of the terms has a rule, and an edit of one is told by its name in the document."""
    assert {rule.name.rpartition(".")[2] for rule in PARTS["job"]} == {
        "s3",
        "role_arn",
        "min_records",
        "max_records",
        "collect_for",
        "typical",
        "timeout",
        "margin",
    }
    old, new = policy(f"{BEDROCK}{JOB}}}"), policy(f"{BEDROCK}{JOB}, collect_for: 5m}}")
    assert ["job.collect_for" in str(change) for change in changes(old, new)] == [True]
