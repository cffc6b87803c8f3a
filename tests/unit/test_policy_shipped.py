"""The policies that come with the router: sound, complete, and robust against a slip of the editor."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.domain.deployment import Kind, Tier
from router.domain.slo import (
    Ceiling,
    FloorUnderOverload,
    Goal,
    Indicator,
    Objective,
    Objectives,
    Parameters,
    QualityFloor,
    RequestClass,
)
from router.policy.compile import compile_policy
from router.policy.parse import PolicyErrors
from router.policy.profiles import resolve

POLICIES = Path(__file__).parents[2] / "policies"
SHIPPED = [(str(p.relative_to(POLICIES)), p.read_text("utf-8")) for p in sorted(POLICIES.glob("*.yaml"))]
SHIPPED += [(str(p.relative_to(POLICIES)), p.read_text("utf-8")) for p in sorted(POLICIES.glob("classes/*.yaml"))]


def test_the_shipped_policies_compile_and_cover_their_use_cases() -> None:
    """The default directory is sound, has the fleet of the demo, and a class for each use case that it names."""
    policy = compile_policy(SHIPPED)
    assert [(d.name, d.tier, d.kind) for d in policy.deployments] == [
        ("small", Tier.SMALL, Kind.CONTINUOUS),
        ("large", Tier.LARGE, Kind.CONTINUOUS),
        ("large-reserved", Tier.LARGE, Kind.PROVISIONED),
    ]
    assert all(d.address.backend == "simulated" for d in policy.deployments)
    names = [c.name for c in policy.classes]
    assert (names[0], names[-1]) == ("batch", "default")
    assert {"chat", "extraction", "classification", "summarization", "code", "creative"} < set(names)
    assert all(c.objectives.each() and c.floor is not None and c.deadline_s is not None for c in policy.classes)


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
def test_the_shipped_classes_have_the_parameters_of_their_use_case(
    name: str, temperature: float, top_p: float, start: int
) -> None:
    """Each use case has its sampling parameters and a learned ceiling; so has a request of it that waits in a batch."""
    policy = compile_policy(SHIPPED)
    classes = {c.name: c for c in policy.classes}
    for request_class in (classes[name], classes["batch"]):
        parameters = resolve(policy, request_class, name)
        assert (parameters.temperature, parameters.top_p) == (temperature, top_p)
        assert parameters.ceiling == Ceiling(start)
        assert parameters.max_tokens is None


def test_what_no_shipped_profile_knows_is_bounded_still() -> None:
    """Questions are sampled as a conversation; other use cases as the model likes; both have a learned ceiling."""
    policy = compile_policy(SHIPPED)
    classes = {c.name: c for c in policy.classes}
    assert resolve(policy, classes["chat"], "qa") == resolve(policy, classes["chat"], "chat")
    assert resolve(policy, classes["default"], "math") == Parameters(ceiling=Ceiling(1024))


@pytest.mark.parametrize(
    ("name", "floor", "goal"),
    [
        ("floor", FloorUnderOverload.SHED, Goal.USEFUL),
        ("degrade", FloorUnderOverload.DEGRADE, Goal.USEFUL),
        ("cost", FloorUnderOverload.SHED, Goal.COST),
    ],
)
def test_the_bench_policies_are_one_class_over_everything(name: str, floor: FloorUnderOverload, goal: Goal) -> None:
    """TTFT 500 ms, mean TPOT 50 ms, floor .90, sheddable, no deadline; they differ in what gives and what is sought."""
    text = (POLICIES / "bench" / name / "policy.yaml").read_text("utf-8")
    (only,) = compile_policy([("policy.yaml", text)], deployments=compile_policy(SHIPPED).deployments).classes
    assert only == RequestClass(
        name="all",
        objectives=Objectives(ttft=Objective(Indicator.TTFT, 0.5), tpot=Objective(Indicator.TPOT, 0.05)),
        floor=QualityFloor(0.90, None, floor),
        goal=goal,
        sheddable=True,
    )


LINES = [(i, j) for i, (_, text) in enumerate(SHIPPED) for j in range(len(text.splitlines()))]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(LINES), st.sampled_from(["drop", "twice", "indent", "cut"]))
def test_a_slip_in_a_shipped_file_gives_a_policy_or_located_errors(place: tuple[int, int], slip: str) -> None:
    """Dropping, doubling, indenting or cutting off any line never ends in another exception."""
    which, line = place
    documents = list(SHIPPED)
    name, text = documents[which]
    lines = text.splitlines(keepends=True)
    own = lines[line]
    lines[line] = {"drop": "", "twice": own + own, "indent": "  " + own, "cut": own[: len(own) // 2] + "\n"}[slip]
    documents[which] = name, "".join(lines)
    try:
        assert compile_policy(documents).digest
    except PolicyErrors as error:
        problems = error.problems
        assert {p.file for p in problems} <= {n for n, _ in SHIPPED}
