"""Budgets, cache, shaping and ceilings in figures; and how each shows in the log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from random import Random

import msgspec
import pytest
import structlog
from prometheus_client import CollectorRegistry

from bench.traffic import change_events, policy, request_events
from router.domain.events import (
    BudgetChanged,
    BudgetObserved,
    CacheUsed,
    CeilingUpdate,
    Event,
    PolicyApplied,
    PolicyRejected,
    PolicySource,
    RequestEnded,
    RequestShaped,
    RolloutChanged,
)
from router.policy.policy import Policy
from router.telemetry.logs import configure
from router.telemetry.metrics import Metrics
from router.telemetry.sink import Sink

POLICY = policy(classes=3, deployments=2)
FIRST, SECOND, THIRD = ({"request_class": f"class-{n}"} for n in range(3))


class Told:
    """Metrics behind a sink, with their values by name and labels."""

    def __init__(self, of: Policy = POLICY) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(of, self.registry)
        self.sink = Sink(self.metrics.subscribers)

    def tell(self, *events: Event) -> None:
        for event in events:
            self.sink.emit(event)
        self.sink.drain_all()
        assert not any(self.sink.failures.values()), self.sink.failures

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def logged(*events: Event, level: str = "info") -> list[dict[str, object]]:
    """The lines of these events."""
    stream = io.StringIO()
    sink = Sink((configure(stream, level=level),))
    for event in events:
        sink.emit(event)
    sink.drain_all()
    assert not sink.failures["logs"]
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_budget_shows_its_limit_before_anything_is_spent() -> None:
    """Limit, nothing spent, open; a class without a budget has no budget series."""
    told = Told()
    names = ("limit_usd", "spent_usd", "reserved_usd", "open")
    assert [told.value(f"router_budget_{name}", **FIRST) for name in names] == [10, 0, 0, 1]
    assert [told.value(f"router_budget_{name}", **SECOND) for name in names] == [None] * 4


def test_a_budget_shows_what_is_spent_held_and_gone() -> None:
    """Figures follow the ticks and the change; a limit that is edited shows before the next tick."""
    told = Told()
    told.tell(BudgetObserved("class-0", 4.5, 0.5, 10.0), BudgetChanged("class-0", False, 9.99, 10.0, "spent", 1.0))
    assert told.value("router_budget_open", **FIRST) == 0
    assert told.value("router_budget_spent_usd", **FIRST) == 9.99
    assert told.value("router_budget_reserved_usd", **FIRST) == 0.5
    first, *others = POLICY.classes
    raised = msgspec.structs.replace(first, budget=msgspec.structs.replace(first.budget, usd_per_day=20.0))
    told.metrics.adopt(msgspec.structs.replace(POLICY, classes=(raised, *others)))
    assert told.value("router_budget_limit_usd", **FIRST) == 20
    assert told.value("router_budget_spent_usd", **FIRST) == 9.99, "an edit spends nothing"
    told.metrics.adopt(msgspec.structs.replace(POLICY, classes=tuple(others)))
    assert told.value("router_budget_limit_usd", **FIRST) is None


def test_the_cache_shows_how_often_it_answers_and_what_it_saves() -> None:
    """Results and dollars for classes with a cache, from 0 on."""
    told = Told()
    assert told.value("router_cache_requests_total", **SECOND, result="bypass") == 0
    told.tell(CacheUsed("class-1", "hit", 0.25), CacheUsed("class-1", "joined", 0.5), CacheUsed("class-1", "miss"))
    assert told.value("router_cache_requests_total", **SECOND, result="hit") == 1
    assert told.value("router_cache_saved_usd_total", **SECOND) == 0.75
    assert told.value("router_cache_saved_usd_total", **THIRD) is None


def test_an_answer_from_the_cache_is_a_request_and_no_call_of_a_model() -> None:
    """It counts as answered by `cache`; the figures by model leave it out."""
    told = Told()
    event = next(e for e in request_events(1, Random(1), POLICY) if isinstance(e, RequestEnded))
    told.tell(msgspec.structs.replace(event, deployment="cache", tier="", cost_usd=0.0))
    labels = {"deployment": "cache", "tier": "none", "status": "completed", "code": "none"}
    assert told.value("router_requests_total", **SECOND, **labels) == 1
    assert told.value("router_spend_usd_total", **SECOND, deployment="cache") == 0
    samples = [s for f in told.registry.collect() for s in f.samples if s.name.startswith("gen_ai_server")]
    assert sum(s.value for s in samples) == 0


def test_shaped_requests_and_tokens_not_sent_are_counted() -> None:
    """By what was done; an instruction that makes the prompt longer saves nothing there."""
    told = Told()
    assert told.value("router_shaped_requests_total", **SECOND, what="style") == 0, "an arm asks for it"
    told.tell(RequestShaped("class-1", "input_budget", 300), RequestShaped("class-1", "style", -12))
    assert told.value("router_input_tokens_saved_total", **SECOND, what="input_budget") == 300
    assert told.value("router_input_tokens_saved_total", **SECOND, what="style") == 0
    assert told.value("router_shaped_requests_total", **SECOND, what="style") == 1


def test_a_ceiling_shows_where_it_is_and_how_many_are_cut() -> None:
    """By class and model, with the direction of each move."""
    told = Told()
    told.tell(
        CeilingUpdate("class-1", "model-0", 1024, 700, 0.001, "p97 of 300 answers is 580"),
        CeilingUpdate("class-1", "model-0", 700, 900, 0.04, "4 % are cut"),
    )
    key = {**SECOND, "model": "model-0"}
    assert told.value("router_output_ceiling_tokens", **key) == 900
    assert told.value("router_truncated_ratio", **key) == 0.04
    moves = [told.value("router_output_ceiling_updates_total", **SECOND, direction=d) for d in ("up", "down")]
    assert moves == [1, 1]


@pytest.mark.usefixtures("_restored")
def test_every_change_is_one_line_with_its_reason() -> None:
    """Edits with their source, rollouts, budgets and ceilings; a step back and an empty budget are warnings."""
    source = PolicySource("policies", ("classes/chat.yaml",), "0c0ffee", "Ada", edited=True)
    lines = logged(
        PolicyApplied("a", "b", ("classes[0].objectives",), 1.0, source),
        PolicyRejected("c", ("chat.yaml:3:1: unknown field",), 2.0, source),
        PolicyApplied("b", "d", (), 3.0),
        RolloutChanged("chat", "canary", 0.05, "v", "the class was edited", 4.0),
        RolloutChanged("chat", "rolled_back", 0.0, "v", "ttft burns 20 times too fast", 5.0),
        BudgetChanged("chat", False, 10.0, 10.0, "spent", 6.0),
        BudgetChanged("chat", True, 0.0, 10.0, "a new day", 7.0),
        CeilingUpdate("chat", "m", 1024, 700, 0.0, "p97"),
    )
    assert [(line["event"], line["level"]) for line in lines] == [
        ("policy_applied", "info"),
        ("policy_rejected", "error"),
        ("policy_applied", "info"),
        ("rollout_changed", "info"),
        ("rollout_changed", "warning"),
        ("budget_changed", "warning"),
        ("budget_changed", "info"),
        ("ceiling_updated", "info"),
    ]
    for line in lines[:2]:
        assert (line["changed"], line["commit"], line["author"]) == (["classes/chat.yaml"], "0c0ffee", "Ada")
        assert (line["directory"], line["edited"]) == ("policies", True)
    assert "commit" not in lines[2]
    assert lines[4]["reason"] == "ttft burns 20 times too fast"
    assert lines[0]["timestamp"] == "1970-01-01T00:00:01.000+00:00"


@pytest.mark.usefixtures("_restored")
def test_what_comes_with_every_request_or_tick_is_for_debugging() -> None:
    """Shadows, arms, budgets at a tick, cache and shaping have no line at info and one at debug."""
    events = tuple(change_events(1, POLICY))
    quiet = {"shadow_compared", "experiment_observed", "budget_observed", "cache_used", "request_shaped"}
    assert not quiet & {str(line["event"]) for line in logged(*events)}
    assert quiet <= {str(line["event"]) for line in logged(*events, level="debug")}


@pytest.mark.usefixtures("_restored")
def test_a_line_says_which_side_a_request_was_on() -> None:
    """Decision and end carry the arm, so that one side's requests can be found."""
    lines = {line["event"]: line for line in logged(*request_events(1, Random(1), POLICY))}
    assert lines["decision"]["arm"] == lines["request_ended"]["arm"] == "as-is"
