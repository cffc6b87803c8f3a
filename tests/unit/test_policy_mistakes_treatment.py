"""The same for parameters, money, caches, residency, fallbacks and rollouts: one mistake, one message, its place."""

from __future__ import annotations

import pytest

from router.policy.compile import compile_policy
from router.policy.parse import PolicyErrors
from tests.unit.policy_mistakes import FLEET, Mistake, told_once

ARMS = "      - {name: x, share: 0.5, temperature: 0}\n"

MISTAKES = {
    "a threshold without a unit": Mistake(
        "class:\n  name: a\n  objectives: {ttft: ▸350}\n",
        "class.objectives.ttft",
        "350 has no unit: write 350ms or 350s",
    ),
    "a share in the place of percent": Mistake(
        "class:\n  name: a\n  rollout: {mode: canary, percent: ▸0.05}\n",
        "class.rollout.percent",
        "expected percent such as 5 or 5%",
    ),
    "forced is not there": Mistake(
        "class:\n  name: a\n  forced: ▸smal\n",
        "class.forced",
        "no deployment, group or model is called `smal`, did you mean `small`?",
    ),
    "forced to two": Mistake("class:\n  name: a\n  forced: ▸[small, large]\n", "class.forced", "expected text"),
    "a fallback is not there": Mistake(
        "class:\n  name: a\n  fallback: [small, ▸larg]\n",
        "class.fallback[1]",
        "no deployment, group, model or tier is called `larg`, did you mean `large`?",
    ),
    "residency nobody has": Mistake(
        "class:\n  name: a\n  residency: [▸eu]\n", "class.residency[0]", "no deployment has the tag `eu`"
    ),
    "residency in the defaults": Mistake(
        "defaults:\n  residency: ▸eu\n", "defaults.residency", "no deployment has the tag `eu`"
    ),
    "an unknown profile": Mistake(
        "class:\n  name: a\n  parameters: {profile: ▸extration}\n",
        "class.parameters.profile",
        "no parameter profile is called `extration`, did you mean `extraction`?",
    ),
    "a profile that is a word": Mistake(
        "profiles:\n  ▸auto: {temperature: 0}\n", "profiles.auto", "`auto` cannot be a profile"
    ),
    "a field of a profile": Mistake(
        "profiles:\n  own: {▸temprature: 0}\n", "profiles.own.temprature", "did you mean `temperature`?"
    ),
    "top_p of nothing": Mistake(
        "class:\n  name: a\n  parameters: {top_p: ▸0}\n", "class.parameters.top_p", "must be greater than 0"
    ),
    "top_k": Mistake(
        "class:\n  name: a\n  parameters: {top_k: ▸0}\n", "class.parameters.top_k", "must be greater than or equal to 1"
    ),
    "a length word": Mistake(
        "class:\n  name: a\n  parameters: {max_tokens: ▸lnog}\n",
        "class.parameters.max_tokens",
        "`lnog` is not one of short, medium, long, did you mean `long`?",
    ),
    "a ceiling upside down": Mistake(
        "class:\n  name: a\n  parameters:\n    max_tokens: {start: short, ▸min: 900, max: 400}\n",
        "class.parameters.max_tokens.min",
        "`min` is above `max`, which is 400",
    ),
    "a start outside its bounds": Mistake(
        "class:\n  name: a\n  parameters:\n    max_tokens: {start: ▸9000, max: 4096}\n",
        "class.parameters.max_tokens.start",
        "learning starts between `min` and `max`: write 16 to 4096",
    ),
    "the ceiling of a profile": Mistake(
        "profiles:\n  own: {max_tokens: {▸min: 9, max: 2}}\n", "profiles.own.max_tokens.min", "`min` is above `max`"
    ),
    "a field of a ceiling": Mistake(
        "class:\n  name: a\n  parameters: {max_tokens: {▸headroom: 20%}}\n",
        "class.parameters.max_tokens.headroom",
        "unknown field `headroom`",
    ),
    "a style": Mistake(
        "class:\n  name: a\n  style: ▸consise\n",
        "class.style",
        "`consise` is not one of as_asked, concise, did you mean",
    ),
    "no input at all": Mistake(
        "class:\n  name: a\n  input_budget: ▸0\n", "class.input_budget", "greater than or equal"
    ),
    "a budget of nothing": Mistake(
        "class:\n  name: a\n  budget: {usd_per_day: ▸0}\n", "class.budget.usd_per_day", "must be greater than 0"
    ),
    "one request dearer than the day": Mistake(
        "class:\n  name: a\n  budget: {usd_per_day: 1, usd_per_request: ▸2}\n",
        "class.budget.usd_per_request",
        "one request may cost more than the 1 USD of a whole day",
    ),
    "what when nothing is spent": Mistake(
        "class:\n  name: a\n  budget: {▸when_spent: queue}\n", "class.budget.when_spent", "give `usd_per_day` too"
    ),
    "a mean above the most": Mistake(
        "class:\n  name: a\n  budget: {usd_per_request: 0.01, mean_usd_per_request: ▸0.02}\n",
        "class.budget.mean_usd_per_request",
        "a mean of 0.02 USD is never reached: `usd_per_request` allows 0.01 USD",
    ),
    "nothing is required": Mistake(
        "class:\n  name: a\n  rollout: {mode: canary, ▸require: {decisions: 500}}\n",
        "class.rollout.require",
        "it asks for nothing: give `quality_low`, `slo_low` or `usd_per_request`",
    ),
    "too short a log": Mistake(
        "class:\n  name: a\n  rollout: {mode: canary, require: {quality_low: 80%, decisions: ▸5}}\n",
        "class.rollout.require.decisions",
        "must be greater than or equal to 100",
    ),
    "what when it is spent": Mistake(
        "class:\n  name: a\n  budget: {usd_per_day: 1, when_spent: ▸cheap}\n",
        "class.budget.when_spent",
        "`cheap` is not one of reject, cheapest, queue, did you mean `cheapest`?",
    ),
    "a budget by the month": Mistake(
        "class:\n  name: a\n  budget: {▸usd_per_month: 9}\n", "class.budget.usd_per_month", "did you mean `usd_per_"
    ),
    "a cache for how long": Mistake(
        "class:\n  name: a\n  cache: ▸{when: always}\n", "class.cache", "missing required field `ttl`"
    ),
    "a cache when": Mistake(
        "class:\n  name: a\n  cache: {ttl: 1h, when: ▸allways}\n", "class.cache.when", "did you mean `always`?"
    ),
    "a cache of nothing": Mistake(
        "class:\n  name: a\n  cache: {ttl: 1h, max_entries: ▸0}\n",
        "class.cache.max_entries",
        "greater than or equal to 1",
    ),
    "a rollout mode": Mistake(
        "class:\n  name: a\n  rollout: {mode: ▸cannary}\n", "class.rollout.mode", "did you mean `canary`?"
    ),
    "percent and steps": Mistake(
        "class:\n  name: a\n  rollout: {mode: canary, ▸percent: 5, steps: [5, 50]}\n",
        "class.rollout.percent",
        "both say the first step",
    ),
    "steps of an experiment": Mistake(
        "class:\n  name: a\n  rollout:\n    mode: ab\n    ▸steps: [5, 50]\n    arms:\n" + ARMS + ARMS.replace("x", "y"),
        "class.rollout.steps",
        "`steps` is for a canary: write `mode: canary`",
    ),
    "percent without a mode": Mistake(
        "defaults:\n  rollout: {▸percent: 5}\n",
        "defaults.rollout.percent",
        "`percent` is for a canary: write `mode: canary`",
    ),
    "steps that fall": Mistake(
        "class:\n  name: a\n  rollout: {mode: canary, steps: [5, 50, ▸25]}\n",
        "class.rollout.steps[2]",
        "steps must rise, and 25 comes after 50",
    ),
    "steps that stand still": Mistake(
        "class:\n  name: a\n  rollout: {mode: canary, steps: [5, ▸5]}\n", "class.rollout.steps[1]", "5 comes after 5"
    ),
    "a step above everything": Mistake(
        "class:\n  name: a\n  rollout: {mode: canary, percent: ▸120}\n",
        "class.rollout.percent",
        "less than or equal to 100",
    ),
    "a single step above everything": Mistake(
        "class:\n  name: a\n  rollout: {mode: canary, steps: [▸500]}\n",
        "class.rollout.steps[0]",
        "less than or equal to",
    ),
    "a canary split": Mistake(
        "class:\n  name: a\n  rollout: {mode: canary, by: ▸user}\n",
        "class.rollout.by",
        "`user` is not one of request, t",
    ),
    "arms of no experiment": Mistake(
        "class:\n  name: a\n  rollout:\n    mode: canary\n    ▸arms:\n" + ARMS,
        "class.rollout.arms",
        "`arms` are only for `mode: ab`",
    ),
    "one arm": Mistake(
        "class:\n  name: a\n  rollout:\n    mode: ab\n    arms:\n      ▸- {name: x, share: 1}\n",
        "class.rollout.arms",
        "an experiment compares two `arms` or more",
    ),
    "no arm": Mistake(
        "class:\n  name: a\n  rollout: ▸{mode: ab}\n", "class.rollout", "an experiment compares two `arms` or more"
    ),
    "shares short of one": Mistake(
        "class:\n  name: a\n  rollout:\n    mode: ab\n    arms:\n      ▸- {name: y, share: 40%}\n" + ARMS,
        "class.rollout.arms",
        "the shares of the arms add up to 90%, not to 100%",
    ),
    "two arms of one name": Mistake(
        "class:\n  name: a\n  rollout:\n    mode: ab\n    arms:\n" + ARMS + "      - {name: ▸x, share: 0.5}\n",
        "class.rollout.arms[1].name",
        "a second arm called `x`",
    ),
    "an arm without a share": Mistake(
        "class:\n  name: a\n  rollout:\n    mode: ab\n    arms: [{name: x, share: 1}, {name: y, share: ▸0}]\n",
        "class.rollout.arms[1].share",
        "an arm without requests shows nothing",
    ),
    "the profile of an arm": Mistake(
        "class:\n  name: a\n  rollout:\n    mode: ab\n    arms:\n"
        + ARMS
        + "      - {name: y, share: 0.5, profile: ▸cod}\n",
        "class.rollout.arms[1].profile",
        "no parameter profile is called `cod`, did you mean `code`?",
    ),
    "the deployments of an arm": Mistake(
        "class:\n  name: a\n  rollout:\n    mode: ab\n    arms:\n"
        + ARMS
        + "      - {name: y, share: 0.5, deployments: [▸larg]}\n",
        "class.rollout.arms[1].deployments[0]",
        "is called `larg`, did you mean `large`?",
    ),
    "a model of itself": Mistake(
        "fleet: [{name: x, model: llama-3.1-8b, tier: small, backend: simulated, derived_from: ▸llama-3.1-8b}]\n",
        "fleet[0].derived_from",
        "a model is not derived from itself",
    ),
    "an optimization that is a number": Mistake(
        "deployments:\n  - {name: x, model: llama-3.1-8b, tier: small, backend: simulated, optimizations: [▸4]}\n",
        "deployments[0].optimizations[0]",
        "expected text, got the number 4",
    ),
    "a burn rate": Mistake(
        "class:\n  name: a\n  rollout: {mode: canary, fast_burn: ▸0.5}\n",
        "class.rollout.fast_burn",
        "must be greater than or equal to 1",
    ),
}

