"""What tells that the world has moved: streams of batch means, runs of residuals, and how far feedback reaches."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from router.learning.drift.reach import Reach
from router.learning.drift.residuals import Residual, Residuals, Run
from router.learning.drift.stream import BATCH, Features, Move, Stream
from router.learning.quality import QualityModel
from router.stats.normal import logit, sigmoid


def flow(
    features: Features, count: int, rng: Random, *, novelty: float = 0.1, complexity: float = 0.4, told: float = 0.0
) -> list[tuple[int, Move]]:
    """Requests around these figures: what moved, and after how many."""
    found = []
    for number in range(count):
        features.told += rng.random() < told
        tokens = int(rng.lognormvariate(6.0, 1.0))
        moves = features.add(rng.betavariate(2.0, 2.0 / novelty - 2.0), rng.gauss(complexity, 0.2), tokens)
        found += [(number, move) for move in moves or ()]
    return found


def test_a_steady_stream_raises_no_alarm() -> None:
    """Two hundred thousand requests that go on as they began."""
    assert flow(Features(), 200_000, Random(1), told=0.2) == []


@pytest.mark.parametrize(
    ("what", "change"), [("novelty", {"novelty": 0.3}), ("complexity", {"complexity": 0.6}), ("share", {"told": 0.6})]
)
def test_a_step_is_told_within_two_hundred_requests_with_its_size(what: str, change: dict[str, float]) -> None:
    """Old and new mean are near the truth, and the new one is the reference from then on."""
    features, rng = Features(), Random(2)
    before = {"novelty": 0.1, "complexity": 0.4, "told": 0.2}
    assert flow(features, 100 * BATCH, rng, **before) == []
    (number, move), *rest = flow(features, 200 * BATCH, rng, **(before | change))
    assert rest == []
    assert number < 200
    assert move.what == what
    (name, new) = next(iter(change.items()))
    assert (move.old, move.new) == pytest.approx((before[name], new), abs=0.12)


def test_tokens_are_told_as_tokens() -> None:
    """They are compared by their logarithm, so a few long prompts are no drift, but told in tokens."""
    features, rng = Features(), Random(3)
    for _ in range(50 * BATCH):
        assert not features.add(0.0, 0.4, 100)
    assert not features.add(0.0, 0.4, 100_000)
    moves = [move for _ in range(10 * BATCH) for move in features.add(0.0, 0.4, 400 + rng.randint(0, 1)) or ()]
    assert [(m.what, round(m.old, -1)) for m in moves] == [("input_tokens", 100.0)]
    assert 250.0 < moves[0].new < 500.0


def test_a_slow_move_is_followed_in_silence() -> None:
    """The reference goes along with what takes tens of thousands of requests."""
    stream, rng = Stream("complexity", least=0.01), Random(4)
    assert not any(stream.add(0.3 + 0.2 * step / 4000 + rng.gauss(0.0, 0.035)) for step in range(4000))


def answers(
    residuals: Residuals, count: int, rng: Random, error: Callable[[str], float], models: str = "ab"
) -> Run | None:
    for number in range(count):
        model = models[number % len(models)]
        e = rng.gauss(error(model), 1.0)
        run = residuals.add(Residual(0.9, 0.9 + 0.3 * e, e, model, f"class {number % 2}", "chat"))
        if run is not None and (len(models) == 1 or run.is_shared() is not None):
            return run
    return None


def test_steady_residuals_raise_hardly_an_alarm() -> None:
    """At most one in thirty thousand answers."""
    residuals, rng, alarms = Residuals(alarm=16.0), Random(5), 0
    for _ in range(30):
        alarms += answers(residuals, 1000, rng, lambda _: 0.0) is not None
    assert alarms <= 1


@pytest.mark.parametrize("way", [-1.0, 1.0])
def test_a_move_that_all_models_share_is_told_from_one_models(way: float) -> None:
    """In twenty runs each: what both models do is shared, what one does is not, but for at most one."""
    both, one = 0, 0
    for seed in range(20):
        run = answers(Residuals(alarm=16.0), 500, Random(seed), lambda _: way)
        assert run is not None
        assert (run.told > run.predicted) == (way > 0)
        both += run.is_shared() is True
        run = answers(Residuals(alarm=16.0), 500, Random(seed), lambda model: way * 1.5 * (model == "a"))
        one += run is not None and run.is_shared() is True
    assert both >= 19
    assert one <= 1


def test_a_move_of_one_model_alone_is_never_shared() -> None:
    """There is nothing to compare it with."""
    run = answers(Residuals(alarm=16.0), 500, Random(6), lambda _: -1.0, models="a")
    assert run is not None
    assert not run.is_shared()


def test_what_was_learned_reaches_prompts_as_novel_as_those_it_was_learned_on() -> None:
    """Within two mean deviations all of it counts; at full novelty beyond them nothing; and it follows."""
    reach, rng = Reach(), Random(7)
    for _ in range(100):
        reach.learn(rng.uniform(0.0, 0.2))
    assert reach.trust(0.15) == 1.0
    assert 0.0 < reach.trust(0.6) < 0.7
    assert reach.trust(1.0) == 0.0
    for _ in range(200):
        reach.learn(0.9)
    assert reach.trust(0.9) == 1.0


def taught(quality: float, count: int = 200, model: QualityModel | None = None, novelty: float = 0.05) -> QualityModel:
    model, rng = model or QualityModel(), Random(8)
    for _ in range(count):
        model.observe(0.9, "m", "chat", float(rng.random() < quality), novelty=novelty)
    return model


def test_a_novel_prompt_falls_back_to_the_prior() -> None:
    """Feedback on familiar prompts halves an estimate; on one never seen the like of, the estimate stands again, with
    a bound as wide as before any feedback. Feedback on such prompts is believed for them."""
    model = taught(0.5)
    familiar, _ = model.correct(0.9, "m", "chat", novelty=0.05)
    novel, low = model.correct(0.9, "m", "chat", novelty=1.0)
    assert familiar == pytest.approx(0.5, abs=0.1)
    assert (novel, low) == pytest.approx(QualityModel().correct(0.9, "m", "chat"))
    taught(0.5, 100, model, novelty=1.0)
    assert model.correct(0.9, "m", "chat", novelty=1.0)[0] == pytest.approx(0.5, abs=0.12)


def fallen() -> QualityModel:
    """A model known at 0.9 that answers nothing well any more."""
    model = taught(0.9)
    while not model.fallen:
        model.observe(0.9, "m", "chat", 0.0)
    return model


def test_a_fallen_models_lower_bound_stands_for_its_estimate() -> None:
    """And is about one standard deviation of a new model's belief lower than what is believed."""
    model = fallen()
    assert model.fallen == {"m"}
    p, low = model.correct(0.9, "m", "chat")
    assert p == low
    believed, _ = model.error(0.9, "m", "chat", 1.0)
    assert logit(believed) - logit(p) > 0.6
    assert model.correct(0.9, "other", "chat")[0] == pytest.approx(0.9)


