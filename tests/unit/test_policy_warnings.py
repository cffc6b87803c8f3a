"""What can be served but was hardly meant: told with a place, and the policy is taken up all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.policy.checks.problem import Problem, Severity
from router.policy.checks.warnings import find_warnings
from router.policy.compile import compile_policy
from router.runtime.reload import read_directory
from tests.unit.policy_mistakes import FLEET, Mistake

ROOT = Path(__file__).parents[2]
RESERVED = """\
deployments:
  - {name: pt, model: llama-3.1-70b, tier: large, kind: provisioned, backend: simulated, tags: eu,
     tokens_per_min: {input: 1000, output: 200}, hourly_usd: 2}
"""
BATCHES = """\
deployments:
  - {name: scorer, model: llama-3.1-8b, tier: small, kind: batch, backend: simulated, batch_ms: {base: 30, per_item: 2}}
"""


def warnings_of(*texts: str) -> tuple[Problem, ...]:
    documents = [(f"{i}.yaml", text) for i, text in enumerate(texts)]
    return find_warnings(documents, compile_policy(documents))


def one(line: str, path: str, says: str) -> Mistake:
    """A doubt about one line of a class."""
    return Mistake(f"class:\n  name: a\n  {line}\n", f"class.{path}" if path else "", says)


DOUBTS = {
    "objective_unreachable": {
        "a first token": one(
            "objectives: {ttft: ▸5ms}",
            "objectives.ttft",
            "no deployment can meet ttft 5ms: `small`, the fastest that may serve `a`, takes 6.6955ms with nothing",
        ),
        "a gap": one(
            "objectives: {tpot: {threshold: ▸6ms}}", "objectives.tpot.threshold", "no deployment can meet tpot 6ms"
        ),
        "a whole answer": one(
            "objectives: [{indicator: e2e, threshold: ▸6ms}]",
            "objectives[0].threshold",
            "no deployment can meet e2e 6ms",
        ),
        "of those allowed": Mistake(
            "class:\n  name: a\n  match: {tenants: x}\n  deployments: large\n  objectives: {tpot: ▸10ms}\n",
            "class.objectives.tpot",
            "`large`, the fastest that may serve `a`, takes 16.4835ms",
        ),
        "in the defaults, once": Mistake(
            "defaults:\n  objectives: {ttft: ▸1ms}\nclasses: [{name: a, match: {tenants: x}}, {name: b}]\n",
            "defaults.objectives.ttft",
            "no deployment can meet ttft 1ms",
        ),
    },
    "deadline_unreachable": {
        "before any token": one(
            "deadline: ▸5ms", "deadline", "every request of `a` is late: `small`, the fastest, takes"
        ),
    },
    "deadline_before_ttft": {
        "never missed": Mistake(
            "class:\n  name: a\n  deadline: ▸2s\n  objectives: {ttft: 3s}\n",
            "class.deadline",
            "a request of `a` ends at 2s, before ttft 3s is missed",
        ),
    },
    "e2e_before_ttft": {
        "last before first": one(
            "objectives: {ttft: 2s, e2e: ▸1s}",
            "objectives.e2e",
            "the last token is promised before the first, which has 2s",
        ),
    },
    "hedge_past_deadline": {
        "too late to hedge": Mistake(
            "class:\n  name: a\n  deadline: 5s\n  hedge_after: ▸5s\n", "class.hedge_after", "no second call ever starts"
        ),
    },
    "batch_wait_past_ttft": {
        "waiting it out": Mistake(
            "class:\n  name: a\n  objectives: {ttft: 1s}\n  batch_wait: ▸1s\n", "class.batch_wait", "may miss ttft 1s"
        ),
    },
    "queue_past_deadline": {
        "till tomorrow": Mistake(
            "class:\n  name: a\n  deadline: 1h\n  budget: {usd_per_day: 9, when_spent: ▸queue}\n",
            "class.budget.when_spent",
            "what waits for the next day ends at its deadline of 1h instead",
        ),
    },
    "queue_wait_past_deadlines": {
        "longer than anyone": Mistake(
            "class: {name: a, deadline: 10s}\nbounds: {queue_wait: ▸30s}\n",
            "bounds.queue_wait",
            "no request waits for 30s: the longest deadline is 10s",
        ),
    },
    "budget_below_any_call": {
        "not one": one(
            "budget: {usd_per_request: ▸1.0e-7}",
            "budget.usd_per_request",
            "not one call fits: one token in and one out cost 4.4e-07 USD at the cheapest deployment",
        ),
        "not one a day": one("budget: {usd_per_day: ▸1.0e-7}", "budget.usd_per_day", "not one call fits"),
    },
    "budget_below_usual_call": {
        "small ones only": one(
            "budget: {usd_per_request: ▸0.0001}",
            "budget.usd_per_request",
            "few calls of `a` fit: 500 tokens in and 150 out cost 0.000143 USD",
        ),
        "a mean below it": one(
            "budget: {mean_usd_per_request: ▸0.0001}",
            "budget.mean_usd_per_request",
            "the mean of `a` will be above it: 500 tokens in and 150 out cost 0.000143 USD",
        ),
        "of those allowed": Mistake(
            "class:\n  name: a\n  match: {tenants: x}\n  deployments: large\n  budget: {usd_per_request: ▸0.0002}\n",
            "class.budget.usd_per_request",
            "cost 0.000643 USD",
        ),
    },
    "mean_budget_unused": {
        "nobody to choose from": Mistake(
            "class:\n  name: a\n  match: {tenants: x}\n  deployments: large\n"
            "  budget: {▸mean_usd_per_request: 0.001}\n",
            "class.budget.mean_usd_per_request",
            "it changes nothing: whoever may serve `a` costs the same",
        ),
    },
    "class_matches_nothing": {
        "no such use case": one("match: {use_cases: ▸['sumar*z']}", "match.use_cases", "nothing matches"),
        "nor is it shadowed besides": Mistake(
            "classes:\n  - {name: a, match: {use_cases: 'c*'}}\n  - {name: b, match: {use_cases: ▸'sumar*z'}}\n",
            "classes[1].match.use_cases",
            "nothing matches",
        ),
        "a shared subscription": one(
            "match: {topics: ▸$share/g/a/#}", "match.topics", "a shared subscription is no topic"
        ),
        "the name of another": Mistake(
            "classes:\n  - {name: a, match: {models: ▸b}}\n  - {name: b}\n",
            "classes[0].match.models",
            "a request that asks for `b` gets the class of that name",
        ),
    },
    "class_shadowed": {
        "by its name": Mistake(
            "classes:\n  - {name: a, match: {tenants: 'ac*'}}\n  - {name: b, ▸match: {tenants: acme, topics: x}}\n",
            "classes[1].match",
            "no request falls in `b` but by name: all that it matches goes to `a`, which is tried before it",
        ),
        "by its order": Mistake(
            "classes:\n  - {name: a, ▸match: {topics: x/y}}\n  - {name: b, order: -1, match: {topics: 'x/#'}}\n",
            "classes[0].match",
            "goes to `b`",
        ),
        "everything is taken": Mistake(
            "classes:\n  - {name: a, match: {tenants: '*'}}\n  - {name: ▸b}\n", "classes[1].name", "goes to `a`"
        ),
    },
    "forced_wins": {
        "forced anyway": Mistake(
            "class:\n  name: a\n  match: {tenants: x}\n  forced: small\n  ▸deployments: large\n",
            "class.deployments",
            "`forced` sends all to small",
        ),
    },
    "fallback_unused": {
        "no second try": Mistake(
            "class:\n  name: a\n  max_retries: 0\n  ▸fallback: [large, small]\n", "class.fallback", "`max_retries` is 0"
        ),
        "to whom it may not go": Mistake(
            "class:\n  name: a\n  match: {tenants: x}\n  deployments: small\n  fallback: [small, ▸large]\n",
            "class.fallback[1]",
            "`large` may not serve `a`",
        ),
    },
    "much_exploration": {
        "every third": one(
            "exploration: ▸33%", "exploration", "33% of the requests may go where they are served worse"
        ),
    },
    "cache_unused": {
        "too warm": Mistake(
            "class:\n  name: a\n  cache: ▸{ttl: 1h}\n  parameters: {temperature: 0.7}\n",
            "class.cache",
            "the class fills in temperature 0.7, and only answers at 0 are kept",
        ),
    },
    "rollout_unused": {
        "steps of nothing": one(
            "rollout: {▸step: 5m}", "rollout.step", "`step` changes nothing: it is for `mode: canary`"
        ),
        "a log for what begins at once": one(
            "rollout: {▸require: {slo_low: 0.9}}",
            "rollout.require",
            "`require` changes nothing: it is for `mode: canary`",
        ),
        "a measure of a canary": one(
            "rollout: {mode: canary, ▸measure: cost}",
            "rollout.measure",
            "`measure` changes nothing: it is for `mode: ab`",
        ),
    },
    "arms_alike": {
        "nothing to compare": one(
            "rollout: {mode: ab, arms: [{name: x, share: 0.4}, ▸{name: y, share: 0.6}]}",
            "rollout.arms[1]",
            "`y` does the same as `x`",
        ),
    },
}
EACH = [
    pytest.param(code, doubt, id=f"{code}: {name}") for code, found in DOUBTS.items() for name, doubt in found.items()
]


@pytest.mark.parametrize(("code", "doubt"), EACH)
def test_one_doubt_gives_one_warning_at_its_place(code: str, doubt: Mistake) -> None:
    """The policy compiles; file, line, column, path, a stable code and a sentence; and nothing else is doubted."""
    (found,) = warnings_of(FLEET, doubt.document())
    assert (found.file, found.line, found.column) == ("1.yaml", *doubt.place()), str(found)
    assert found.path == doubt.path or not doubt.path, str(found)
    assert (found.severity, found.code) == (Severity.WARNING, code), str(found)
    assert doubt.says in found.message, str(found)


@pytest.mark.parametrize(
    "directory", ["policies", "policies/bench/cost", "policies/bench/floor", "policies/bench/degrade"]
)
def test_the_shipped_policies_leave_no_doubt(directory: str) -> None:
    """What a newcomer starts from passes `router policy check --strict`."""
    fleet = compile_policy([("0.yaml", FLEET)]).deployments
    documents = read_directory(ROOT / directory)
    policy = compile_policy(documents, deployments=None if directory == "policies" else fleet)
    assert find_warnings(documents, policy) == ()


@pytest.mark.parametrize(
    "text",
    [
        "class: {name: a, objectives: {ttft: 7ms, tpot: 7ms, e2e: 7ms}, deadline: 1s}",
        "class: {name: a, budget: {usd_per_request: 0.001, usd_per_day: 1, when_spent: queue}}",
        "class: {name: a, fallback: [small, large], rollout: {mode: canary, step: 5m, min_requests: 9, fast_burn: 6}}",
        "class: {name: a, cache: {ttl: 1h, when: always}, parameters: {temperature: 1}, exploration: 20%}",
        "class: {name: a, cache: {ttl: 1h}, parameters: {temperature: 0}}",
        "classes: [{name: a, match: {tenants: acme, use_cases: chat}}, {name: b, match: {tenants: 'ac*'}}]",
        "classes: [{name: a, match: {tenants: x}}, {name: b, match: {classes: b-*}}, {name: c}]",
        "classes: [{name: a, deadline: 10s, match: {tenants: x}}, {name: b}]\nbounds: {queue_wait: 30s}",
    ],
)
def test_what_may_well_be_meant_is_not_doubted(text: str) -> None:
    """Just inside each of the bounds above there is no warning."""
    assert warnings_of(FLEET, text) == ()


def test_a_guess_is_no_measured_floor() -> None:
    """The figures of a model that nobody measured are a guess at its tier: nothing is called unreachable for it."""
    unknown = FLEET.replace("llama-3.1", "unheard-of")
    text = "class: {name: a, objectives: {ttft: 1ms, tpot: 1ms}}"
    assert warnings_of(unknown, text) == ()
    own = "step_ms: {base: 4, per_sequence: 0.1, per_context_token: 0, per_prefill_token: 0.1}"
    measured = unknown.replace("backend: simulated", f"backend: simulated, {own}")
    assert {w.code for w in warnings_of(measured, text)} == {"objective_unreachable"}


def test_what_comes_before_the_first_token_is_in_the_floor() -> None:
    """A step of 4 ms behind a gateway of 50 ms answers within 54.1 ms at the soonest; gaps are steps."""
    own = "step_ms: {base: 4, per_sequence: 0.1, per_context_token: 0, per_prefill_token: 0.1, first: 50}"
    behind = FLEET.replace("backend: simulated", f"backend: simulated, {own}")
    objectives = "class: {{name: a, objectives: {{ttft: {ttft}, tpot: 5ms}}}}"
    assert {w.path for w in warnings_of(behind, objectives.format(ttft="54ms"))} == {"class.objectives.ttft"}
    assert warnings_of(behind, objectives.format(ttft="55ms")) == ()


def test_a_batch_has_its_own_floor() -> None:
    """One item takes base and per item, and its tokens come all at once."""
    prices = "prices: {models: {llama-3.1-8b: {input: 1, output: 1}}}"
    text = "class: {name: a, objectives: {tpot: 1ms, e2e: 31ms, ttft: 32ms}}"
    found = warnings_of(BATCHES + prices, text)
    assert [w.path for w in found if w.code == "objective_unreachable"] == ["class.objectives.e2e"]


def test_reserved_capacity_needs_an_overflow() -> None:
    """Told at what keeps the class to it, or at the deployment where the whole fleet is reserved."""
    kept = "class: {name: a, deployments: pt, match: {tenants: x}}"
    (found,) = warnings_of(FLEET.replace("deployments:\n", RESERVED), kept)
    assert (found.code, found.path) == ("no_overflow", "class.deployments")
    assert "`a` has no overflow: only reserved capacity may serve it (pt)" in found.message
    (alone,) = warnings_of(RESERVED, "class: {name: a, match: {tenants: x}}")
    assert (alone.code, alone.file, alone.path) == ("no_overflow", "0.yaml", "deployments[0].name")
    stays = "class: {name: a, residency: eu}"
    assert "no_overflow" in {w.code for w in warnings_of(FLEET.replace("deployments:\n", RESERVED), stays)}


def test_a_deployment_that_no_class_may_use_is_told() -> None:
    """It is paid for or waits for nothing; replicas are one."""
    fleet = FLEET.replace("tier: large, backend", "tier: large, replicas: 3, backend")
    (found,) = warnings_of(fleet, "class: {name: a, deployments: small}")
    assert (found.code, found.path, found.line) == ("deployment_unused", "deployments[1].name", 3)
    assert warnings_of(fleet, "class: {name: a, deployments: [small, large-1]}") == ()


def test_an_slo_that_no_class_refers_to_is_told() -> None:
    """Someone wrote it down to have it kept."""
    slo = """\
