"""Objectives that stand in OpenSLO v1 documents: what is taken from them, and what is told where they cannot be."""

from __future__ import annotations

import pytest

from router.domain.slo import Indicator, Objective, Objectives
from router.policy.compile import compile_policy
from router.policy.policy import Policy
from tests.unit.policy_mistakes import FLEET, Mistake, problems_of, told_once

SLO = """\
apiVersion: openslo/v1
kind: SLO
metadata:
  name: chat-first-token
  labels: {team: [chat, platform]}
spec:
  service: router
  indicator:
    metadata: {name: ttft}
    spec: {thresholdMetric: {metricSource: {type: Prometheus, spec: {query: router_ttft_seconds}}}}
  timeWindow:
    - duration: 4w
      isRolling: true
  budgetingMethod: Occurrences
  objectives:
    - displayName: first token
      op: lte
      value: 0.5
      target: 0.95
"""
RATIO = """\
apiVersion: openslo/v1
kind: SLO
metadata: {name: answered}
spec:
  indicatorRef: good-over-total
  budgetingMethod: Occurrences
  objectives: [{targetPercent: 99.9}]
---
apiVersion: openslo/v1
kind: SLI
metadata: {name: good-over-total}
spec: {ratioMetric: {counter: true, good: {metricSource: {spec: {}}}, total: {metricSource: {spec: {}}}}}
---
apiVersion: openslo/v1
kind: AlertPolicy
metadata: {name: page}
spec: {conditions: [{conditionRef: anything}], alertWhenBreaching: true}
---
"""
CHAT = "class: {name: chat, objectives: {ttft: {slo: chat-first-token}}}"
FIRST_TOKEN = Objective(Indicator.TTFT, 0.5, 0.95, 28 * 86400.0)


def compiled(*texts: str) -> Policy:
    return compile_policy([(f"{i}.yaml", text) for i, text in enumerate((FLEET, *texts))])


def objectives(*texts: str) -> Objectives:
    return compiled(*texts).classes[0].objectives


def test_an_objective_may_stand_in_an_openslo_document() -> None:
    """Target, window and threshold come from the SLO, in the mapping and in the list form alike."""
    listed = "class: {name: chat, objectives: [{indicator: ttft, slo: chat-first-token}]}"
    assert objectives(CHAT, SLO) == objectives(listed, SLO) == Objectives(ttft=FIRST_TOKEN)


def test_it_means_the_same_as_the_objective_written_inline() -> None:
    """Where an objective stands is spelling: the policy's digest is one."""
    inline = "class: {name: chat, objectives: {ttft: {threshold: 500ms, target: 95%, timeWindow: 4w}}}"
    assert compiled(CHAT, SLO).digest == compiled(inline).digest


def test_the_defaults_may_refer_to_one_and_classes_inherit_it() -> None:
    """What a silent class gets from the defaults is the SLO, and a class that says otherwise keeps its own."""
    policy = compiled(
        "defaults: {objectives: {ttft: {slo: chat-first-token}}}",
        "classes: [{name: a, match: {tenants: x}}, {name: b, objectives: {ttft: 1s}}]",
        SLO,
    )
    assert [c.objectives.ttft for c in policy.classes] == [FIRST_TOKEN, Objective(Indicator.TTFT, 1.0)]


def test_other_objectives_of_the_class_stay_beside_it() -> None:
    """Both spellings mix."""
    text = "class: {name: a, objectives: [{indicator: ttft, slo: chat-first-token}, {indicator: e2e, threshold: 9s}]}"
    assert objectives(text, SLO) == Objectives(ttft=FIRST_TOKEN, e2e=Objective(Indicator.E2E, 9.0))


def test_a_ratio_gives_availability_its_target() -> None:
    """Several documents in a file, an SLI by reference, alert policies, an empty document at the end: all usual."""
    text = "class: {name: a, objectives: {availability: {slo: answered}}}"
    promised = objectives(text, RATIO).availability
    assert promised == Objective(Indicator.AVAILABILITY, 0.0, 0.999, 30 * 86400.0)


def test_a_ratio_may_take_its_threshold_from_the_class() -> None:
    """An SLO over good and total requests does not say what good is: the class may."""
    text = "class: {name: a, objectives: {e2e: {slo: answered, threshold: 20s}}}"
    assert objectives(text, RATIO).e2e == Objective(Indicator.E2E, 20.0, 0.999, 30 * 86400.0)


@pytest.mark.parametrize(
    "marked",
    [
        SLO.replace("  labels:", "  annotations: {router/unit: ms}\n  labels:"),
        SLO.replace("labels: {team: [chat, platform]}", "labels: {router/unit: ms}"),
        SLO.replace("metadata: {name: ttft}", "metadata: {name: ttft, annotations: {router/unit: ms}}"),
    ],
    ids=["annotation", "label", "indicator"],
)
def test_thresholds_are_seconds_unless_a_unit_is_given(marked: str) -> None:
    """OpenSLO has plain numbers; the annotation or label `router/unit` of the SLO or its indicator says of what."""
    found = objectives(CHAT, marked.replace("value: 0.5", "value: 500")).ttft
    assert found == FIRST_TOKEN