TAGGED = FLEET.replace("tier: small, ", "tier: small, tags: [eu], ").replace("tier: large, ", "tier: large, tags: us, ")
UNSERVED = {
    "nobody carries both tags": Mistake(
        "class:\n  name: a\n  residency: ▸[eu, us]\n",
        "class.residency",
        "nobody may serve: no deployment carries eu, us",
    ),
    "those listed are elsewhere": Mistake(
        "class:\n  name: a\n  deployments: [large]\n  residency: ▸eu\n",
        "class.residency",
        "nobody may serve: none of large carries the tags eu",
    ),
    "forced to where data may not go": Mistake(
        "defaults: {residency: eu}\nclass:\n  name: a\n  forced: ▸large\n",
        "class.forced",
        "nobody may serve: none of large carries the tags eu of `residency`",
    ),
    "an arm where data may not go": Mistake(
        "class:\n  name: a\n  residency: eu\n  rollout:\n    mode: ab\n"
        "    arms: [{name: x, share: 0.5}, {name: y, share: 0.5, deployments: ▸large}]\n",
        "class.rollout.arms[1].deployments",
        "nobody may serve: none of large carries the tags eu",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_one_mistake_gives_one_message_at_its_place(mistake: Mistake) -> None:
    """File, line, column, path and a sentence that says what to write; and nothing else is complained about."""
    told_once(mistake)


@pytest.mark.parametrize("mistake", UNSERVED.values(), ids=UNSERVED.keys())
def test_a_class_that_nobody_may_serve_is_told(mistake: Mistake) -> None:
    """Every name in it is known, and yet no deployment is left: told where the last condition stands."""
    told_once(mistake, TAGGED)


def test_shares_may_be_off_by_rounding() -> None:
    """Three thirds are a whole, however they are written."""
    arms = ", ".join(f"{{name: x{i}, share: 0.3333334, temperature: 0.{i}}}" for i in range(3))
    text = f"class: {{name: a, rollout: {{mode: ab, arms: [{arms}]}}}}"
    assert len(compile_policy([("0.yaml", FLEET), ("1.yaml", text)]).classes[0].rollout.arms) == 3


def test_another_fleet_need_not_hold_every_reference() -> None:
    """The simulator's fleet may lack a fallback and a reference, but somebody in it must be allowed to serve."""
    fleet = compile_policy([("0.yaml", FLEET)]).deployments
    text = "class: {name: a, fallback: [elsewhere], floor: {ratio: 0.9, reference: unknown}}"
    assert compile_policy([("1.yaml", text)], deployments=fleet).classes[0].fallback == ("elsewhere",)
    with pytest.raises(PolicyErrors, match="nobody may serve: no deployment is elsewhere"):
        compile_policy([("1.yaml", "class: {name: a, forced: elsewhere}")], deployments=fleet)
