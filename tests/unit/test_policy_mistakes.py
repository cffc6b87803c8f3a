"""What a policy author gets to read: one mistake, one message, at the place of the mistake."""

from __future__ import annotations

import pytest

from router.policy.compile import compile_policy
from tests.unit.policy_mistakes import FLEET, Mistake, problems_of, told_once

MISTAKES = {
    "unknown key at the top": Mistake("▸clases:\n  - name: a\n", "clases", "did you mean `classes`?"),
    "unknown field of a class": Mistake(
        "class:\n  name: a\n  ▸deadlin: 3s\n", "class.deadlin", "unknown field `deadlin`, did you mean `deadline`?"
    ),
    "unknown field deep down": Mistake(
        ("classes:\n  - name: a\n    objectives:\n      ttft: {threshold: 1s, ▸taget: 0.9}\n"),
        "classes[0].objectives.ttft.taget",
        "did you mean `target`?",
    ),
    "unknown indicator": Mistake(
        "class:\n  name: a\n  objectives:\n    ▸tftt: 1s\n", "class.objectives.tftt", "did you mean `ttft`?"
    ),
    "indicator of a list": Mistake(
        "class:\n  name: a\n  objectives:\n    - {indicator: ▸e2d, threshold: 1s}\n",
        "class.objectives[0].indicator",
        "`e2d` is not one of ttft, tpot, e2e, availability, did you mean `e2e`?",
    ),
    "unknown use case": Mistake(
        "class:\n  name: a\n  match:\n    use_cases: [chat, ▸sumarization]\n",
        "class.match.use_cases[1]",
        "no use case is called `sumarization`, did you mean `summarization`?",
    ),
    "missing name": Mistake("classes:\n  - ▸priority: 1\n", "classes[0]", "missing required field `name`"),
    "missing threshold": Mistake(
        "class:\n  name: a\n  objectives:\n    ttft: ▸{target: 0.9}\n",
        "class.objectives.ttft",
        "missing required field `threshold`",
    ),
    "availability with a threshold": Mistake(
        ("class:\n  name: a\n  objectives:\n    availability: {▸threshold: 1s, target: 0.9}\n"),
        "class.objectives.availability.threshold",
        "availability has no threshold",
    ),
    "an objective twice": Mistake(
        (
            "class:\n"
            "  name: a\n"
            "  objectives:\n"
            "    - {indicator: e2e, threshold: 1s}\n"
            "    - ▸{indicator: e2e, threshold: 2s}\n"
        ),
        "class.objectives[1]",
        "a second objective for e2e",
    ),
    "no unit of time": Mistake(
        "class:\n  name: a\n  deadline: ▸soon\n", "class.deadline", "expected a duration such as 500ms"
    ),
    "negative time": Mistake(
        "class:\n  name: a\n  deadline: ▸-1\n", "class.deadline", "expected a duration such as 500ms"
    ),
    "no time at all": Mistake("class:\n  name: a\n  deadline: ▸0\n", "class.deadline", "must be greater than 0"),
    "a share above one": Mistake("class:\n  name: a\n  floor: ▸90\n", "class.floor", "such as 0.9 or 90%"),
    "a promise without error budget": Mistake(
        "class:\n  name: a\n  objectives:\n    availability: ▸100%\n",
        "class.objectives.availability",
        "there must be an error budget",
    ),
    "another way of budgeting": Mistake(
        ("class:\n  name: a\n  objectives:\n    - {indicator: e2e, threshold: 1s, budgetingMethod: ▸Timeslices}\n"),
        "class.objectives[0].budgetingMethod",
        "`Timeslices` is not one of Occurrences",
    ),
    "two windows": Mistake(
        (
            "class:\n"
            "  name: a\n"
            "  objectives:\n"
            "    - {indicator: e2e, threshold: 1s, timeWindow: ▸[{duration: 1d}, {duration: 2d}]}\n"
        ),
        "class.objectives[0].timeWindow",
        "expected at most 1 in the list",
    ),
    "what under overload": Mistake(
        "class:\n  name: a\n  floor: {ratio: 0.9, under_overload: ▸shedd}\n",
        "class.floor.under_overload",
        "`shedd` is not one of shed, degrade, did you mean `shed`?",
    ),
    "text for a truth": Mistake(
        "class:\n  name: a\n  sheddable: ▸maybe\n", "class.sheddable", "expected true or false, got `maybe`"
    ),
    "text for a number": Mistake(
        "class:\n  name: a\n  priority: ▸high\n", "class.priority", "expected a whole number, got `high`"
    ),
    "a truth for text": Mistake(
        "class:\n  name: a\n  match:\n    tenants: [acme, ▸no]\n",
        "class.match.tenants[1]",
        "expected text, got false (quote it if it is text)",
    ),
    "a fraction for a count": Mistake(
        "class:\n  name: a\n  max_retries: ▸1.5\n", "class.max_retries", "expected a whole number, got the number 1.5"
    ),
    "temperature": Mistake(
        "class:\n  name: a\n  parameters: {temperature: ▸3}\n",
        "class.parameters.temperature",
        "must be less than or equal to 2",
    ),
    "a list for a mapping": Mistake("defaults: ▸[1]\n", "defaults", "expected a mapping, got a list"),
    "a word for a small mapping": Mistake(
        "class:\n  name: a\n  budget: ▸much\n",
        "class.budget",
        "expected a mapping of usd_per_request, mean_usd_per_request, usd_per_day, when_spent, got `much`",
    ),
    "a list for names with values": Mistake(
        "tenants: ▸[gold]\n", "tenants", "expected a mapping such as {name: value}, got a list"
    ),
    "a window without a unit": Mistake(
        "bounds: {window: ▸3}\n", "bounds.window", "3s is too long: every request of a crowd waits for it"
    ),
    "a mapping for a list": Mistake("classes:\n  ▸name: a\n", "classes", "expected a list, got a mapping"),
    "topic filter": Mistake(
        'class:\n  name: a\n  match: {topics: ▸"a/#/b"}\n', "class.match.topics", "`#` must be the last level"
    ),
    "token range upside down": Mistake(
        "class:\n  name: a\n  match:\n    input_tokens: ▸{min: 9, max: 1}\n",
        "class.match.input_tokens",
        "`min` is above `max`",
    ),
    "class name": Mistake("class:\n  name: ▸a b\n", "class.name", "a name is up to 63 letters"),
    "class called as a deployment": Mistake(
        "class:\n  name: ▸small\n", "class.name", "`small` cannot be a class: as `model` it already means something"
    ),
    "class twice": Mistake(
        "classes:\n  - {name: a, match: {tenants: x}}\n  - {name: ▸a}\n", "classes[1].name", "`a` is already in"
    ),
    "two classes over everything": Mistake(
        "classes:\n  - {name: a}\n  - ▸{name: b}\n", "classes[1]", "`b` matches everything, and so does `a`"
    ),
    "a default that picks": Mistake(
        "class:\n  name: default\n  ▸match: {tenants: x}\n", "class.match", "takes what no other class matches"
    ),
    "deployment that is not there": Mistake(
        "class:\n  name: a\n  deployments: [small, ▸lrage]\n",
        "class.deployments[1]",
        "no deployment, group, model or tier is called `lrage`, did you mean `large`?",
    ),
    "reference that is not there": Mistake(
        "class:\n  name: a\n  floor: {ratio: 0.9, reference: ▸llama-3.1-80b}\n",
        "class.floor.reference",
        "no deployment has the model `llama-3.1-80b`, did you mean `llama-3.1-8b`?",
    ),
    "bounds upside down": Mistake(
        "bounds: {limit_min: ▸9, limit_max: 2}\n", "bounds.limit_min", "`limit_min` is above `limit_max`"
    ),
    "deployment name taken": Mistake(
        ("deployments:\n  - {name: ▸small, model: llama-3.1-8b, tier: small, backend: simulated}\n"),
        "deployments[0].name",
        "the name `small` is taken",
    ),
    "no price": Mistake(
        ("deployments:\n  - ▸{name: x, model: llama-3.1-9b, tier: small, backend: simulated}\n"),
        "deployments[0]",
        "no price: give `price_usd_per_mtok` here, or {input, output} for `llama-3.1-9b` under `prices.models`",
    ),
    "price set twice": Mistake(
        "prices:\n  models:\n    ▸llama-3.1-8b: {input: 1, output: 1}\n",
        "prices.models.llama-3.1-8b",
        "already in another file",
    ),
    "backend": Mistake(
        "deployments:\n  - {name: x, model: m, tier: small, backend: ▸openai-http}\n",
        "deployments[0].backend",
        "did you mean `openai_http`?",
    ),
    "no address": Mistake(
        ("deployments:\n  - ▸{name: x, model: llama-3.1-8b, tier: small, backend: openai_http}\n"),
        "deployments[0]",
        "the backend openai_http needs `url`",
    ),
    "an address that means nothing": Mistake(
        ("deployments:\n  - {name: x, model: llama-3.1-8b, tier: small, backend: simulated, ▸url: http://h/v1}\n"),
        "deployments[0].url",
        "`url` means nothing to the backend simulated",
    ),
    "one address for two": Mistake(
        (
            "deployments:\n"
            "  - {name: x, model: llama-3.1-8b, tier: small, backend: openai_http, url: ▸http://h/v1, replicas: 2}\n"
        ),
        "deployments[0].url",
        "put `{replica}` where the number goes",
    ),
    "a key in the open": Mistake(
        (
            "deployments:\n"
            "  - {name: x, model: llama-3.1-8b, tier: small, backend: openai_http, url: http://h, ▸api_key: k}\n"
        ),
        "deployments[0].api_key",
        "did you mean `api_key_env`?",
    ),
    "a key for a name": Mistake(
        (
            "deployments:\n"
            "  - {name: x, model: m, tier: small, backend: openai_http, url: http://h, api_key_env: ▸sk-1234}\n"
        ),
        "deployments[0].api_key_env",
        "not the key itself",
    ),
    "reserved without a price": Mistake(
        ("deployments:\n  - ▸{name: x, model: m, tier: large, kind: provisioned, backend: simulated}\n"),
        "deployments[0]",
        "a provisioned deployment needs `hourly_usd`",
    ),
    "a factor on what is paid by the hour": Mistake(
        (
            "deployments:\n"
            "  - {name: x, model: m, tier: large, kind: provisioned, backend: simulated, hourly_usd: 20,\n"
            "     ▸price_factor: 0.5}\n"
        ),
        "deployments[0].price_factor",
        "`price_factor` means nothing to reserved capacity",
    ),
    "a lane of another kind": Mistake(
        ("deployments:\n  - {name: x, model: llama-3.1-8b, tier: small, backend: simulated, lane: ▸batch}\n"),
        "deployments[0].lane",
        "a continuous deployment is in the lane default: batch needs another `kind`",
    ),
    "a tier of a batch": Mistake(
        (
            "deployments:\n"
            "  - {name: x, model: llama-3.1-8b, tier: small, kind: batch, batch_ms: {base: 30, per_item: 2},\n"
            "     backend: simulated, lane: ▸flex}\n"
        ),
        "deployments[0].lane",
        "a batch deployment is in the lane batch: drop `lane`",
    ),
    "quota without reservation": Mistake(
        ("deployments:\n  - {name: x, model: llama-3.1-8b, tier: large, backend: simulated, ▸hourly_usd: 1}\n"),
        "deployments[0].hourly_usd",
        "`hourly_usd` is only for provisioned deployments",
    ),
    "profile": Mistake(
        ("deployments:\n  - {name: x, model: llama-3.1-8b, tier: small, backend: simulated, profile: ▸llama-3.1-7b}\n"),
        "deployments[0].profile",
        "no figures ship for `llama-3.1-7b`, did you mean `llama-3.1-70b`?",
    ),
    "infinite price": Mistake(
        "prices: {models: {m: {input: ▸.inf, output: 1}}}\n", "prices.models.m.input", "must be a finite number"
    ),
    "duplicate key": Mistake("bounds:\n  limit_min: 1\n  ▸limit_min: 2\n", "", "`limit_min` is here twice"),
    "tab": Mistake(
        "bounds:\n▸\tlimit_min: 1\n", "", "not YAML: this character cannot start a value: indent with spaces"
    ),
    "tab after a value": Mistake("bounds: {}\n▸\tprices: {}\n", "", "tabs"),
    "open bracket": Mistake("bounds: {limit_min: 1\nprices▸: {}\n", "", "not YAML"),
    "two colons": Mistake("bounds: a▸: b\n", "", "a second `: ` on the line"),
    "foreign tag": Mistake("bounds: ▸!!python/object:os.system {}\n", "", "is not allowed"),
    "alias to itself": Mistake("bounds: ▸&a {x: *a}\n", "", "refer to themselves"),
    "unknown alias": Mistake("bounds: ▸*nowhere\n", "", "alias"),
    "a number for a key": Mistake("bounds: {▸1: 2}\n", "", "a key must be text"),
    "a huge number": Mistake(f"bounds: {{limit_min: ▸{'9' * 5000}}}\n", "", "not a number that can be read"),
    "a control character": Mistake("bounds:\n  # ▸\x07\n  limit_min: 1\n", "", "character U+0007 is not allowed"),
    "nested without end": Mistake("[" * 24 + "▸" + "[" * 1000, "", "nested deeper than 24 levels"),
    "two documents": Mistake("bounds: {}\n▸---\nprices: {}\n", "", "one file holds one document"),
    "empty file": Mistake("▸ \n", "", "the file is empty"),
    "text for a document": Mistake("▸hello\n", "", "expected a mapping, got `hello`"),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_one_mistake_gives_one_message_at_its_place(mistake: Mistake) -> None:
    """File, line, column, path and a sentence that says what to write; and nothing else is complained about."""
    told_once(mistake)


def test_there_is_no_mistake_in_the_fleet_of_these_tests() -> None:
    """Each message above is about its own document."""
    assert len(compile_policy([("0.yaml", FLEET)]).deployments) == 2


def test_all_mistakes_of_all_files_are_told_at_once_in_reading_order() -> None:
    """An author with four mistakes needs one round, not four."""
    text = "class:\n  nam: a\n  floor: 90\n  deadline: soon\n"
    found = problems_of("bounds: {limit_min: 0}\n", text)
    places = [(p.file, p.line) for p in found]
    assert places == [("0.yaml", 1), ("1.yaml", 2), ("1.yaml", 2), ("1.yaml", 3), ("1.yaml", 4)]


def test_mistakes_across_fields_are_told_together() -> None:
    """What only shows once every file is read is collected too."""
    text = "classes:\n  - {name: a, deployments: nobody}\n  - {name: b, deployments: somebody}\n"
    assert [(p.line, p.column) for p in problems_of(FLEET, text)] == [(2, 28), (3, 5), (3, 28)]


def test_a_fleet_is_needed() -> None:
    """Without a deployment nothing can be served, and without a file there is nothing at all."""
    assert "no file has any `deployments`" in problems_of("bounds: {}\n")[0].problem
    assert "no file has any `deployments`" in problems_of()[0].problem


def test_what_stands_once_is_refused_twice() -> None:
    """`bounds`, `defaults` and the worth of an answer have one home."""
    text = "bounds: {}\ndefaults: {}\nprices: {usd_per_useful: 1}\n"
    found = problems_of(FLEET, text, text)
    assert [(p.file, p.line, p.column) for p in found] == [("2.yaml", 1, 1), ("2.yaml", 2, 1), ("2.yaml", 3, 10)]
    assert all("already set in 1.yaml" in p.problem for p in found)


def test_the_value_of_a_key_never_shows() -> None:
    """Someone who writes the key in place of its variable does not find it in the log as well."""
    mistake = MISTAKES["a key for a name"]
    assert "sk-1234" not in str(problems_of(FLEET, mistake.document())[0])


def test_an_alias_bomb_is_refused() -> None:
    """Nine levels of nine aliases would be hundreds of millions of nodes."""
    rows = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    rows += [f"{x}: &{x} [{', '.join([f'*{y}'] * 9)}]" for y, x in zip("abcdefgh", "bcdefghi", strict=True)]
    (problem,) = problems_of("\n".join(rows))
    assert "aliases" in problem.problem