def test_documents_that_nobody_refers_to_are_left_in_peace() -> None:
    """An SLO of another system may be of any kind that the format knows."""
    other = SLO.replace("chat-first-token", "checkout").replace(
        "budgetingMethod: Occurrences", "budgetingMethod: Timeslices"
    )
    other = other.replace("isRolling: true", "calendar: {startTime: 2024-01-01 00:00:00, timeZone: UTC}")
    other = other.replace("duration: 4w", "duration: 1Q").replace("op: lte", "op: gte")
    assert compiled(CHAT, SLO, other).digest == compiled(CHAT, SLO).digest


def openslo(old: str, new: str, path: str, says: str) -> Mistake:
    assert SLO.count(old) == 1, old
    return Mistake(SLO.replace(old, new), path, says)


UNKEPT = {
    "timeslices": openslo(
        "budgetingMethod: Occurrences",
        "budgetingMethod: ▸Timeslices",
        "spec.budgetingMethod",
        "the router counts each request once: write Occurrences, Timeslices is not kept",
    ),
    "a calendar window": openslo(
        "isRolling: true",
        "▸calendar: {startTime: 2024-01-01 00:00:00, timeZone: UTC}",
        "spec.timeWindow[0].calendar",
        "the router keeps rolling windows only",
    ),
    "a window that does not roll": openslo(
        "isRolling: true", "isRolling: ▸false", "spec.timeWindow[0].isRolling", "rolling windows only: write true"
    ),
    "a month": openslo("duration: 4w", "duration: ▸1M", "spec.timeWindow[0].duration", "`1M` is not a fixed time"),
    "no time": openslo("duration: 4w", "duration: ▸0d", "spec.timeWindow[0].duration", "write more than 0"),
    "at least": openslo("op: lte", "op: ▸gte", "spec.objectives[0].op", "`gte` is not kept: a latency is good when"),
    "no comparison": openslo(
        "displayName: first token\n      op: lte\n      value",
        "▸value",
        "spec.objectives[0]",
        "missing `op`: a latency is good when it is at most the value",
    )._replace(text=SLO.replace("- displayName: first token\n      op: lte\n      value", "- ▸value")),
    "nothing at all": openslo("value: 0.5", "value: ▸0", "spec.objectives[0].value", "a threshold is above 0"),
    "no error can be made": openslo(
        "target: 0.95", "target: ▸0", "spec.objectives[0].target", "a target lies above 0 and below 100%"
    ),
    "two objectives": openslo(
        "target: 0.95\n",
        "target: 0.95\n    - ▸{op: lte, value: 1, target: 0.99}\n",
        "spec.objectives[1]",
        "must have one",
    ),
    "a unit": openslo(
        "labels: {team: [chat, platform]}",
        "annotations: {router/unit: ▸sec}",
        "metadata.annotations.router/unit",
        "`sec` is not a unit of time: write ms, s, m, h",
    ),
    "an SLI that is not there": Mistake(
        RATIO.replace("{name: answered}", "{name: chat-first-token}")
        .replace("indicatorRef: good-over-total", "indicatorRef: ▸good-over-totl")
        .replace("{targetPercent: 99.9}", "{targetPercent: 99.9, op: lte, value: 1}"),
        "spec.indicatorRef",
        "no SLI is called `good-over-totl`, did you mean `good-over-total`?",
    ),
}
MALFORMED = {
    "a version": openslo("openslo/v1", "▸openslo/v2", "apiVersion", "`openslo/v2` is not one of openslo/v1"),
    "a kind": openslo("kind: SLO", "kind: ▸SLOs", "kind", "did you mean `SLO`?"),
    "no name": openslo("name: chat-first-token\n  labels", "▸labels", "metadata", "missing required field `name`"),
    "a field": openslo(
        "budgetingMethod", "▸budgettingMethod", "spec.budgettingMethod", "did you mean `budgetingMethod`?"
    ),
    "a field deep down": openslo("value: 0.5", "▸vlaue: 0.5", "spec.objectives[0].vlaue", "did you mean `value`?"),
    "a percentage": openslo("target: 0.95", "target: ▸95", "spec.objectives[0].target", "must be less than 1"),
    "a unit in a number": openslo(
        "value: 0.5", "value: ▸500ms", "spec.objectives[0].value", "expected a number, got `500ms`"
    ),
    "no target": openslo("\n      target: 0.95", "", "spec.objectives[0]", "missing required field `target`")._replace(
        text=SLO.replace("- displayName", "- ▸displayName").replace("\n      target: 0.95", "")
    ),
    "two targets": openslo(
        "target: 0.95", "target: 0.95\n      ▸targetPercent: 95", "spec.objectives[0].targetPercent", "say the same"
    ),
    "a duration": openslo("duration: 4w", "duration: ▸soon", "spec.timeWindow[0].duration", "such as 30d or 4w"),
    "two windows": openslo(
        "  timeWindow:\n    -", "  timeWindow:\n    ▸- duration: 1d\n    -", "spec.timeWindow", "at most 1 in the list"
    ),
    "two indicators": openslo("service: router", "▸indicatorRef: x", "spec.indicatorRef", "say the same: keep one"),
    "no indicator": Mistake(
        RATIO.replace("  indicatorRef: good-over-total\n", "").replace("\nspec:", "\n▸spec:", 1),
        "spec",
        "missing required field `indicator`",
    ),
    "the same name again": Mistake(
        SLO + "---\n" + SLO.replace("chat-first-token", "▸chat-first-token"),
        "metadata.name",
        "the SLO `chat-first-token` is already in 1.yaml",
    ),
    "a policy in between": Mistake(SLO + "---\n▸bounds: {}\n", "", "this file holds OpenSLO documents"),
    "a key twice": openslo("service: router", "service: a\n  ▸service: b", "", "`service` is here twice"),
    "not YAML": Mistake(SLO + "---\na▸: b: c\n".replace("a▸: b: c", "a: b▸: c"), "", "a second `: ` on the line"),
}


