"""Answers that a judge was asked about, what that cost, and how far the judges are from the senders. Only for classes
with a judge. Judging is no part of what requests cost: `router_spend_usd` leaves it out.
"""

from __future__ import annotations

from itertools import product

from prometheus_client import CollectorRegistry

from router.core.judging.judging import account_of
from router.domain.events import AnswerJudged, BudgetObserved, JudgeCompared
from router.policy.checks.judging import judges_of
from router.policy.policy import Policy
from router.telemetry.labels import Vocabulary, Words
from router.telemetry.series import Counter, Gauge
from router.telemetry.sink import Handlers

VERDICTS = ("adequate", "inadequate", "unreadable", "failed", "busy", "over_budget")
"""Those that any judge may come to; others show when they happen."""


class JudgingMetrics:
    """Drawn answers by class and what came of them, dollars, budgets, agreement."""

    name = "metrics_judging"

    def __init__(self, registry: CollectorRegistry, policy: Policy, vocabulary: Vocabulary) -> None:
        self._words, self._verdicts = vocabulary, Words()
        self._classes: dict[str, str] = {}
        self._answers = Counter(
            registry,
            "router_judge_answers",
            "Answers drawn to be judged, by what came of it.",
            ("request_class", "verdict"),
        )
        self._cost = Counter(
            registry, "router_judge_cost_usd", "Dollars paid for judging.", ("request_class", "deployment")
        )
        self._left = Gauge(
            registry, "router_judge_budget_left_usd", "Left today for judging, held for no call.", ("request_class",)
        )
        by_judge = ("deployment",)
        self._compared = Counter(registry, "router_judge_compared", "Answers that a sender told of too.", by_judge)
        self._difference = Gauge(
            registry, "router_judge_difference", "Mean quality by the judge less that by the sender.", by_judge
        )
        self._agreed = Gauge(
            registry, "router_judge_agreed_ratio", "Share on which judge and sender agree: adequate or not.", by_judge
        )
        self.create(policy)

    def create(self, policy: Policy) -> None:
        """Series at 0 for every class with a judge; a class that has none any more has no budget for it."""
        judges = {c.name: c.judge for c in policy.classes if c.judge is not None}
        self._classes = {account_of(name): self._words.classes[name] for name in judges}
        shown = set(self._classes.values())
        self._left.forget(lambda labels: labels[0] not in shown)
        for name, judge in judges.items():
            label = self._words.classes[name]
            self._answers.create(product((label,), VERDICTS))
            self._left.begin((label,), judge.usd_per_day)
            for deployment in judges_of(judge, policy.deployments):
                self._cost.create(((label, deployment.name),))
                self._compared.create(((deployment.name,),))

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {AnswerJudged: self._on_judged, JudgeCompared: self._on_compared, BudgetObserved: self._on_budget}

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_judged(self, event: AnswerJudged) -> None:
        name = self._words.classes[event.request_class]
        self._answers.add((name, self._verdicts[event.verdict]))
        if event.cost_usd:
            self._cost.add((name, self._words.deployments[event.judge]), event.cost_usd)

    def _on_compared(self, event: JudgeCompared) -> None:
        key = (self._words.deployments[event.judge],)
        self._compared.add(key)
        self._difference.put(key, event.mean_difference)
        self._agreed.put(key, event.agreed_ratio)

    def _on_budget(self, event: BudgetObserved) -> None:
        name = self._classes.get(event.request_class)
        if name is not None:
            self._left.put((name,), max(event.limit_usd - event.spent_usd - event.reserved_usd, 0.0))
