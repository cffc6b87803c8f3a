from __future__ import annotations

import pytest

from router.control.profiles import profile_for
from router.domain.deployment import BatchProfile, Kind, Lane, Price, Tier, TokenQuota
from router.domain.request import Capability
from router.domain.slo import (
    Budget,
    FloorUnderOverload,
    Goal,
    Indicator,
    Match,
    Objective,
    Objectives,
    Parameters,
    PastDeadline,
    QualityFloor,
    RequestClass,
)
from router.policy.compile import compile_policy
from router.policy.parse import PolicyErrors
from router.policy.policy import Bounds, Policy

FLEET = """\
deployments:
  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated}
prices:
  models: {llama-3.1-8b: {input: 0.22, output: 0.23}}
"""


def compiled(*texts: str) -> Policy:
    return compile_policy([("fleet.yaml", FLEET), *((f"{i}.yaml", text) for i, text in enumerate(texts))])


def one_class(text: str) -> RequestClass:
    return compiled(text).classes[0]


def test_every_field_of_a_class_arrives() -> None:
    """What a class may say is what the domain's class holds, with units turned into seconds and ratios."""
    text = """
class:
  name: everything
  match:
    classes: [all-*]
    topics: a/#
    tenants: [acme, "umbrella-*"]
    models: gpt-*
    use_cases: [chat]
    attributes: {region: eu, app: web}
    input_tokens: {min: 10, max: 2000}
  objectives:
    ttft: 500ms
    tpot: {threshold: 0.05, target: 95%, timeWindow: 7d, budgetingMethod: Occurrences}
    e2e: {threshold: 2m}
    availability: 99.9%
  floor: {ratio: 90%, reference: llama-3.1-8b, under_overload: degrade}
  goal: cost
  deadline: 1h
  past_deadline: answer_late
  priority: 7
  sheddable: true
  deployments: [small, large]
  parameters: {temperature: 0, top_p: 0.1, max_tokens: 64}
  exploration: 2%
  max_retries: 0
  hedge_after: 1.5s
  budget: {usd_per_request: 0.25}
  batch_wait: 20ms
"""
    month = 30 * 86400.0
    assert one_class(text) == RequestClass(
        name="everything",
        match=Match(
            classes=("all-*",),
            topics=("a/#",),
            tenants=("acme", "umbrella-*"),
            models=("gpt-*",),
            use_cases=("chat",),
            attributes=(("app", "web"), ("region", "eu")),
            min_input_tokens=10,
            max_input_tokens=2000,
        ),
        objectives=Objectives(
            ttft=Objective(Indicator.TTFT, 0.5, 0.99, month),
            tpot=Objective(Indicator.TPOT, 0.05, 0.95, 7 * 86400.0),
            e2e=Objective(Indicator.E2E, 120.0, 0.99, month),
            availability=Objective(Indicator.AVAILABILITY, 0.0, 0.999, month),
        ),
        floor=QualityFloor(0.9, "llama-3.1-8b", FloorUnderOverload.DEGRADE),
        goal=Goal.COST,
        deadline_s=3600.0,
        past_deadline=PastDeadline.ANSWER_LATE,
        priority=7,
        sheddable=True,
        deployments=("small", "large"),
        parameters=Parameters(temperature=0.0, top_p=0.1, max_tokens=64),
        exploration_ratio=0.02,
        max_retries=0,
        hedge_after_s=1.5,
        budget=Budget(usd_per_request=0.25),
        batch_wait_s=0.02,
    )


def test_a_class_that_says_nothing_is_the_domains_default() -> None:
    """Defaults stand in one place: the schema does not bring others than the domain's class."""
    assert one_class("class: {name: plain}") == RequestClass(name="plain")


