"""Which sampling parameters a class fills in: profiles, what overrides them, and what a deployment takes."""

from __future__ import annotations

from typing import Any

import pytest

from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Sampling, Tier
from router.domain.request import Prompt, Request, RequestId
from router.domain.slo import Ceiling, Parameters, RequestClass
from router.policy.compile import compile_policy
from router.policy.parse import PolicyErrors
from router.policy.policy import Policy
from router.policy.profiles import SHIPPED, filled_in, learns_ceiling, resolve

FLEET = """\
deployments:
  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated}
prices:
  models:
    llama-3.1-8b: {input: 0.22, output: 0.22}
"""


def policy_of(*documents: str) -> Policy:
    return compile_policy([("a-fleet.yaml", FLEET), *((f"b{i}.yaml", text) for i, text in enumerate(documents))])


def resolved(use_case: str, *documents: str) -> Parameters:
    """Of the first class, or of the default one."""
    policy = policy_of(*documents)
    return resolve(policy, policy.classes[0], use_case)


@pytest.mark.parametrize(
    ("name", "temperature", "top_p", "start"),
    [
        ("extraction", 0.0, 0.1, 256),
        ("classification", 0.0, 0.1, 256),
        ("summarization", 0.3, 0.5, 1024),
        ("creative", 0.8, 0.9, 4096),
        ("code", 0.2, 0.3, 4096),
        ("chat", 0.5, 0.7, 1024),
    ],
)
def test_six_profiles_ship(name: str, temperature: float, top_p: float, start: int) -> None:
    """Every policy has them, whatever its documents say."""
    assert dict(policy_of().profiles)[name] == Parameters(temperature, top_p, ceiling=Ceiling(start))
    assert len(SHIPPED) == 6


@pytest.mark.parametrize("said", ["profile: chat", "profile: chatbot"])
def test_a_class_names_its_profile(said: str) -> None:
    """Whatever the use case of the request; `chatbot` is another name of `chat`."""
    assert resolved("code", f"class: {{name: a, parameters: {{{said}}}}}") == SHIPPED["chat"]


def test_auto_is_the_profile_of_the_use_case() -> None:
    """And nothing where the use case has none."""
    automatic = "class: {name: a, parameters: {profile: auto}}"
    assert resolved("code", automatic) == SHIPPED["code"]
    assert resolved("creative", automatic) == SHIPPED["creative"]
    assert resolved("math", automatic) == Parameters()


def test_a_class_without_a_profile_fills_in_only_what_it_says() -> None:
    """No profile, and `none` over the profile of the defaults, are the same."""
    assert resolved("code", "class: {name: a, parameters: {top_k: 7}}") == Parameters(top_k=7)
    defaults = "defaults: {parameters: {profile: auto}}"
    assert resolved("code", defaults, "class: {name: a, parameters: {profile: none}}") == Parameters()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("temperature: 0.9", Parameters(0.9, 0.3, ceiling=Ceiling(4096))),
        ("temperature: 0", Parameters(0.0, 0.3, ceiling=Ceiling(4096))),
        ("top_p: 1.0, top_k: 40", Parameters(0.2, 1.0, 40, ceiling=Ceiling(4096))),
        ("max_tokens: 300", Parameters(0.2, 0.3, max_tokens=300)),
        ("max_tokens: short", Parameters(0.2, 0.3, ceiling=Ceiling(256))),
        ("max_tokens: {start: 100, max: 500}", Parameters(0.2, 0.3, ceiling=Ceiling(100, 16, 500))),
    ],
)
def test_what_a_class_says_itself_stands_over_its_profile_field_by_field(said: str, expected: Parameters) -> None:
    """A fixed or a learned bound of the class takes the place of the profile's, whichever that has."""
    assert resolved("code", f"class: {{name: a, parameters: {{profile: code, {said}}}}}") == expected


