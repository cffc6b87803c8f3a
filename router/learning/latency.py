"""How long will a deployment take to the first token, and from token to token?

A server with B sequences decoding, ctx context tokens and P prompt tokens in the step takes
`k * (a + b*B + c*ctx + e*P)` seconds a step (Sarathi-Serve's chunked prefill; constants from profiles). From that,

* TTFT: the prompt tokens ahead of us and our own go through in `ceil(Q / budget)` steps;
* TPOT: each decode step also carries the prompts of those who come after us, a share `u = k*e*rate` of all time,
  so a step lasts `k*(a + b*B + c*ctx) / (1 - u)`.

`k` follows slowdowns within seconds (from token gaps, first tokens, and from calls that *should* have answered by
now); the shape follows slowly. Residuals of the two predictions give their spread.
"""

from __future__ import annotations

import math

from router.domain.deployment import StepProfile
from router.domain.view import Load
from router.stats.ewma import Ewma
from router.stats.least_squares import ScaledFit
from router.stats.normal import below

_MULTIPLIER_HALF_LIFE_S = 1.5
_RESIDUAL_HALF_LIFE_S = 20.0
_SILENCE_S = 2.0
_RELAX_HALF_LIFE_S = 10.0
_TTFT_SIGMA = 0.25
_TPOT_SIGMA = 0.12
_MIN_SIGMA = 0.04
_REFIT_EVERY = 64
_BUSIEST_PREFILL = 0.85


class Predicted:
    """Median TTFT and TPOT in seconds, as of now, for one request on one deployment."""

    __slots__ = ("tpot_s", "ttft_s")

    def __init__(self, ttft_s: float, tpot_s: float) -> None:
        self.ttft_s = ttft_s
        self.tpot_s = tpot_s


