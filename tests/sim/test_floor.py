"""The floor holds on what is served, also where the estimator comes to be wrong; the router says when it may not."""

from __future__ import annotations

from unittest.mock import patch

from bench.floor_shift import FLOOR, second_half, setting
from router.domain.drift import FloorAtRisk
from router.domain.events import Event
from router.sim.clock import run_virtual
from router.sim.run import Setting, World
from router.slo.floor import FloorPrice

REQUESTS = 3000


class Listening(World):
    """A run that keeps what it says of floors."""

    def __init__(self, what: Setting) -> None:
        super().__init__(what, None, None)
        self.risks: list[FloorAtRisk] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, FloorAtRisk):
            self.risks.append(event)
        super().emit(event)


def run(*, off: float, feedback: float = 0.0, novelty: float = 0.0, seed: int = 1) -> tuple[float, float, Listening]:
    """Share adequate and sent to large in the second half, and the run."""

    async def scene() -> Listening:
        world = Listening(setting(REQUESTS, off=off, feedback=feedback, novelty=novelty, seed=seed))
        await world.run()
        return world

    world = run_virtual(scene())
    return *second_half(world.served, REQUESTS), world


def test_a_tenth_of_verdicts_keeps_the_floor_under_an_over_confident_estimator() -> None:
    """From the middle on small is .1 less adequate than is said. With one answer in ten judged the floor is missed by
    less than .02; a price that goes by the estimates alone misses it by more, though beliefs learn."""
    adequate, large, _ = run(off=0.1, feedback=0.1)
    with patch.object(FloorPrice, "on_verdict", lambda *_: None):
        deaf, less, _ = run(off=0.1, feedback=0.1)
    assert adequate >= FLOOR - 0.02
    assert deaf < adequate - 0.01
    assert large > less


def test_without_feedback_quality_is_bought_for_novel_prompts_and_the_router_says_so() -> None:
    """Nobody tells that small has become .3 worse, but the prompts are novel: the floor holds, by buying large, and the
    class is told to be at risk, once."""
    adequate, large, world = run(off=0.3, novelty=0.4)
    untold, less, _ = run(off=0.3)
    assert adequate >= FLOOR
    assert untold < FLOOR - 0.05
    assert large > less + 0.1
    assert [(risk.request_class, risk.reason) for risk in world.risks] == [("all", "novel")]
    assert world.risks[0].low < world.risks[0].expected


def test_where_estimates_are_right_nothing_is_at_risk_and_nothing_is_overpaid() -> None:
    """Calibrated estimates and verdicts: the floor binds, and no more goes to large than without verdicts."""
    adequate, large, world = run(off=0.0, feedback=0.1)
    _, plain, _ = run(off=0.0)
    assert adequate >= FLOOR - 0.02
    assert abs(large - plain) < 0.08
    assert world.risks == []


def test_verdicts_that_say_less_are_told_as_a_risk() -> None:
    """Small fails from the middle on: before the price and the beliefs have caught up the router says so."""
    _, _, world = run(off=0.5, feedback=0.2)
    assert any(risk.reason in {"feedback", "fallen"} for risk in world.risks)