def test_objectives_mean_the_same_in_both_spellings() -> None:
    """The short form and OpenSLO's list compile to one thing, and so to one digest."""
    short = "class: {name: a, objectives: {ttft: 500ms, availability: 99.9%}}"
    listed = """
class:
  name: a
  objectives:
    - {indicator: ttft, threshold: 0.5, target: 0.99, timeWindow: [{duration: 30d, isRolling: true}]}
    - {indicator: availability, target: 99.9%, timeWindow: 30d, budgetingMethod: Occurrences}
"""
    assert one_class(short) == one_class(listed)
    assert compiled(short).digest == compiled(listed).digest


def test_defaults_fill_in_field_by_field_and_null_takes_them_back() -> None:
    """A class inherits what it does not say; what it says, even `null`, is its own."""
    policy = compiled(
        "defaults: {deadline: 30s, priority: 5, floor: 90%, objectives: {ttft: 1s}}",
        "classes: [{name: a, priority: 1, match: {tenants: x}}, {name: b, deadline: null, floor: null}]",
    )
    a, b = policy.classes
    assert (a.deadline_s, a.priority, a.floor, a.objectives.ttft) == (
        30.0,
        1,
        QualityFloor(0.9),
        Objective(Indicator.TTFT, 1.0),
    )
    assert (b.deadline_s, b.priority, b.floor) == (None, 5, None)


def test_a_default_class_is_added_where_nothing_takes_everything() -> None:
    """Every request finds a class, with the operator's defaults."""
    policy = compiled("defaults: {deadline: 9s}\nclass: {name: a, match: {tenants: x}}")
    assert [(c.name, c.match, c.deadline_s) for c in policy.classes] == [
        ("a", Match(tenants=("x",)), 9.0),
        ("default", Match(), 9.0),
    ]


def test_classes_are_tried_by_order_then_file_then_position_and_the_catch_all_last() -> None:
    """File names decide only among equals, and a class without conditions cannot shadow one with."""
    first = "classes: [{name: all}, {name: b, match: {tenants: x}}, {name: a, match: {tenants: x}}]"
    second = "classes: [{name: late, order: 1, match: {tenants: x}}, {name: early, order: -1, match: {tenants: x}}]"
    third = "classes: [{name: c, match: {tenants: x}}]"
    policy = compiled(first, second, third)
    assert [c.name for c in policy.classes] == ["early", "b", "a", "c", "late", "all"]
    backwards = compile_policy([("2.yaml", third), ("1.yaml", second), ("0.yaml", first), ("fleet.yaml", FLEET)])
    assert backwards == policy


def test_deployments_take_price_and_figures_from_the_tables() -> None:
    """A deployment that says only what it is gets the price of its model and the figures that ship with it."""
    (small,) = compile_policy([("fleet.yaml", FLEET)]).deployments
    assert (small.name, small.group, small.tier, small.kind) == ("small", "small", Tier.SMALL, Kind.CONTINUOUS)
    assert small.price == Price(0.22, 0.23)
    assert small.step == profile_for("llama-3.1-8b", Tier.SMALL)
    assert small.address.target == "llama-3.1-8b"
    assert small.capabilities == frozenset(Capability)


def test_a_deployment_may_bring_everything_of_its_own() -> None:
    """Price, figures, target, capabilities and limits as written win over any table."""
    text = """
deployments:
  - name: own
    model: llama-3.1-8b
    tier: large
    backend: openai_http
    url: https://host/v1
    target: served-name
    api_key_env: SOME_KEY
    ca_file: /etc/ca.pem
    price_usd_per_mtok: {input: 1, output: 2.5}
    step_ms: {base: 10, per_sequence: 0.1, per_context_token: 0.0001, per_prefill_token: 0.02}
    step_token_budget: 512
    max_in_flight: 8
    context_tokens: 8192
    capabilities: [tools, json]
    tags: [eu]
"""
    own = next(d for d in compiled(text).deployments if d.name == "own")
    assert own.price == Price(1.0, 2.5)
    assert own.step is not None
    assert (own.step.base_s, own.step.per_sequence_s) == pytest.approx((0.01, 1e-4))
    assert (own.step.per_context_token_s, own.step.per_prefill_token_s) == pytest.approx((1e-7, 2e-5))
    assert (own.step.step_token_budget, own.step.source) == (512, "policy")
    assert (own.address.url, own.address.target) == ("https://host/v1", "served-name")
    assert (own.address.api_key_env, own.address.ca_file) == ("SOME_KEY", "/etc/ca.pem")
    assert (own.max_in_flight, own.context_tokens) == (8, 8192)
    assert own.capabilities == {Capability.TOOLS, Capability.JSON}
    assert own.tags == {"eu"}