def test_a_pardon_restores_what_was_believed_with_a_new_models_doubt() -> None:
    """The estimate is as before the fall, the bound is low, and a second fall is told twice as soon."""
    model = fallen()
    model.pardon("m")
    p, low = model.correct(0.9, "m", "chat")
    assert not model.fallen
    assert p == pytest.approx(0.9, abs=0.03)
    assert low < sigmoid(logit(p) - 0.6)
    again = next(n for n in range(1, 50) if model.observe(0.9, "m", "chat", 0.0) == "fell")
    known = taught(0.9)
    assert again < next(n for n in range(1, 50) if known.observe(0.9, "m", "chat", 0.0) == "fell")


def test_undoing_a_fall_leaves_no_trace_of_it() -> None:
    """The estimate and its bound are those before the first bad answer."""
    before, model = taught(0.9), fallen()
    model.undo()
    assert not model.fallen
    assert model.correct(0.9, "m", "new kind") == pytest.approx(before.correct(0.9, "m", "new kind"), abs=0.02)


def test_reopening_keeps_the_estimate_and_widens_its_bound() -> None:
    """For one use case, or for all."""
    for use_case in ("chat", None):
        model = taught(0.7)
        p, low = model.correct(0.9, "m", "chat")
        model.reopen(use_case)
        wide, lower = model.correct(0.9, "m", "chat")
        assert wide == pytest.approx(p)
        assert lower < low - 0.01