@pytest.mark.parametrize("mistake", UNKEPT.values(), ids=UNKEPT.keys())
def test_an_slo_that_cannot_be_kept_is_told_in_its_own_file(mistake: Mistake) -> None:
    """A class refers to it: one message at the line of the SLO document that stands in the way."""
    told_once(mistake, FLEET, CHAT)


@pytest.mark.parametrize("mistake", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_openslo_document_is_told_in_its_own_file(mistake: Mistake) -> None:
    """Whoever refers to it: one message at the line of the mistake, with the words of the format."""
    told_once(mistake)


REFERENCES = {
    "not there": Mistake(
        "class: {name: a, objectives: {ttft: {slo: ▸chat-first-tokn}}}",
        "class.objectives.ttft.slo",
        "no SLO is called `chat-first-tokn`, did you mean `chat-first-token`?",
    ),
    "target said again": Mistake(
        "class: {name: a, objectives: {ttft: {slo: chat-first-token, ▸target: 99%}}}",
        "class.objectives.ttft.target",
        "`target` comes from the SLO `chat-first-token`: keep one",
    ),
    "threshold said again": Mistake(
        "class: {name: a, objectives: [{indicator: ttft, slo: chat-first-token, ▸threshold: 1s}]}",
        "class.objectives[0].threshold",
        "`threshold` comes from the SLO",
    ),
    "window said again": Mistake(
        "class: {name: a, objectives: {ttft: {slo: chat-first-token, ▸timeWindow: 30d}}}",
        "class.objectives.ttft.timeWindow",
        "`timeWindow` comes from the SLO",
    ),
    "no threshold anywhere": Mistake(
        "class: {name: a, objectives: {ttft: ▸{slo: answered}}}",
        "class.objectives.ttft",
        "the SLO `answered` compares with no `value`: give the `threshold` here, beside `slo`",
    ),
}


@pytest.mark.parametrize("mistake", REFERENCES.values(), ids=REFERENCES.keys())
def test_a_wrong_reference_is_told_where_it_stands(mistake: Mistake) -> None:
    """The message is at the objective of the class, and the SLO is left alone."""
    told_once(mistake, FLEET, SLO, RATIO)


def test_a_threshold_for_availability_is_told_at_the_slo() -> None:
    """What is answered is good, whenever: an SLO that compares cannot be meant."""
    text = "class: {name: a, objectives: {availability: {slo: chat-first-token}}}"
    (problem,) = problems_of(FLEET, text, SLO)
    assert (problem.file, problem.line, problem.path) == ("2.yaml", 18, "spec.objectives[0].value")


def test_an_slo_that_two_refer_to_is_told_once() -> None:
    """One mistake stays one message."""
    promise = "objectives: {ttft: {slo: chat-first-token}}"
    text = f"classes: [{{name: a, match: {{tenants: x}}, {promise}}}, {{name: b, {promise}}}]"
    assert len(problems_of(FLEET, text, SLO.replace("op: lte", "op: gt"))) == 1


def test_a_policy_of_two_documents_is_still_refused() -> None:
    """Only OpenSLO files may hold several; the message is at the line that divides them."""
    (problem,) = problems_of(FLEET, "bounds: {}\n\n--- # more\nprices: {}\n")
    assert (problem.line, problem.column) == (3, 1)
    assert "one file holds one document" in problem.problem