class LatencyModel:
    """Latency of one deployment, learned online around a prior profile."""

    def __init__(self, prior: StepProfile) -> None:
        self.prior = prior
        self._fit = ScaledFit(4, prior_weight=200.0, decay=0.9995)
        self._a, self._b = prior.base_s, prior.per_sequence_s
        self._c, self._e = prior.per_context_token_s, prior.per_prefill_token_s
        self._budget = prior.step_token_budget
        self._log_k = Ewma(_MULTIPLIER_HALF_LIFE_S, mean=0.0, weight=4.0)
        self._ttft_residual = Ewma(_RESIDUAL_HALF_LIFE_S, mean=0.0, variance=_TTFT_SIGMA**2, weight=20.0)
        self._tpot_residual = Ewma(_RESIDUAL_HALF_LIFE_S, mean=0.0, variance=_TPOT_SIGMA**2, weight=20.0)
        self._k = 1.0
        self.last_observed: float | None = None
        self._relaxed = 0.0

    @property
    def multiplier(self) -> float:
        """How many times slower than its shape the deployment is at the moment."""
        return self._k

    @property
    def prefill_s_per_token(self) -> float:
        """Seconds that one prompt token adds to a step."""
        return self._k * self._e

    def step_s(self, sequences: float, context_tokens: float) -> float:
        """Seconds of a step that only decodes."""
        return self._k * (self._a + self._b * sequences + self._c * context_tokens)

    def work_s(self, input_tokens: float, output_tokens: float) -> float:
        """Server seconds that one request adds: its prompt, and its place in each of its decode steps."""
        context = input_tokens + 0.5 * output_tokens
        return self._k * (self._e * input_tokens + output_tokens * (self._b + self._c * context))

    def predict(self, load: Load, input_tokens: int, output_tokens: float, prefill_tokens_per_s: float) -> Predicted:
        """Median TTFT (from sending) and TPOT for a request of `input_tokens`, given what is in flight."""
        a, b, c, e, k = self._a, self._b, self._c, self._e, self._k
        sequences, context, waiting = load.sequences, load.context_tokens, load.waiting_tokens
        step = a + b * sequences + c * context
        room = max(self._budget - sequences, 64)
        tokens = waiting + input_tokens
        steps = -(-tokens // room)
        ttft = steps * step + e * tokens
        if sequences or waiting:
            ttft += 0.5 * (step + e * min(waiting, room))
        joined = sequences + load.waiting_sequences + 1
        context_then = context + tokens + 0.5 * output_tokens
        share = min(k * e * prefill_tokens_per_s, _BUSIEST_PREFILL)
        tpot = (a + b * joined + c * context_then) / (1.0 - share)
        return Predicted(k * ttft, k * tpot)

    def p_ttft(self, predicted_s: float, objective_s: float) -> float:
        """P(TTFT <= objective)."""
        return self._p(self._ttft_residual, predicted_s, objective_s)

    def p_tpot(self, predicted_s: float, objective_s: float) -> float:
        """P(TPOT <= objective)."""
        return self._p(self._tpot_residual, predicted_s, objective_s)

    @staticmethod
    def _p(residual: Ewma, predicted_s: float, objective_s: float) -> float:
        if objective_s <= 0.0:
            return 0.0
        mean = math.log(max(predicted_s, 1e-6)) + residual.mean
        return below(math.log(objective_s), mean, max(math.sqrt(residual.variance), _MIN_SIGMA))

    def observe_gap(self, load: Load, window_s: float, tokens: int, prefill_tokens: int, *, now: float) -> None:
        """One sequence gave `tokens` tokens in `window_s` while `load` was in flight and `prefill_tokens` prompt
        tokens of others went through: what the multiplier follows."""
        if window_s <= 0.0:
            return
        step = self._a + self._b * load.sequences + self._c * load.context_tokens
        self._follow(window_s / (tokens * step + self._e * prefill_tokens), now=now)
        base = self.prior
        x = (
            base.base_s * tokens,
            base.per_sequence_s * load.sequences * tokens,
            base.per_context_token_s * load.context_tokens * tokens,
            base.per_prefill_token_s * prefill_tokens,
        )
        self._fit.add(x, window_s)
        if self._fit.samples % _REFIT_EVERY == 0:
            self._reshape()

    def observe_first_token(self, predicted_s: float, observed_s: float, *, now: float) -> None:
        """A first token came `observed_s` after sending where `predicted_s` was expected."""
        self.last_observed = now
        if predicted_s <= 0.0 or observed_s <= 0.0:
            return
        self._ttft_residual.update(_bounded_log(observed_s / predicted_s), now=now)

    def observe_tpot(self, predicted_s: float, observed_s: float, *, now: float) -> None:
        """A call ended with this mean gap where `predicted_s` was expected."""
        self.last_observed = now
        if predicted_s <= 0.0 or observed_s <= 0.0:
            return
        self._tpot_residual.update(_bounded_log(observed_s / predicted_s), now=now)

    def observe_whole(self, predicted_s: float, observed_s: float, multiplier: float, *, now: float) -> None:
        """A call that did not stream took this long, where `predicted_s` was expected for its length under the
        `multiplier` of its decision."""
        if predicted_s > 0.0 and observed_s > 0.0:
            self._follow(multiplier * observed_s / predicted_s, now=now)

    def observe_overdue(self, predicted_s: float, waited_s: float, multiplier: float, *, now: float) -> None:
        """A call, predicted under `multiplier`, has waited longer and has still not answered: it takes at least this
        long."""
        if waited_s > predicted_s > 0.0:
            self._follow(max(multiplier * waited_s / predicted_s, self._k), now=now)

    def relax(self, *, now: float) -> None:
        """Called at every heartbeat: where nothing is observed the momentary slowness is slowly forgotten, so that a
        deployment that traffic has left is tried again."""
        last = self.last_observed
        if last is None or now - last < _SILENCE_S:
            self._relaxed = now
            return
        kept = 0.5 ** ((now - max(self._relaxed, last)) / _RELAX_HALF_LIFE_S)
        self._relaxed = now
        self._log_k.mean *= kept
        self._k = math.exp(self._log_k.mean)
        self._ttft_residual.mean *= kept
        self._tpot_residual.mean *= kept

    def _follow(self, ratio: float, *, now: float) -> None:
        self.last_observed = now
        self._log_k.update(_bounded_log(ratio), now=now)
        self._k = math.exp(self._log_k.mean)

    def _reshape(self) -> None:
        base, theta = self.prior, self._fit.solve().tolist()
        self._a, self._b = base.base_s * theta[0], base.per_sequence_s * theta[1]
        self._c, self._e = base.per_context_token_s * theta[2], base.per_prefill_token_s * theta[3]

    def state(self) -> dict[str, list[float]]:
        """What a checkpoint keeps: the shape and the spread, not the momentary multiplier."""
        spread = [
            self._ttft_residual.mean,
            self._ttft_residual.variance,
            self._tpot_residual.mean,
            self._tpot_residual.variance,
        ]
        return {**self._fit.state(), "spread": spread}

    def restore(self, state: dict[str, list[float]]) -> None:
        """Take up a checkpoint; raises `ValueError` or `KeyError` where it is not one."""
        ttft_mean, ttft_variance, tpot_mean, tpot_variance = state["spread"]
        self._fit.restore(state)
        self._reshape()
        for residual, mean, variance in (
            (self._ttft_residual, ttft_mean, ttft_variance),
            (self._tpot_residual, tpot_mean, tpot_variance),
        ):
            residual.mean = min(max(mean, -1.0), 1.0)
            residual.variance = min(max(variance, _MIN_SIGMA**2), 1.0)


def _bounded_log(ratio: float) -> float:
    return max(-2.5, min(2.5, math.log(ratio)))