def test_a_fixed_bound_of_a_profile_gives_way_to_a_learned_one_of_the_class() -> None:
    """And the other way round."""
    fixed = "profiles: {terse: {max_tokens: 50}}"
    assert resolved("code", fixed, "class: {name: a, parameters: {profile: terse}}") == Parameters(max_tokens=50)
    learned = "class: {name: a, parameters: {profile: terse, max_tokens: long}}"
    assert resolved("code", fixed, learned) == Parameters(ceiling=Ceiling(4096))


def test_an_arm_that_fixes_the_bound_of_its_class_leaves_nothing_to_learn() -> None:
    """A class learns its bound, one arm of its experiment has a fixed one."""
    policy = policy_of("class: {name: a, parameters: {profile: code, max_tokens: long}}")
    (learns,) = (c for c in policy.classes if c.name == "a")
    arm = RequestClass("a", profile="code", parameters=Parameters(max_tokens=9, ceiling=learns.parameters.ceiling))
    assert resolve(policy, arm, "code") == Parameters(0.2, 0.3, max_tokens=9)


def test_parameters_of_a_class_stand_over_those_of_the_defaults_field_by_field() -> None:
    """A class that sets one parameter keeps the profile and the others of the defaults."""
    defaults = "defaults: {parameters: {profile: auto, top_k: 5}}"
    own = "class: {name: a, parameters: {temperature: 1.0}}"
    assert resolved("code", defaults, own) == Parameters(1.0, 0.3, 5, ceiling=Ceiling(4096))
    assert resolved("code", defaults) == Parameters(0.2, 0.3, 5, ceiling=Ceiling(4096))


@pytest.mark.parametrize("name", ["code", "chatbot", "mine"])
def test_a_written_profile_takes_the_place_of_the_shipped_one(name: str) -> None:
    """Whole, not field by field; one of another name stands beside them."""
    written = f"profiles: {{{name}: {{temperature: 0.4}}}}"
    assert resolved("x", written, f"class: {{name: a, parameters: {{profile: {name}}}}}") == Parameters(0.4)


def test_a_changed_profile_is_another_policy() -> None:
    """The digest covers what is filled in."""
    assert policy_of().digest != policy_of("profiles: {code: {temperature: 0.4}}").digest


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("class:\n  name: a\n  parameters: {profile: cod}", 3, "no parameter profile is called `cod`, did you mean"),
        ("defaults:\n  parameters: {profile: nothing}", 2, "there are: auto, chat, classification"),
        ("profiles:\n  auto: {top_p: 0.5}", 2, "`auto` cannot be a profile"),
        ("profiles:\n  none: {top_p: 0.5}", 2, "`none` cannot be a profile"),
        ("profiles:\n  chat: {top_p: 0.5}\n  chatbot: {top_p: 0.6}", 3, "the profile `chat` is already in b0.yaml"),
        ("class:\n  name: a\n  forced: smal", 3, "no deployment, group or model is called `smal`, did you mean"),
        ("class:\n  name: a\n  forced: large", 3, "no deployment, group or model is called `large`"),
        ("class:\n  name: a\n  fallback: [small, larg]", 3, "no deployment, group, model or tier is called `larg`"),
        ("class:\n  name: a\n  residency: [eu]", 3, "no deployment has the tag `eu`"),
        ("deployments:\n  - {name: x, model: llama-3.1-8b, tier: small, backend: simulated,\n"
         "     takes: [max_tokens, max_completion_tokens]}", 3, "two names of one bound"),
    ],
)  # fmt: skip
def test_a_name_that_is_not_there_is_told_where_it_stands(text: str, line: int, says: str) -> None:
    """One message, at the line of the mistake."""
    with pytest.raises(PolicyErrors) as caught:
        policy_of(text)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == ("b0.yaml", line)
    assert says in problem.problem