def test_what_comes_before_the_first_token_is_nothing_unless_said() -> None:
    """`step_ms.first` is in milliseconds; figures that ship have none of it."""
    own = "step_ms: {base: 10, per_sequence: 0, per_context_token: 0, per_prefill_token: 0"
    for said, first_s in ((f", {own}, first: 52}}", 0.052), (f", {own}}}", 0.0), ("", 0.0)):
        text = FLEET.replace("backend: simulated", f"backend: simulated{said}")
        (small,) = compile_policy([("fleet.yaml", text)]).deployments
        assert small.step is not None
        assert small.step.first_s == pytest.approx(first_s)


def test_a_profile_may_be_borrowed_from_a_known_model() -> None:
    """A fine-tune of a known model starts from the figures of that model."""
    text = FLEET.replace("backend: simulated", "backend: simulated, profile: llama-3.1-70b")
    (small,) = compile_policy([("fleet.yaml", text)]).deployments
    assert small.step == profile_for("llama-3.1-70b", Tier.SMALL)


def test_replicas_are_deployments_of_one_group() -> None:
    """Three copies are three names in one group, each at its own address."""
    text = FLEET.replace(
        "backend: simulated", 'backend: openai_http, replicas: 3, url: "http://vllm-{replica}:8000/v1"'
    )
    copies = compile_policy([("fleet.yaml", text)]).deployments
    assert [c.name for c in copies] == ["small-0", "small-1", "small-2"]
    assert {c.group for c in copies} == {"small"}
    assert [c.address.url for c in copies] == [f"http://vllm-{i}:8000/v1" for i in range(3)]


def test_a_class_may_name_a_group_a_model_or_a_tier() -> None:
    """References hold for replicas under their group, and for whole tiers."""
    text = FLEET.replace("backend: simulated", "backend: simulated, replicas: 2")
    named = "class: {name: a, deployments: [small, small-1, llama-3.1-8b, large]}"
    policy = compile_policy([("fleet.yaml", text), ("a.yaml", named)])
    assert policy.classes[0].deployments == ("small", "small-1", "llama-3.1-8b", "large")


def test_replicas_cannot_take_the_name_of_another_deployment() -> None:
    """`small` with two replicas and a deployment called `small-1` are one name too many."""
    text = FLEET.replace("backend: simulated", "backend: simulated, replicas: 2")
    twin = "fleet: [{name: small-1, model: llama-3.1-8b, tier: small, backend: simulated}]"
    with pytest.raises(PolicyErrors, match=r"fleet\[0\].name: the name `small-1` is taken"):
        compile_policy([("a.yaml", text), ("b.yaml", twin)])


def test_lanes_have_the_price_of_the_model_times_their_factor() -> None:
    """The lane of a kind is its own; a flex lane at half the price costs half of what the model costs elsewhere."""
    text = """
fleet:
  - {name: now, model: llama-3.1-8b, tier: small, backend: simulated}
  - {name: flex, model: llama-3.1-8b, tier: small, backend: simulated, lane: flex, price_factor: 0.5}
  - {name: paid, model: llama-3.1-8b, tier: small, kind: provisioned, backend: simulated, hourly_usd: 20}
"""
    now, flex, paid, _ = compiled(text).deployments
    assert (now.lane, flex.lane, paid.lane) == (Lane.DEFAULT, Lane.FLEX, Lane.PROVISIONED)
    assert flex.price.input_usd_per_mtok == 0.5 * now.price.input_usd_per_mtok
    assert flex.price.output_usd_per_mtok == 0.5 * now.price.output_usd_per_mtok
    assert paid.quota is None, "not stated: it is learned"


