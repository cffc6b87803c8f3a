"""What outcomes teach, and how far it is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from router.domain.deployment import StepProfile
from router.domain.view import Load
from router.learning.latency import LatencyModel
from router.learning.length import LengthModel
from router.learning.quality import QualityModel
from router.stats.ewma import Ewma, Rate
from router.stats.least_squares import ScaledFit

PROFILE = StepProfile(0.0164, 0.00008, 0.000000023, 0.000065)
IDLE = Load(0, 0, 0, 0)
BUSY = Load(100, 5, 6000, 120_000)
PROFILE_STEP_S = 0.0164 + 0.00008 * 100 + 0.000000023 * 120_000
"""A step of `BUSY` that only decodes."""


def test_idle_server_takes_one_step_and_its_prompt() -> None:
    """TTFT of 1000 tokens on an idle server is one step with 1000 prompt tokens."""
    predicted = LatencyModel(PROFILE).predict(IDLE, 1000, 200.0, 0.0)
    assert predicted[0] == pytest.approx(0.0164 + 1000 * 0.000065)


def test_prompts_ahead_cost_their_steps() -> None:
    """A prompt behind 4 chunks of others waits for their steps too."""
    model = LatencyModel(PROFILE)
    behind = model.predict(Load(0, 3, 3 * 2048, 0), 2048, 200.0, 0.0)
    step = 0.0164 + 2048 * 0.000065
    assert behind[0] == pytest.approx(4 * step + 0.5 * step)


@pytest.mark.parametrize("load", [IDLE, BUSY])
def test_what_comes_before_the_first_token_is_added_once(load: Load) -> None:
    """50 ms of network are in the first token, whatever the load and however slow the server is, and in no gap."""
    for slow in (1.0, 3.0):
        near, far = models = LatencyModel(PROFILE), LatencyModel(replace(PROFILE, first_s=0.05))
        for model in models:
            for i in range(60):
                model.observe_gap(BUSY, 8 * slow * PROFILE_STEP_S, 8, 0, now=i * 0.05)
        (ttft, tpot), (ttft_far, tpot_far) = (model.predict(load, 1000, 200.0, 0.0) for model in models)
        assert ttft_far == pytest.approx(ttft + 0.05)
        assert tpot_far == tpot
        assert near.multiplier == far.multiplier == pytest.approx(slow, rel=0.15)


def test_prefill_of_others_slows_every_token() -> None:
    """With half of the time in prefill a token takes twice as long."""
    model = LatencyModel(PROFILE)
    alone = model.predict(BUSY, 100, 200.0, 0.0)
    shared = model.predict(BUSY, 100, 200.0, 0.5 / PROFILE.per_prefill_token_s)
    assert shared[1] == pytest.approx(2.0 * alone[1])


def test_multiplier_follows_a_slowdown_within_seconds() -> None:
    """Gaps of three times the expected length are believed within three seconds, and so is the recovery."""
    model = LatencyModel(PROFILE)
    step = model.step_s(100, 120_000)
    for i in range(60):
        model.observe_gap(BUSY, 8 * 3.0 * step, 8, 0, now=i * 0.05)
    assert model.multiplier == pytest.approx(3.0, rel=0.15)
    for i in range(60, 140):
        model.observe_gap(BUSY, 8 * step, 8, 0, now=i * 0.05)
    assert model.predict(BUSY, 100, 1.0, 0.0)[1] < 1.35 * step


def test_silence_counts_as_at_least_this_slow() -> None:
    """A call that should have answered long ago slows the prediction before it ever answers, and no more than that:
    what it has waited is compared with what was predicted for it then, not with what the silence has taught since."""
    model = LatencyModel(PROFILE)
    for i in range(40):
        model.observe_overdue(0.1, 0.4, 1.0, now=0.1 * i)
    assert model.multiplier == pytest.approx(4.0, rel=0.1)


def test_slowness_nobody_confirms_is_slowly_forgotten() -> None:
    """A deployment that traffic has left would otherwise stay slow for ever."""
    model = LatencyModel(PROFILE)
    for i in range(40):
        model.observe_overdue(0.1, 0.4, 1.0, now=0.1 * i)
    for i in range(600):
        model.relax(now=4.0 + 0.1 * i)
    assert model.multiplier < 1.1


def test_probability_falls_as_the_objective_tightens() -> None:
    """P(SLO) is half at the predicted median, near one far above, near zero far below."""
    model = LatencyModel(PROFILE)
    assert model.ttft.p_within(0.4, 0.4) == pytest.approx(0.5)
    assert model.ttft.p_within(0.1, 0.5) > 0.99
    assert model.ttft.p_within(0.5, 0.1) < 0.01
    assert model.ttft.p_within(0.1, -0.2) == 0.0


def test_latency_state_survives_a_restart() -> None:
    """A restored model predicts as the one that was saved."""
    model = LatencyModel(PROFILE)
    for i in range(640):
        load = Load(20 + i % 100, 0, 0, 1000 * (20 + i % 100))
        model.observe_gap(
            load, 8 * 1.5 * LatencyModel(PROFILE).step_s(load.sequences, load.context_tokens), 8, 0, now=i
        )
    again = LatencyModel(PROFILE)
    again.restore(model.state())
    assert again.step_s(50, 50_000) * model.multiplier == pytest.approx(model.step_s(50, 50_000))


def test_length_falls_back_from_class_to_model_to_prior() -> None:
    """The nearest evidence is used."""
    lengths = LengthModel()
    prior = lengths.expect("chat", "m", None)
    for i in range(200):
        lengths.observe("code", "m", 20, now=float(i))
    assert lengths.expect("code", "m", None) < 30
    assert lengths.expect("chat", "m", None) == lengths.expect("other", "m", None) < prior
    assert lengths.expect("chat", "unseen", None) == prior
    assert lengths.expect("chat", "unseen", 10) == 10


def test_feedback_moves_one_kind_of_prompt_more_than_the_others() -> None:
    """Failures at extraction move extraction far, other kinds of the same model a little, other models not at all."""
    quality = QualityModel()
    for _ in range(30):
        quality.observe(0.8, "small", "extraction", 0.0)
    extraction, low = quality.correct(0.8, "small", "extraction")
    other, _ = quality.correct(0.8, "small", "chat")
    assert extraction < 0.35
    assert low < extraction
    assert extraction < other < 0.8
    assert quality.correct(0.8, "large", "extraction")[0] == pytest.approx(0.8)


def test_evidence_never_lowers_the_bound_of_a_model_that_does_well() -> None:
    """The bound starts wide and closes in: good answers make a model safer to explore, not riskier."""
    quality = QualityModel()
    _, before = quality.correct(0.9, "small", "chat")
    for _ in range(5):
        quality.observe(0.9, "small", "chat", 1.0)
    p, after = quality.correct(0.9, "small", "chat")
    assert before < after < p


def test_the_estimators_own_doubt_lowers_the_bound() -> None:
    """What the estimator is unsure of, the router is unsure of."""
    quality = QualityModel()
    sure, unsure = quality.correct(0.9, "m", "chat", low=0.9), quality.correct(0.9, "m", "chat", low=0.5)
    assert sure[0] == unsure[0]
    assert unsure[1] < sure[1]


def test_forgetting_lets_a_changed_model_be_relearned() -> None:
    """After a thousand good answers, fifty bad ones still turn the estimate."""
    quality = QualityModel()
    for _ in range(1000):
        quality.observe(0.8, "small", "chat", 1.0)
    for _ in range(50):
        quality.observe(0.8, "small", "chat", 0.0)
    assert quality.correct(0.8, "small", "chat")[0] < 0.5


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.floats(0.0, 1.0)), max_size=200))
def test_quality_stays_a_probability(observations: list[tuple[float, float]]) -> None:
    """Whatever is fed back, the estimate stays inside (0, 1) and its bound below it."""
    quality = QualityModel()
    for estimate, adequate in observations:
        quality.observe(estimate, "m", "chat", adequate)
    p, low = quality.correct(0.5, "m", "chat")
    assert 0.0 < low <= p < 1.0


def test_ewma_forgets_by_time() -> None:
    """One half-life of silence halves the old evidence."""
    average = Ewma(10.0, mean=0.0, weight=8.0)
    average.update(0.0, now=0.0)
    average.update(1.0, now=10.0)
    assert average.mean == pytest.approx(1.0 / 5.5)


def test_rate_decays_while_nothing_comes() -> None:
    """Amount per second, and less later."""
    rate = Rate(5.0)
    for i in range(100):
        rate.add(10.0, now=i * 0.1)
    assert rate.at(10.0) == pytest.approx(100.0, rel=0.2)
    assert rate.at(20.0) < 0.2 * rate.at(10.0)


def test_fit_recovers_the_shape_and_stays_bounded() -> None:
    """Multipliers of 1.5 and .5 are found; absurd data only reaches the bound."""
    fit = ScaledFit(2, prior_weight=10.0, decay=0.999)
    for i in range(2000):
        a, b = 1.0, (i % 50) * 0.1
        fit.add((a, b), 1.5 * a + 0.5 * b)
    assert fit.solve().tolist() == pytest.approx([1.5, 0.5], rel=0.05)
    for _ in range(4000):
        fit.add((1.0, 1.0), 1000.0)
    assert max(fit.solve()) <= 4.0
