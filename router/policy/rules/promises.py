"""Rules for the objectives: error ratios and burn rates of every class, and two alerts for each promise."""

from __future__ import annotations

from collections.abc import Iterator

from router.domain.slo import Indicator, Objective, RequestClass
from router.policy.policy import Policy
from router.policy.rules.burn import PAGE, TICKET, WINDOWS_S, Step, every_window, steps, window_text
from router.policy.rules.rule import Alert, Group, Recording
from router.policy.schema.values import duration_text, ratio_text

BY = "(request_class, objective)"
_ALLOWED = f"(1 - max by {BY} (router_slo_target_ratio))"
_PENDING_S = {PAGE: 120.0, TICKET: 900.0}
FAST, SLOW = "RouterBudgetBurnsFast", "RouterBudgetBurnsSlowly"
NAMES = {PAGE: FAST, TICKET: SLOW}
_ASKS = {
    Indicator.TTFT: "the first token within {0}",
    Indicator.TPOT: "at most {0} between tokens",
    Indicator.E2E: "the last token within {0}",
    Indicator.AVAILABILITY: "an answer",
}


def promise_groups(policy: Policy) -> Iterator[Group]:
    """Recording rules for all, then one group of alerts for each class that promises something."""
    yield Group("router-slo-errors", tuple(_error_ratio(w) for w in WINDOWS_S))
    yield Group("router-slo-burn", tuple(_burn_rate(w) for w in WINDOWS_S))
    windows = every_window(o for c in policy.classes for o in c.objectives.each())
    yield Group("router-slo-budget", tuple(_remaining(w) for w in windows), interval_s=120.0)
    for c in policy.classes:
        if promised := c.objectives.each():
            yield Group(f"router-slo-{c.name}", tuple(_alert(c, o, s) for o in promised for s in (PAGE, TICKET)))
    yield Group("router-slo-rules", (_stale(policy), _below_floor()))


def burn_rate(window_s: float) -> str:
    """Name of the recorded burn rate over a window."""
    return f"router:slo_burn_rate:ratio_rate{window_text(window_s)}"


def _errors(window_s: float) -> str:
    return f"router:slo_errors:ratio_rate{window_text(window_s)}"


def _error_ratio(window_s: float) -> Recording:
    window = window_text(window_s)
    good = f"sum by {BY} (rate(router_slo_good_total[{window}]))"
    total = f"sum by {BY} (rate(router_slo_requests_total[{window}]))"
    return Recording(_errors(window_s), f"1 - {good}\n/ {total}")


def _burn_rate(window_s: float) -> Recording:
    return Recording(burn_rate(window_s), f"{_errors(window_s)}\n/ on {BY} {_ALLOWED}")


def _remaining(window_s: float) -> Recording:
    """What is left of the error budget; negative when it is overspent."""
    window = window_text(window_s)
    good = f"sum by {BY} (increase(router_slo_good_total[{window}]))"
    total = f"sum by {BY} (increase(router_slo_requests_total[{window}]))"
    return Recording(
        f"router:slo_error_budget_remaining:ratio{window}", f"1 - (1 - {good}\n/ {total})\n/ on {BY} {_ALLOWED}"
    )


def _alert(request_class: RequestClass, objective: Objective, severity: str) -> Alert:
    name, indicator = request_class.name, objective.indicator
    alerting = steps(objective, severity)
    pace = (
        "its {0} budget burns {{{{ $value | humanize }}}} times too fast"
        if severity == PAGE
        else "at this rate its {0} promise will not be kept"
    )
    promised = (
        f"{_ASKS[indicator].format(duration_text(objective.threshold_s))}, for {ratio_text(objective.target)} of the"
        f" requests over {duration_text(objective.window_s)}"
    )
    return Alert(
        NAMES[severity],
        "\nor ".join(_both(name, indicator, step) for step in alerting),
        severity,
        summary=f"{name}: {pace.format(indicator)}",
        description=f"Promised is {promised}. Fires at {'; or '.join(map(_told, alerting))}.",
        runbook=f"`router decisions --class {name} --last 50` shows what decides and which phase takes the time;"
        " `router policy history` what changed before.",
        pending_s=_PENDING_S[severity],
        labels=(("request_class", name), ("objective", indicator.value)),
    )


def _both(name: str, indicator: Indicator, step: Step) -> str:
    selected = f'{{request_class="{name}",objective="{indicator}"}}'
    long_one, short_one = (f"{burn_rate(s)}{selected} > {step.rate:g}" for s in (step.pair.long_s, step.pair.short_s))
    return f"({long_one}\n  and {short_one})"


def _told(step: Step) -> str:
    pair = step.pair
    return f"{step.rate:g} times the allowed share over {window_text(pair.long_s)} and {window_text(pair.short_s)}"


def _stale(policy: Policy) -> Alert:
    """The policy in force promises what these rules were not written for."""
    known = "\n  or ".join(_known(policy))
    promised = f"max by {BY} (router_slo_window_seconds)"
    return Alert(
        "RouterRulesStale",
        f"{promised}\nunless on {BY} (\n  {known})" if known else promised,
        TICKET,
        summary="{{ $labels.request_class }}: no alert watches its {{ $labels.objective }} promise",
        description="The policy in force promises what these rules were not written for.",
        runbook="`router policy rules DIRECTORY --out FILE` writes them anew; then reload Prometheus.",
        pending_s=600.0,
    )


def _known(policy: Policy) -> Iterator[str]:
    """The promises that these rules watch, by class and window."""
    for c in policy.classes:
        promised = c.objectives.each()
        for window_s in sorted({o.window_s for o in promised}):
            indicators = "|".join(o.indicator for o in promised if o.window_s == window_s)
            yield f'router_slo_window_seconds{{request_class="{c.name}",objective=~"{indicators}"}} == {window_s:.15g}'


def _below_floor() -> Alert:
    by = "(request_class)"
    return Alert(
        "RouterQualityBelowFloor",
        f"sum by {by} (rate(router_predicted_adequate_total[1h]))\n/ sum by {by} (rate(router_decisions_total[1h]))"
        f"\n< on {by} max by {by} (router_quality_floor_ratio)",
        TICKET,
        summary="{{ $labels.request_class }} is served below its quality floor, as far as is predicted",
        description="{{ $value | humanizePercentage }} of the answers of the last hour were expected to be adequate.",
        runbook="`router decisions --class {{ $labels.request_class }} --last 50` shows whether load, price or the"
        " fleet keeps better models out.",
        pending_s=1800.0,
    )
