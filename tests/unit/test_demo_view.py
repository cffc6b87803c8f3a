"""The demo's view: what events add up to, as a table, a line and a summary."""

from __future__ import annotations

import asyncio
from io import StringIO
from typing import Any

from rich.console import Console

from router.demo.view import View
from router.domain.decision import Candidate, Decision, DecisionId, Prices, Terms
from router.domain.deployment import DeploymentName
from router.domain.events import (
    BudgetObserved,
    DecisionMade,
    FeedbackReceived,
    HealthChanged,
    LoadObserved,
    QueueObserved,
    RequestEnded,
    RequestReceived,
    RequestRejected,
    RolloutChanged,
)
from router.domain.request import Prompt, Request, RequestId
from router.sim.clock import run_virtual

REQUEST = Request(id=RequestId("r"), arrived=0.0, at=0.0, prompt=Prompt("secret words"), input_tokens=10)
TERMS = Terms(
    p_slo=0.98,
    p_adequate=0.71,
    ttft_s=0.1,
    tpot_s=0.01,
    e2e_s=1.0,
    output_tokens=100,
    cost_usd=0.001,
    useful=0.7,
    floor=0.0,
    cost=0.0,
    capacity=0.0,
)


def ended(deployment: str, *, met: bool = True, status: str = "completed") -> RequestEnded:
    return RequestEnded(
        request=REQUEST,
        request_class="chat",
        decision_id="d",
        deployment=deployment,
        model=f"model-of-{deployment}",
        tier="small",
        status=status,
        code=None,
        attempts=1,
        ttft_s=0.1,
        tpot_s=0.01,
        e2e_s=1.0,
        queue_s=0.0,
        overhead_s=0.0,
        input_tokens=10,
        output_tokens=10,
        cost_usd=0.25,
        baseline_cost_usd=1.0,
        met=(("ttft", met),),
        slo_met=met,
        at=0.0,
    )


def decided() -> DecisionMade:
    name = DeploymentName("small")
    decision = Decision(
        id=DecisionId("d"),
        request_id="r",
        request_class="chat",
        tenant="t",
        at=0.0,
        now=0.0,
        policy="p",
        picker="utility",
        complexity=0.34,
        features=(),
        candidates=(Candidate(name, 0.7, TERMS, 0.9),),
        excluded=(),
        chosen=name,
        propensity=0.9,
        binding="least cost",
        prices=Prices(0.0, 0.0, {}),
        input_tokens=10,
    )
    return DecisionMade(decision)


def fed(**options: Any) -> tuple[View, StringIO]:
    out = StringIO()
    seconds = iter([0.0] + [36.0] * 100)
    view = View(Console(file=out, width=200, force_terminal=False), now=lambda: next(seconds), **options)
    for _ in range(5):
        view.on_event(RequestReceived(REQUEST, "chat"))
    for event in (
        ended("small"),
        ended("small", met=False),
        ended("large"),
        ended("large", status="failed", met=False),
        RequestRejected(REQUEST, "chat", "queue_full", "admission", 0.0),
        decided(),
        LoadObserved("small", 3, 8.0, 0, 0, 0.5, 1.0),
        QueueObserved(2, 0.1),
        FeedbackReceived("d", 1.0, True),
        FeedbackReceived("x", 1.0, False),
        HealthChanged("small", "ok", "open", "errors"),
    ):
        view.on_event(event)
    return view, out


def test_the_line_adds_up() -> None:
    """Five came: three answered, one shed, one failed; what was shed or failed did not meet its objectives."""
    line = fed()[0].line()
    assert "received 5, answered 3, shed 1, failed 1" in line
    assert "SLO met 40.0%" in line
    assert "small 67%, large 33%" in line
    assert "in flight 3, queued 2" in line


def test_spend_is_held_against_always_large() -> None:
    """Four attempts at .25 for answers that would have cost 1.00 each; reserved hours count as they pass."""
    assert "1.0000 USD, 33% of always-large (3.0000)" in fed()[0].line()
    assert "1.0300 USD, 34% of always-large (3.0000)" in fed(hourly_usd=3.0)[0].line()


def test_rollouts_and_budgets_are_on_the_line_where_there_are_any() -> None:
    """Where each rollout stands and what is spent of each budget; not a word where there is none."""
    view, _ = fed()
    assert "rollout" not in view.line()
    assert "budget" not in view.line()
    view.on_event(RolloutChanged("chat", "canary", 0.25, "v", "no objective burned", 0.0))
    view.on_event(RolloutChanged("mail", "rolled_back", 0.0, "v", "ttft burns", 0.0))
    view.on_event(BudgetObserved("mail", 1.25, 0.5, 5.0))
    view.on_event(BudgetObserved("mail", 1.5, 0.5, 5.0))
    assert view.line().endswith("; rollouts: chat canary at 25%, mail rolled back; budgets: mail 1.50 of 5.00 USD")


def test_the_summary_says_what_it_came_to() -> None:
    """Requests, objectives by class, shares, reasons, money and feedback that was of use."""
    summary = fed()[0].summary()
    for expected in (
        "5 requests in 36 s: 3 answered, 1 shed, 1 failed",
        "chat: 40.0% of 5",
        "answered by small: 67%",
        "shed as queue_full: 1",
        "feedback learned from: 1",
    ):
        assert expected in summary


def test_the_table_shows_decisions_with_their_reasons_and_no_prompt() -> None:
    """Deployment, limit, complexity, the binding constraint and its probabilities; never the words asked."""
    view, out = fed()
    Console(file=out, width=200).print(view.table())
    for expected in ("model-of-small", "least cost", "0.34", "0.98", "0.71", "0.90"):
        assert expected in out.getvalue()
    assert "secret" not in out.getvalue()


def test_nothing_yet_is_no_error() -> None:
    """Before the first event every view exists."""
    view = View(Console(file=StringIO()), now=lambda: 0.0)
    assert "received 0" in view.line()
    assert "0 requests" in view.summary()


def test_off_a_terminal_lines_are_printed() -> None:
    """Plain lines every two seconds, without control characters."""
    view, out = fed()

    async def main() -> None:
        showing = asyncio.create_task(view.run())
        await asyncio.sleep(5)
        showing.cancel()
        await asyncio.wait([showing])

    run_virtual(main())
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert all("received 5" in line and "\x1b" not in line for line in lines)


def test_on_a_terminal_the_table_is_live() -> None:
    """The table is drawn again while events come."""
    out = StringIO()
    view = View(Console(file=out, width=120, height=50, force_terminal=True), now=lambda: 0.0)

    async def main() -> None:
        showing = asyncio.create_task(view.run())
        await asyncio.sleep(1)
        view.on_event(ended("small"))
        await asyncio.sleep(1)
        showing.cancel()
        await asyncio.wait([showing])

    run_virtual(main())
    assert "model-of-small" in out.getvalue()
