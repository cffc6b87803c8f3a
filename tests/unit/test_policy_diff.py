from __future__ import annotations

from router.policy.compile import compile_policy
from router.policy.diff import difference
from router.policy.policy import Policy

FLEET = """\
deployments:
  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated}
prices:
  models: {llama-3.1-8b: {input: 0.22, output: 0.22}}
"""
A = "{name: a, match: {tenants: x}}"


def policy(classes: str = f"[{A}]", rest: str = "", fleet: str = FLEET) -> Policy:
    return compile_policy([("fleet.yaml", fleet), ("rest.yaml", f"classes: {classes}\n{rest}")])


def changes(old: Policy, new: Policy) -> list[str]:
    return list(difference(old, new))


def test_the_same_meaning_has_no_difference() -> None:
    """Comments and spelling are not differences."""
    assert changes(policy(), policy(rest="# said otherwise\nbounds: {queue_wait: 1m}")) == []


def test_changed_promises_are_told_in_the_words_of_the_document() -> None:
    """An objective, a floor and a deadline, old and new, in the units people write."""
    old = policy("[{name: a, objectives: {ttft: 500ms}, floor: 90%}]")
    new = policy(
        "[{name: a, objectives: {ttft: 0.4, tpot: {threshold: 50ms, target: 95%, timeWindow: 7d}},"
        " floor: {ratio: 92%, reference: llama-3.1-8b, under_overload: degrade}, deadline: 90s}]"
    )
    assert changes(old, new) == [
        "class a: objectives.ttft <= 500ms for 99% over 30d -> <= 400ms for 99% over 30d",
        "class a: objectives.tpot none -> <= 50ms for 95% over 7d",
        "class a: floor 90% (shed) -> 92% of llama-3.1-8b (degrade)",
        "class a: deadline_s none -> 90s",
    ]


def test_classes_and_deployments_that_come_and_go() -> None:
    """One line each, by name."""
    more = FLEET.replace("prices:", "  - {name: spare, model: llama-3.1-8b, tier: small, backend: simulated}\nprices:")
    assert changes(policy(), policy("[{name: b, match: {tenants: x}}]", fleet=more)) == [
        "class a: removed",
        "class b: added",
        "deployment spare: added",
    ]


def test_order_matters_only_among_classes_that_stay() -> None:
    """Another order decides otherwise between two classes; a new class alone is not another order."""
    b = "{name: b, match: {tenants: y}}"
    assert changes(policy(f"[{A}, {b}]"), policy(f"[{b}, {A}]")) == [
        "classes are tried in another order: a, b, default -> b, a, default"
    ]
    assert changes(policy(f"[{A}]"), policy(f"[{b}, {A}]")) == ["class b: added"]


def test_prices_match_bounds_and_worth() -> None:
    """Figures carry their unit, lists their brackets."""
    new = policy(
        "[{name: a, match: {tenants: [x, z], attributes: {app: web}}, exploration: 2%}]",
        "bounds: {queue_wait: 30s, limit_max: 9}\nprices: {usd_per_useful: 0.05}",
        FLEET.replace("output: 0.22", "output: 0.3").replace("simulated", "simulated, tags: [eu, de]"),
    )
    assert changes(policy(), new) == [
        "class a: match.tenants [x] -> [x, z]",
        "class a: match.attributes [] -> [app=web]",
        "class a: exploration_ratio 0% -> 2%",
        "deployment small: price.output_usd_per_mtok 0.22 USD/Mtok -> 0.3 USD/Mtok",
        "deployment small: tags [] -> [de, eu]",
        "bounds: limit_max 1024 -> 9",
        "bounds: queue_wait_s 1m -> 30s",
        "a useful answer is worth: 0.02 USD -> 0.05 USD",
    ]


def test_a_profile_that_changes_is_told() -> None:
    """Profiles are part of what a policy means."""
    assert changes(policy(), policy(rest="profiles: {terse: {temperature: 0.1}}")) == ["profile terse: added"]