def test_an_arm_may_name_a_profile_only_if_there_is_one() -> None:
    """The message points at the arm."""
    arms = "arms: [{name: x, share: 0.5}, {name: y, share: 0.5, profile: cods}]"
    with pytest.raises(PolicyErrors, match=r"arms\[1\].profile: no parameter profile is called `cods`"):
        policy_of(f"class: {{name: a, rollout: {{mode: ab, {arms}}}}}")


@pytest.mark.parametrize(
    ("parameters", "learns"),
    [("{}", False), ("{profile: chat}", True), ("{profile: auto}", True), ("{profile: chat, max_tokens: 9}", False)],
)
def test_a_class_learns_a_ceiling_where_it_or_a_profile_says_so(parameters: str, learns: bool) -> None:
    """A fixed bound leaves nothing to learn."""
    policy = policy_of(f"class: {{name: a, parameters: {parameters}}}")
    assert learns_ceiling(policy, policy.classes[0]) is learns


def deployment(**fields: Any) -> Deployment:
    address, price = Address("openai_http", "x"), Price(1.0, 1.0)
    return Deployment(DeploymentName("d"), "d", "m", Tier.SMALL, Kind.CONTINUOUS, address, price, **fields)


def request(**fields: Any) -> Request:
    return Request(RequestId("r"), 0.0, 0.0, Prompt("hi"), input_tokens=fields.pop("input_tokens", 10), **fields)


EVERYTHING = Parameters(0.5, 0.7, 40, max_tokens=100)


def test_a_deployment_is_given_only_what_it_takes() -> None:
    """Unless it says otherwise a server is not given top_k, which OpenAI refuses; takes: [] means nothing."""
    usual = filled_in(EVERYTHING, request(), deployment(), 100)
    assert (usual.max_tokens, usual.temperature, usual.top_p, usual.top_k) == (100, 0.5, 0.7, None)
    whole = filled_in(EVERYTHING, request(), deployment(takes=frozenset(Sampling)), 100)
    assert (whole.max_tokens, whole.temperature, whole.top_p, whole.top_k) == (100, 0.5, 0.7, 40)
    nothing = filled_in(EVERYTHING, request(), deployment(takes=frozenset[Sampling]()), 100)
    assert (nothing.max_tokens, nothing.temperature, nothing.top_p, nothing.top_k) == (None, None, None, None)


def test_the_sender_bounds_its_own_answer() -> None:
    """Its max_tokens is in the payload already."""
    assert filled_in(EVERYTHING, request(max_tokens=5), deployment(), 5).max_tokens is None


@pytest.mark.parametrize(("prompt", "expected"), [(900, 100), (901, None)])
def test_a_bound_that_does_not_fit_beside_the_prompt_is_left_to_the_server(prompt: int, expected: int | None) -> None:
    """Servers refuse prompt and bound that pass the context window together, and stop at its end by themselves."""
    filled = filled_in(EVERYTHING, request(input_tokens=prompt), deployment(context_tokens=1000), 100)
    assert filled.max_tokens == expected


@pytest.mark.parametrize(
    ("backend", "takes"),
    [
        ("backend: openai_http, url: http://h/v1", {"temperature", "top_p", "max_tokens"}),
        ("backend: bedrock, target: m", {"temperature", "top_p", "top_k", "max_tokens"}),
        ("backend: openai_http, url: http://h/v1, takes: [top_k]", {"top_k"}),
        ("backend: openai_http, url: http://h/v1, takes: []", set[str]()),
    ],
)
def test_what_a_deployment_takes_by_its_backend(backend: str, takes: set[str]) -> None:
    """The operator's word stands over the rule."""
    text = f"deployments:\n  - {{name: x, model: llama-3.1-8b, tier: small, {backend}}}"
    found = {d.name: d.takes for d in policy_of(text).deployments}
    assert found[DeploymentName("x")] == takes


def test_hand_made_classes_need_no_profiles() -> None:
    """A policy without profiles fills in what its classes say."""
    own = Parameters(0.1)
    policy = Policy("p", (), ())
    assert resolve(policy, RequestClass("a", profile="auto", parameters=own), "code") == own