apiVersion: openslo/v1
kind: SLO
metadata:
  name: first
spec: {indicator: {spec: {}}, objectives: [{target: 0.9, op: lte, value: 1}]}
"""
    (found,) = warnings_of(FLEET, "class: {name: a}", slo)
    assert (found.code, found.file, found.line, found.column) == ("slo_unused", "2.yaml", 4, 9)
    assert warnings_of(FLEET, "class: {name: a, objectives: {ttft: {slo: first}}}", slo) == ()


def test_a_doubt_about_an_openslo_objective_is_told_at_the_reference() -> None:
    """The threshold stands elsewhere; the class is where it does not fit."""
    slo = "{apiVersion: openslo/v1, kind: SLO, metadata: {name: first}, "
    slo += "spec: {indicator: {spec: {}}, objectives: [{target: 0.9, op: lt, value: 0.001}]}}"
    (found,) = warnings_of(FLEET, "class: {name: a, objectives: {ttft: {slo: first}}}", slo)
    assert (found.code, found.path) == ("objective_unreachable", "class.objectives.ttft.slo")


def test_all_doubts_are_told_in_reading_order() -> None:
    """One round over the files, not one for each warning."""
    text = "class:\n  name: a\n  exploration: 50%\n  objectives: {ttft: 1ms, e2e: 0.9ms}\n"
    found = warnings_of(FLEET, text)
    assert [(w.line, w.code) for w in found] == [
        (3, "much_exploration"),
        (4, "objective_unreachable"),
        (4, "e2e_before_ttft"),
        (4, "objective_unreachable"),
    ]
