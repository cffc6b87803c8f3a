"""What is done for a request besides routing it: the class's budget, the answer cache, shaping, learned ceilings.

Only classes that have a budget, a cache, a style or an input budget have these series. Budget figures are of the
running UTC day, so they fall at midnight: gauges, not counters.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from prometheus_client import CollectorRegistry

from router.core.judging.judging import accounts
from router.domain.events import BudgetChanged, BudgetObserved, CacheUsed, CeilingUpdate, RequestShaped
from router.domain.rollout import Arm
from router.domain.slo import BudgetPaced, RequestClass, Style
from router.policy.policy import Policy
from router.policy.profiles import learns_ceiling
from router.telemetry.labels import Vocabulary, Words
from router.telemetry.series import Counter, Gauge
from router.telemetry.sink import Handlers

CACHE_RESULTS = ("hit", "joined", "miss", "bypass")
INPUT_BUDGET, STYLE = "input_budget", "style"


class TreatmentMetrics:
    """Budgets, cache, shaped requests and output ceilings by class."""

    name = "metrics_treatment"

    def __init__(self, registry: CollectorRegistry, policy: Policy, vocabulary: Vocabulary) -> None:
        self._words, self._results, self._whats = vocabulary, Words(), Words()
        by_class = ("request_class",)
        self._spent = Gauge(registry, "router_budget_spent_usd", "Spent of the budget of the running day.", by_class)
        self._reserved = Gauge(registry, "router_budget_reserved_usd", "Held for calls under way.", by_class)
        self._limit = Gauge(registry, "router_budget_limit_usd", "Budget of a day.", by_class)
        self._open = Gauge(registry, "router_budget_open", "0 once the budget of the day is spent.", by_class)
        self._mean = Gauge(registry, "router_mean_cost_usd", "Mean cost of the requests that ended lately.", by_class)
        self._mean_limit = Gauge(registry, "router_mean_cost_budget_usd", "What the mean cost may be.", by_class)
        self._mean_saved = Gauge(
            registry, "router_mean_cost_saved_usd", "Saved of the mean budget; less than 0 is owed.", by_class
        )
        self._overruled = Gauge(
            registry, "router_mean_cost_overruled", "1 while the floor keeps the mean cost above its budget.", by_class
        )
        self._cache = Counter(
            registry, "router_cache_requests", "Requests of classes with a cache.", ("request_class", "result")
        )
        self._saved = Counter(registry, "router_cache_saved_usd", "What the answers given again had cost.", by_class)
        by_what = ("request_class", "what")
        self._shaped = Counter(registry, "router_shaped_requests", "Requests changed before they were sent.", by_what)
        self._cut = Counter(registry, "router_input_tokens_saved", "Prompt tokens not sent.", by_what)
        by_model = ("request_class", "model")
        self._ceiling = Gauge(registry, "router_output_ceiling_tokens", "Learned max_tokens in force.", by_model)
        self._truncated = Gauge(
            registry, "router_truncated_ratio", "Share of answers cut off when it last moved.", by_model
        )
        self._moves = Counter(
            registry, "router_output_ceiling_updates", "Moves of a learned max_tokens.", ("request_class", "direction")
        )
        self.create(policy)

    def create(self, policy: Policy) -> None:
        """Series at 0 for what each class has; a class without a budget any more has no budget series."""
        spending = (*policy.classes, *accounts(policy.classes))
        limited = {self._words.classes[c.name]: c for c in spending if c.budget.usd_per_day is not None}
        for gauge in (self._spent, self._reserved, self._limit, self._open):
            gauge.forget(lambda labels: labels[0] not in limited)
        for name, request_class in limited.items():
            self._limit.put((name,), request_class.budget.usd_per_day or 0.0)
            self._spent.create(((name,),))
            self._reserved.create(((name,),))
            self._open.begin((name,), 1.0)
        self._create_means(policy)
        for request_class in policy.classes:
            name = self._words.classes[request_class.name]
            if request_class.cache is not None:
                self._cache.create(product((name,), CACHE_RESULTS))
                self._saved.create(((name,),))
            if learns_ceiling(policy, request_class):
                self._moves.create(product((name,), ("up", "down")))
            whats = _shapes(request_class)
            self._shaped.create(product((name,), whats))
            self._cut.create(product((name,), whats))

    def _create_means(self, policy: Policy) -> None:
        means = {self._words.classes[c.name]: c.budget.mean_usd_per_request for c in policy.classes}
        paced = {name: usd for name, usd in means.items() if usd is not None}
        for gauge in (self._mean, self._mean_limit, self._mean_saved, self._overruled):
            gauge.forget(lambda labels: labels[0] not in paced)
            gauge.create((name,) for name in paced)
        for name, usd in paced.items():
            self._mean_limit.put((name,), usd)

    def resume(self, ceilings: Mapping[tuple[str, str], int]) -> None:
        """Show the ceilings (tokens by class and model) that were learned before anybody was told."""
        for (request_class, model), tokens in ceilings.items():
            self._ceiling.put((self._words.classes[request_class], self._words.models[model]), tokens)

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {
            BudgetObserved: self._on_budget,
            BudgetChanged: self._on_budget_changed,
            BudgetPaced: self._on_paced,
            CacheUsed: self._on_cache,
            RequestShaped: self._on_shaped,
            CeilingUpdate: self._on_ceiling,
        }

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_budget(self, event: BudgetObserved) -> None:
        key = (self._words.classes[event.request_class],)
        self._spent.put(key, event.spent_usd)
        self._reserved.put(key, event.reserved_usd)
        self._limit.put(key, event.limit_usd)

    def _on_budget_changed(self, event: BudgetChanged) -> None:
        key = (self._words.classes[event.request_class],)
        self._open.put(key, float(event.open))
        self._spent.put(key, event.spent_usd)
        self._limit.put(key, event.limit_usd)

    def _on_paced(self, event: BudgetPaced) -> None:
        key = (self._words.classes[event.request_class],)
        self._mean.put(key, event.mean_usd)
        self._mean_limit.put(key, event.limit_usd)
        self._mean_saved.put(key, event.saved_usd)
        self._overruled.put(key, float(event.floor_holds))

    def _on_cache(self, event: CacheUsed) -> None:
        name = self._words.classes[event.request_class]
        self._cache.add((name, self._results[event.result]))
        if event.saved_usd:
            self._saved.add((name,), event.saved_usd)

    def _on_shaped(self, event: RequestShaped) -> None:
        key = (self._words.classes[event.request_class], self._whats[event.what])
        self._shaped.add(key)
        self._cut.add(key, max(0, event.tokens_saved))

    def _on_ceiling(self, event: CeilingUpdate) -> None:
        if event.advised:
            return
        name = self._words.classes[event.request_class]
        key = (name, self._words.models[event.model])
        self._ceiling.put(key, event.new_tokens)
        self._truncated.put(key, event.truncated_ratio)
        self._moves.add((name, "up" if event.new_tokens > event.old_tokens else "down"))


def _shapes(request_class: RequestClass) -> list[str]:
    """What may be done to the requests of a class, or of an arm of it."""
    sides: tuple[RequestClass | Arm, ...] = (request_class, *request_class.rollout.arms)
    whats = []
    if any(side.input_budget_tokens is not None for side in sides):
        whats.append(INPUT_BUDGET)
    if any(side.style == Style.CONCISE for side in sides):
        whats.append(STYLE)
    return whats