def test_patience_is_none_unless_written() -> None:
    """A class keeps nobody waiting for a cheaper lane that does not say so."""
    assert compiled("class: {name: a}").classes[0].patience_s == 0.0
    assert compiled("class: {name: a, deadline: 10m, patience: 30s}").classes[0].patience_s == 30.0


def test_reserved_and_batch_capacity() -> None:
    """Tokens of reserved capacity are free once the hour is paid; a batch deployment has no steps."""
    text = """
fleet:
  - {name: pt, model: m, tier: large, kind: provisioned, backend: bedrock, target: units, region: eu-west-1,
     tokens_per_min: {input: 1000, output: 200}, hourly_usd: 20}
  - {name: scorer, model: s, tier: small, kind: batch, backend: simulated, batch_ms: {base: 30, per_item: 2},
     max_items: 128, price_usd_per_mtok: {input: 0.05, output: 0.05}}
"""
    pt, scorer, _ = compiled(text).deployments
    assert pt.price == Price(0.0, 0.0, hourly_usd=20.0)
    assert (pt.quota, pt.address.region) == (TokenQuota(1000.0, 200.0), "eu-west-1")
    assert (scorer.batch, scorer.step, scorer.max_items) == (BatchProfile(0.03, 0.002), None, 128)


def test_bounds_and_worth_arrive() -> None:
    """What the controller may tune, and what an answer is worth; silent, they are the policy's own defaults."""
    assert (compiled().bounds, compiled().usd_per_useful) == (Bounds(), 0.02)
    text = """
bounds: {limit_min: 2, limit_max: 9, queue_requests: 7, queue_wait: 1m, floor_price_max: 3, capacity_price_max: 4,
         batch_items_max: 5}
prices: {usd_per_useful: 0.5}
"""
    assert compiled(text).bounds == Bounds(2, 9, 7, 60.0, 3.0, 4.0, 5)
    assert compiled(text).usd_per_useful == 0.5


def test_the_fleet_may_come_from_elsewhere() -> None:
    """The simulator's fleet takes the place of the documents', and then needs only one of the names a class gives."""
    fleet = compiled().deployments
    policy = compile_policy([("a.yaml", "class: {name: a, deployments: [small, elsewhere]}")], deployments=fleet)
    assert policy.deployments == fleet
    with pytest.raises(PolicyErrors, match="is called `elsewhere`"):
        compile_policy([("a.yaml", "class: {name: a, deployments: [elsewhere]}")], deployments=fleet)


def test_the_digest_is_of_the_meaning() -> None:
    """Comments, spelling, key order and file names do not change it; a figure does."""
    one = compiled("# a comment\nclass: {name: a, deadline: 90s, priority: 1}").digest
    assert len(one) == 12
    assert compiled("class:\n  priority: 1\n  deadline: 1.5m\n  name: a").digest == one
    assert compiled("class: {name: a, deadline: 91s, priority: 1}").digest != one


def test_comments_alone_are_a_document() -> None:
    """A file may hold nothing but an explanation."""
    assert compiled("# nothing yet\n") == compiled()


@pytest.mark.parametrize("mode", ["live", "shadow"])
def test_the_steps_of_a_canary_may_wait_in_the_file(mode: str) -> None:
    """In an emergency one word is edited, not two lines."""
    assert one_class(f"class: {{name: a, rollout: {{mode: {mode}, percent: 5}}}}").rollout.mode == mode


@pytest.mark.parametrize("spelled", ["5", "5%", "5 %", "5.0"])
def test_percent_may_be_written_with_its_sign(spelled: str) -> None:
    """Five percent, however it is written."""
    assert one_class(f"class: {{name: a, rollout: {{mode: canary, percent: {spelled}}}}}").rollout.steps[0] == 0.05
