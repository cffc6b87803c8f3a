"""What the controller does about a drift, and whom it tells."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from random import Random

import pytest
import structlog
from prometheus_client import CollectorRegistry, generate_latest

from router.complexity.estimator import Scored
from router.core.controller import Controller
from router.core.evidence import Hold
from router.core.feedback import Feedback
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.drift import DriftDetected
from router.domain.events import JUDGE, SENDER
from router.domain.learned import Part
from router.domain.outcome import Ending, Outcome
from router.domain.request import Prompt, Request, RequestId
from router.domain.slo import RequestClass
from router.policy.policy import Policy
from router.telemetry.logs import configure
from router.telemetry.metrics import Metrics

MODELS = ("a", "b")
EXPECTED = {"a": 0.93, "b": 0.85}


class Even:
    """The same of every request, but for its novelty."""

    novelty = 0.0

    def estimate(self, request: Request) -> Scored:
        return Scored(0.2, "chat", EXPECTED, {Tier.SMALL: 0.5, Tier.LARGE: 0.9}, novelty=self.novelty)


def deployment(name: str) -> Deployment:
    return Deployment(
        name=DeploymentName(name),
        group=name,
        model=name,
        tier=Tier.LARGE,
        kind=Kind.CONTINUOUS,
        address=Address("simulated", name),
        price=Price(0.5, 0.5),
    )


POLICY = Policy("p", (RequestClass("chat"), RequestClass("mail")), tuple(map(deployment, MODELS)))


class House:
    """A controller that is asked for a model by name and told what came of it; a request a second."""

    def __init__(self) -> None:
        self.estimator, self.now, self.rng = Even(), 0.0, Random(1)
        self.controller = Controller(POLICY, self.estimator, rng=Random(0))
        self.feedback = Feedback(self.controller)
        self.told: list[DriftDetected] = []

    def serve(self, model: str | None = None, request_class: str = "chat") -> tuple[str, str, float]:
        """The decision's id, the model that answered, and what was expected of it."""
        self.now += 1.0
        request = Request(
            RequestId(str(self.now)), self.now, self.now, Prompt("hi"), 100, model=model, request_class=request_class
        )
        ticket = self.controller.admit(request, now=self.now)
        decision = self.controller.decide(ticket, now=self.now)
        assert not isinstance(decision, Hold)
        attempt, permit = self.controller.start(ticket, now=self.now)
        self.feedback.on_first_token(ticket, permit, now=self.now + 0.1)
        done = Outcome(attempt, Ending.COMPLETED, self.now + 0.1, self.now + 0.2, 100, 10, 0.001, finish_reason="stop")
        self.feedback.on_outcome(ticket, permit, done)
        expected = next(c.terms.p_adequate for c in decision.candidates if c.deployment == decision.chosen)
        return decision.id, str(decision.chosen), expected

    def tell(
        self, count: int, quality: dict[str, float], *, models: str = "ab", source: str = SENDER, classes: str = "chat"
    ) -> None:
        """So many requests to these models in turn, each told to be adequate as often as `quality` says."""
        names = classes.split()
        for number in range(count):
            model = models[number % len(models)]
            decision_id, _, _ = self.serve(model, names[number // len(models) % len(names)])
            adequate = float(self.rng.random() < quality[model])
            self.feedback.on_quality(decision_id, adequate, adequate=adequate, source=source)
            self.tick()

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        events = self.controller.tick(now=self.now, at=self.now)
        self.told += [event for event in events if isinstance(event, DriftDetected)]

    def expects(self, model: str) -> float:
        return self.serve(model)[2]

    def of(self, what: str) -> list[tuple[str, str]]:
        return [(e.subject, e.direction) for e in self.told if e.what == what]


@pytest.fixture
def house() -> House:
    """Both models known."""
    house = House()
    house.tell(300, EXPECTED)
    assert house.told == []
    return house


def fall(house: House) -> None:
    """Model `a` answers badly until that is told."""
    while not house.of("model"):
        house.tell(1, {"a": 0.3}, models="a")


def test_one_model_that_falls_is_told_and_no_longer_the_best(house: House) -> None:
    """Its estimate is its lower bound; the other one's belief has not moved; the event says what was done."""
    before = house.expects("b")
    assert house.serve()[1] == "a"
    fall(house)
    house.tell(20, EXPECTED, models="b")
    (event,) = house.told
    assert (event.kind, event.subject, event.direction) == ("residual", "a", "fell")
    assert event.old > 0.85 > event.new
    assert "lower bound" in event.done
    assert house.serve()[1] == "b"
    assert house.expects("a") < 0.8
    assert house.expects("b") == pytest.approx(before, abs=0.05)


def test_a_fallen_model_of_which_nothing_is_told_is_tried_again_and_later_each_time(house: House) -> None:
    """After 15 minutes, and after half an hour the second time: so it comes back where no class explores."""
    fall(house)
    for minutes in (15, 30):
        since = house.now
        while house.of("model")[-1] != ("a", "retried"):
            house.tick(10.0)
        assert house.now - since == pytest.approx(60.0 * minutes, abs=60.0)
        assert house.expects("a") > 0.85
        while house.of("model")[-1] != ("a", "fell"):
            house.tell(1, {"a": 0.3}, models="a")


def test_a_fallen_model_that_answers_well_again_rises(house: House) -> None:
    """And is expected to be what it was."""
    before = house.expects("a")
    fall(house)
    while len(house.of("model")) < 2:
        house.tell(1, EXPECTED, models="a")
    assert house.of("model") == [("a", "fell"), ("a", "rose")]
    assert house.expects("a") == pytest.approx(before, abs=0.05)


def test_when_all_models_fall_at_once_it_is_the_feedback(house: House) -> None:
    """What was learned from it is taken back and nothing more is learned, until it has stayed for 200 answers."""
    before = house.expects("a")
    bad = {"a": 0.4, "b": 0.4}
    while not house.told:
        house.tell(2, bad)
    house.tell(50, bad)
    assert house.of("model") == []
    assert house.of("quality") == [(SENDER, "down")]
    assert house.expects("a") == pytest.approx(before, abs=0.04)
    house.tell(300, bad)
    assert house.of("quality") == [(SENDER, "down"), (SENDER, "stayed")]
    assert house.expects("a") == pytest.approx(0.4, abs=0.15)


def test_a_freeze_ends_after_half_an_hour_and_forgets_nothing_where_it_passed(house: House) -> None:
    """However little is told meanwhile."""
    while not house.told:
        house.tell(2, {"a": 0.4, "b": 0.4})
    house.tick(1900.0)
    assert house.of("quality") == [(SENDER, "down"), (SENDER, "passed")]
    house.tell(50, EXPECTED)
    assert house.expects("a") > 0.85


def test_only_the_source_that_moved_is_frozen(house: House) -> None:
    """A judge that became strict is not learned from; the senders still are."""
    house.tell(120, EXPECTED, source=JUDGE)
    while not house.of("quality"):
        house.tell(2, {"a": 0.4, "b": 0.4}, source=JUDGE)
    assert not house.controller.qualities.fallen
    assert house.of("quality") == [(JUDGE, "down")]
    assert house.controller.drift.is_frozen(JUDGE)
    assert not house.controller.drift.is_frozen(SENDER)
    before = house.controller.qualities.observations
    house.tell(10, EXPECTED, source=JUDGE)
    assert house.controller.qualities.observations == before
    house.tell(10, EXPECTED)
    assert house.controller.qualities.observations == before + 10


def test_a_class_that_became_harder_for_all_models_is_told_as_the_class() -> None:
    """While another class is as ever, it is neither a model nor the feedback."""
    house = House()
    house.tell(400, EXPECTED, classes="chat mail")
    for _ in range(600):
        house.tell(2, {"a": 0.55, "b": 0.45}, classes="mail")
        house.tell(6, EXPECTED)
        if house.told:
            break
    assert [(e.kind, e.what, e.subject, e.direction) for e in house.told] == [("residual", "class", "mail", "down")]


def test_what_an_operator_froze_is_not_moved_by_a_drift(house: House) -> None:
    """Neither a fall nor a move of all is acted on."""
    house.controller.learning.freeze([Part.QUALITY])
    before = house.expects("a")
    house.tell(200, {"a": 0.1, "b": 0.1})
    assert house.expects("a") == before
    assert house.of("model") == house.of("quality") == []


def test_other_prompts_than_before_are_told_and_forget_nothing(house: House) -> None:
    """Novelty that steps up is a drift of the class's features; estimates of familiar prompts stay."""
    house.tell(600, EXPECTED)
    before = house.expects("a")
    house.estimator.novelty = 0.5
    for _ in range(200):
        house.serve()
    house.tick()
    assert ("chat", "up") in house.of("novelty")
    house.estimator.novelty = 0.0
    assert house.expects("a") == pytest.approx(before, abs=0.01)


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Where the log is written; logging is as before afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield io.StringIO()
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_a_drift_is_measured_and_logged(lines: io.StringIO) -> None:
    """Gauges for fallen models and frozen sources, counters by kind and class, one log line each."""
    metrics, log = Metrics(POLICY, registry := CollectorRegistry()), configure(lines)
    told = [
        DriftDetected("residual", "a", "model", "fell", 0.9, 0.7, "x", 1.0),
        DriftDetected("features", "chat", "novelty", "up", 0.1, 0.4, "x", 2.0),
        DriftDetected("feedback", SENDER, "quality", "down", 0.9, 0.6, "x", 3.0),
        DriftDetected("residual", "b", "model", "fell", 0.9, 0.7, "x", 4.0),
    ]
    for event in told:
        for subscriber in (*metrics.subscribers, log):
            if type(event) in (handlers := subscriber.handlers()):
                handlers[type(event)](event)
    log.flush()
    text = generate_latest(registry).decode()
    for series in (
        'router_drift_fallen{model="a"} 0.0',
        'router_drift_fallen{model="b"} 1.0',
        'router_drift_feedback_frozen{source="sender"} 1.0',
        'router_drift_feedback_frozen{source="judge"} 0.0',
        'router_drift_detections_total{direction="fell",kind="residual",what="model"} 2.0',
        'router_drift_classes_total{request_class="chat",what="novelty"} 1.0',
        'router_drift_classes_total{request_class="mail",what="novelty"} 0.0',
    ):
        assert series in text, series
    written = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [line["event"] for line in written] == ["drift_detected"] * 4
    assert written[0]["subject"] == "a"
